// Package arch keeps the shape of the repository: who may import whom, how large files and
// functions may be, what the two programs link, and what may lie at the top level.
//
// It has tests only. The rules are those of the house: where one turns out wrong, the rule and
// its test change in one commit that says why.
package arch
