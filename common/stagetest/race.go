//go:build race

package stagetest

const looksStill = 30
