//go:build !race

package stagetest

// looksStill is how often, once a second, the watch has to see no progress. The race
// detector makes programs slow.
const looksStill = 10
