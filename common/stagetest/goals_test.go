package stagetest

import "testing"

// Each stage is handed in as a stage 4. It must miss exactly the goals of the stages after
// it, and say why; that it passes the others, its own TestGoals says.
var unfinished = []mutant{
	{"stage 3", "stage3_threadpool/stage_test.go", "serve, 3)", "serve, 4)", "./stage3_threadpool -run TestGoals/Keys",
		"do all keys share a lock"},
	{"stage 2", "stage2_coarselock/stage_test.go", "serve, 2)", "serve, 4)", "-failfast=false ./stage2_coarselock -run TestGoals",
		"(?s)none was answered Busy.*do all keys share a lock"},
	{"stage 1", "stage1_singlethread/stage_test.go", "serve, 1)", "serve, 4)", "-failfast=false ./stage1_singlethread -run TestGoals",
		"(?s)a silent client keeps another one waiting.*while they are written.*none was answered Busy.*is a job a whole connection.*do all keys share a lock"},
}

func TestUnfinishedStages(t *testing.T) { try(t, unfinished, 1, mutant.caught) }
