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

// A claim says what an experiment should find.
type claim struct {
	text, expr string
	met        func(value) bool
	found      string
	holds      bool
	shown      bool // a number or a table says that it does not hold
}

var claimForm = regexp.MustCompile(`^(?:(.+) )?(?:(no difference)|(<|>) (.+)|in (.+)\.\.(.+)|is (.+))$`)

func parseClaims(all string) (claims []*claim, err error) {
	for _, s := range strings.FieldsFunc(all, func(r rune) bool { return r == ';' }) {
		m := append(claimForm.FindStringSubmatch(strings.TrimSpace(s)), make([]string, 8)...)
		n, low, high := number(m[4]), number(m[5]), number(m[6])
		c := &claim{text: m[0], expr: cmp.Or(m[1], "ratio")}
		switch {
		case m[2] != "":
			c.met = func(v value) bool { return v.same }
		case m[7] != "":
			c.met = func(v value) bool { return v.String(false) == m[7] }
		case m[3] == "<" && n == n: // and not NaN
			c.met = func(v value) bool { return v.Median < n }
		case m[3] == ">" && n == n:
			c.met = func(v value) bool { return v.Median > n }
		case low <= high:
			c.met = func(v value) bool { return low <= v.Median && v.Median <= high }
		default:
			return nil, fmt.Errorf("%q is no claim: want EXPR > n, EXPR < n, EXPR in a .. b, EXPR is TEXT or EXPR no difference", s)
		}
		claims = append(claims, c)
	}
	return claims, nil
}

// judge finds out whether the claims of an experiment hold. A bound is not enough.
func (b *Book) judge(e *experiment) (err error) {
	for _, c := range e.claims {
		v, unknown := b.eval(e, c.expr)
		if err = cmp.Or(err, unknown); unknown == nil {
			c.found, c.holds, c.shown = v.String(false), v.bound == "" && c.met(v), false
		}
	}
	return err
}

const limit = 20 * time.Minute

// Measure runs the experiments of these names, or all, where this program is go run ./bench, and
// ends with a table of their claims on out. What fails keeps its old data. With quick, the rounds
// are few and short.
func (b *Book) Measure(ctx context.Context, quick bool, names []string, line *progress.Line, out io.Writer) error {
	chosen := slices.Clone(b.experiments)
	if len(names) > 0 {
		chosen = slices.DeleteFunc(chosen, func(e *experiment) bool { return !slices.Contains(names, e.name) })
	}
	for _, name := range names {
		if e, err := b.experiment(name); e == nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%v are over", limit))
	defer cancel()
	var failed []error
	began, broken, rows := time.Now(), 0, [][]string{{"claim", "found", "holds here"}}
	for i, e := range chosen {
		line.Expect(time.Since(began) / time.Duration(max(i, 1)) * time.Duration(len(chosen)-i)) // as long as those before
		line.Say(fmt.Sprintf("%d of %d, %s", i+1, len(chosen), e.name))
		err := b.measure(ctx, e, quick)
		if ctx.Err() != nil {
			failed = append(failed, fmt.Errorf("%w: not measured from %s on", context.Cause(ctx), e.name))
			break
		} else if err != nil {
			failed = append(failed, fmt.Errorf("%s was not measured: %w", e.name, err))
			continue
		}
		b.judge(e) // an error is one of the page, too
		for _, c := range e.claims {
			rows = append(rows, []string{e.name + ": " + c.text, c.found, map[bool]string{true: "yes", false: "NO"}[c.holds]})
			if !c.holds {
				broken++
			}
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

// ours is a command of this program, behind another one that runs it if there is one.
var ours = regexp.MustCompile(`\bgo run \./bench(?: (compare|run|lanes)\b)?`)

// program returns the arguments of an experiment, of which the first is a program, and its file,
// which commands with -o write. With quick, the rounds are few and short.
func (e *experiment) program(bench, o string, quick bool) (args []string, name string) {
	args, name = Words(e.command), e.name+".txt"
	m := ours.FindStringSubmatch(e.command)
	if m == nil {
		if quick && slices.Contains(args, "-bench") {
			args = append(args, "-benchtime", "100ms")
		}
		return args, name
	}
	at := slices.Index(args, "./bench")
	args = append(slices.Replace(args, at-2, at+1, bench), "-quiet")
	if m[1] != "" {
		name = e.name + ".json"
		args = append(args, "-o", filepath.Join(o, name))
	}
	if quick && m[1] == "compare" {
		args = append(args, "-quick")
	}
	return args, name
}

// measure runs an experiment and replaces its data. What it starts ends with it or, after ctx,
// within the time that bench takes to stop its servers.
func (b *Book) measure(ctx context.Context, e *experiment, quick bool) error {
	bench, unknown := os.Executable()
	saved, err := os.MkdirTemp("", "lockstep-notes-")
	if err = cmp.Or(err, unknown); err != nil {
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
