//go:build race

package s3_test

// raceFactor is how much less is tried under the race detector.
const raceFactor = 12
