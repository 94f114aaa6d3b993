// Package scenario has the stories that the monitor is judged by, as tests: for each rule of its
// catalogue one in which something happens that the rule is for, and one in which nearly the same
// happens and it must be silent; the incidents that the catalogue was made after; and a month in which
// twenty projects do nothing but what they always do.
//
// Each story writes logs with package mint, at times of its own, and has the monitor of a configuration
// file read them, as "tallywood monitor check" would: what is tested is the configuration, the wiring,
// the rules and the delivery together.
package scenario
