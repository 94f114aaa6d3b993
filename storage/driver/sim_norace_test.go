//go:build !race

package driver_test

// simDefault and zombieSeeds are what takes about a minute each.
const (
	simDefault  = 40
	zombieSeeds = 24
	faultStep   = 1 // every operation fails
)
