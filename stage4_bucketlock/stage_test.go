package main

import (
	"testing"

	"lockstep/common/stagetest"
)

func TestMain(m *testing.M) { stagetest.Main(m, serve) }

func TestStage(t *testing.T) { stagetest.Run(t, serve) }

func TestGoals(t *testing.T) { stagetest.Goals(t, serve, 4) }
