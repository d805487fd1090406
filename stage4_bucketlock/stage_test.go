package main

import (
	"testing"

	"lockstep/common/stagetest"
)

func TestStage(t *testing.T) { stagetest.Run(t, serve) }
