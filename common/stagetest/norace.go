//go:build !race

package stagetest

// raceDetector is whether the tests were built with it. looksStill is how often, once a
// second, the watch has to see no progress: the race detector makes programs slow.
const raceDetector, looksStill = false, 10
