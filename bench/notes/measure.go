package notes

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"lockstep/bench/progress"
	"lockstep/bench/report"
	"lockstep/common/metrics"
	"lockstep/common/text"
)

// A claim says between what a figure should be.
type claim struct {
	text, expr string
	low, high  float64
}

var claimForm = regexp.MustCompile(`^(.+) (?:> (.+)|< (.+)|in (.+)\.\.(.+))$`)

func parseClaims(all string) (claims []claim, err error) {
	for _, s := range strings.FieldsFunc(all, func(r rune) bool { return r == ';' }) {
		m := append(claimForm.FindStringSubmatch(strings.TrimSpace(s)), make([]string, 6)...)
		c := claim{m[0], m[1], parse(cmp.Or(m[2], m[4], "-inf")), parse(cmp.Or(m[3], m[5], "inf"))}
		if m[0] == "" || !(c.low < c.high) { // or NaN
			return nil, fmt.Errorf("%q is not a claim: want EXPR > n, EXPR < n or EXPR in a .. b", s)
		}
		claims = append(claims, c)
	}
	return claims, nil
}

// judge returns what was found, and whether the claim holds. A bound is not enough.
func (b *Book) judge(e *experiment, c claim) (found string, holds bool, err error) {
	v, err := b.eval(e, c.expr)
	if err != nil {
		return "", false, err
	}
	return v.String(false), v.bound == "" && c.low < v.Median && v.Median < c.high, nil
}

// Measure runs the experiments of these names, or all, where this program is go run ./bench, and
// ends with a table of their claims on out. What is invalid is measured once more, and what fails
// keeps its old data. With quick, the rounds are few and short.
func (b *Book) Measure(ctx context.Context, quick bool, names []string, line *progress.Line, out io.Writer) error {
	for _, name := range names {
		if e, known := b.experiment(name); !known {
			return e.err
		}
	}
	chosen := slices.DeleteFunc(slices.Clone(b.experiments), func(e *experiment) bool {
		return len(names) > 0 && !slices.Contains(names, e.name)
	})
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Minute, errors.New("20 minutes are over"))
	defer cancel()
	var failed []error
	began, broken, rows := time.Now(), 0, [][]string{{"claim", "found", "holds here"}}
	for i, e := range chosen {
		line.Expect(time.Since(began) / time.Duration(max(i, 1)) * time.Duration(len(chosen)-i)) // as long as those before
		line.Say(fmt.Sprintf("%d of %d, %s", i+1, len(chosen), e.name))
		err := b.measure(ctx, e, quick)
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 5 { // the client was measured, and not the servers
			err = b.measure(ctx, e, quick) // another program may have disturbed it
		}
		if ctx.Err() != nil {
			failed = append(failed, fmt.Errorf("%w: not measured from %s on", context.Cause(ctx), e.name))
			break
		} else if err != nil {
			failed = append(failed, fmt.Errorf("%s was not measured: %w", e.name, err))
			continue
		}
		for _, c := range e.claims {
			found, holds, _ := b.judge(e, c) // an error is one of the page, too
			verdict := "yes"
			if !holds {
				verdict, broken = "NO", broken+1
			}
			rows = append(rows, []string{e.name + ": " + c.text, found, verdict})
		}
	}
	if line.Stop(); len(rows) > 1 {
		io.WriteString(out, text.Table(rows))
	}
	if broken > 0 && !quick {
		failed = append(failed, fmt.Errorf("%d of %s do not hold here", broken, text.Plural(int64(len(rows)-1), "claim")))
	}
	return errors.Join(failed...)
}

var word = regexp.MustCompile(`'([^']*)'|"([^"]*)"|([^\s'"]+)`)

// Words are those of a command of the text, without a comment behind it.
func Words(command string) (words []string) {
	command, _, _ = strings.Cut(command, " #")
	for _, m := range word.FindAllStringSubmatch(command, -1) {
		words = append(words, m[1]+m[2]+m[3])
	}
	return words
}

// ours matches a command of this program, which may follow that of another one that runs it.
var ours = regexp.MustCompile(`\bgo run \./bench(?: (compare|run|lanes)\b)?`)

// program returns the arguments of an experiment, of which the first is a program, and its file,
// which commands with -o write. With quick, the rounds are few and short.
func (e *experiment) program(bench, o string, quick bool) (args []string, name string) {
	args, name = Words(e.command), e.name+".txt"
	if m := ours.FindStringSubmatch(e.command); m != nil {
		at := slices.Index(args, "./bench")
		args = append(slices.Replace(args, at-2, at+1, bench), "-quiet")
		if m[1] != "" {
			name = e.name + ".json"
			args = append(args, "-o", filepath.Join(o, name))
		}
		if quick && m[1] == "compare" {
			args = append(args, "-quick")
		}
	} else if quick && slices.Contains(args, "-bench") {
		args = append(args, "-benchtime", "100ms")
	}
	return args, name
}

// measure runs an experiment and replaces its data. What it starts ends with it or, after ctx,
// within the time that bench takes to stop its servers.
func (b *Book) measure(ctx context.Context, e *experiment, quick bool) error {
	bench, unnamed := os.Executable()
	saved, err := os.MkdirTemp("", "lockstep-notes-")
	if err = cmp.Or(err, unnamed); err != nil {
		return err
	}
	defer os.RemoveAll(saved)
	args, name := e.program(bench, saved, quick)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = b.root, &stdout, &stderr, 20*time.Second
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // on Windows, WaitDelay ends it
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, text.Printable(strings.TrimSpace(stderr.String())))
	}
	content := stdout.Bytes()
	if filepath.Ext(name) == ".json" {
		content, err = os.ReadFile(filepath.Join(saved, name))
	}
	if rep, other := report.Parse(content); other == nil {
		for i := range rep.Runs {
			r := &rep.Runs[i]
			r.ResponseTimes, r.ServiceTimes, r.Slips, r.ConnectTimes, r.Nodes = metrics.Histogram{}, nil, nil, nil, nil
		}
		rep.Env.Command = strings.Fields(e.command)
		content, err = rep.JSON()
		content = bytes.ReplaceAll(content, []byte(`,{"stage":`), []byte(",\n{\"stage\":")) // a line for each round
	}
	to := filepath.Join(b.dir, dataDir)
	if err == nil {
		err = cmp.Or(os.MkdirAll(to, 0o777), os.WriteFile(filepath.Join(to, name), content, 0o666))
		e.load(name, to)
	}
	return cmp.Or(err, e.err)
}
