//go:build race

package stagetest

const raceDetector, looksStill, manyWorkers, manyBuckets = true, 30, 500, 1000
