package main

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"lockstep/bench/notes"
)

// unparsed returns the commands in a text that bench refuses.
func unparsed(text string) (found []string) {
	for _, m := range regexp.MustCompile("go run \\./bench([^`\\n|<>&;]*)").FindAllStringSubmatch(text, -1) {
		args := notes.Words(m[1])
		name := ""
		if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
			name, args = args[0], args[1:]
		}
		i := slices.IndexFunc(commands, func(c command) bool { return c.name == name })
		switch {
		case i < 0:
			found = append(found, m[0]+": there is no such command")
		case commands[i].flags == nil: // help
			if err := help(args, new(strings.Builder)); err != nil {
				found = append(found, m[0]+": "+err.Error())
			}
		default:
			o := &options{command: name}
			if err := o.parse(commands[i], args); err != nil && !errors.Is(err, os.ErrNotExist) { // its configuration is the reader's
				found = append(found, m[0]+": "+err.Error())
			}
		}
	}
	return found
}

func TestCommandsInPages(t *testing.T) {
	for _, name := range []string{"NOTES.md", "README.md"} {
		text, err := os.ReadFile("../" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, refused := range unparsed(string(text)) {
			t.Errorf("%s: %s", name, refused)
		}
	}
	for text, want := range map[string]int{
		"    go run ./bench compare -stages 3,4 -work 1ms   # a comment -frob\n    go run ./bench\n": 0,
		"see `go run ./bench put color blue`, and `go run ./bench help statistics`":                  0,
		"    go run ./bench put song < song.txt\n":                                                   0,
		"    go run ./bench compare -frob\n":                                                         1,
		"    go run ./bench compare -work 1\n":                                                       1,
		"    go run ./bench compared\n":                                                              1,
		"    go run ./bench get\n":                                                                   1,
		"    go run ./bench help frob\n":                                                             1,
		"    go run ./bench notes -measure gain lanes\n":                                             0,
	} {
		if found := unparsed(text); len(found) != want {
			t.Errorf("%s: %q, want %d", text, found, want)
		}
	}
}

func TestNotesUsage(t *testing.T) {
	for _, args := range []string{"-quick", "-o " + t.TempDir(), "gain", "-quick -measure -o " + t.TempDir(), "-quick -o ..", "-quick gain -o x"} {
		code, stdout, stderr := bench(t, append([]string{"notes"}, strings.Fields(args)...)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, "-quick -o DIR") {
			t.Errorf("bench notes %s: exit code %d, stdout %q, stderr %q", args, code, stdout, stderr)
		}
	}
}
