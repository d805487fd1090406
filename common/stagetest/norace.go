//go:build !race

package stagetest

// raceDetector is whether the tests were built with it. It makes programs slow. looksStill is how
// often, once a second, the watch has to see no progress. manyWorkers and manyBuckets stand for
// the greatest numbers of them.
const raceDetector, looksStill, manyWorkers, manyBuckets = false, 10, 4096, 10_000
