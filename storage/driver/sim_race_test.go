//go:build race

package driver_test

const (
	// simDefault and zombieSeeds are fewer worlds where each takes five times as long.
	simDefault  = 6
	zombieSeeds = 4
	faultStep   = 5 // every fifth operation fails
	// faultStride and faultSample are a sample of about ten seconds.
	faultStride = 37
	faultSample = 40
)
