//go:build !race

package driver_test

const (
	// simDefault and zombieSeeds are what takes about a minute each.
	simDefault  = 40
	zombieSeeds = 24
	faultStep   = 1 // every operation fails
	// faultStride leaves out no fault, and faultSample takes ten seconds.
	faultStride = 1
	faultSample = 300
)
