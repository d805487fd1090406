//go:build race

package stagetest

const raceDetector, looksStill = true, 30
