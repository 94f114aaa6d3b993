//go:build race

package driver_test

// simDefault and zombieSeeds are fewer worlds where each takes five times as long.
const (
	simDefault  = 6
	zombieSeeds = 4
	faultStep   = 5 // every fifth operation fails
)
