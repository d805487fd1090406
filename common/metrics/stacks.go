package metrics

import (
	"runtime"
	"strings"
)

// Stacks returns the stacks of the goroutines in which one of these words occurs, such
// as the name of a package with a dot behind it.
func Stacks(words ...string) (found []string) {
	all := make([]byte, 1<<20)
	all = all[:runtime.Stack(all, true)]
	for stack := range strings.SplitSeq(string(all), "\n\n") {
		for _, word := range words {
			if strings.Contains(stack, word) {
				found = append(found, strings.TrimSpace(stack))
				break
			}
		}
	}
	return found
}
