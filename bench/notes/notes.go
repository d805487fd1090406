// Package notes keeps the figures of NOTES.md and README.md true. The pages name experiments,
// which are commands of the text, with claims about what they find, in comments that are not
// seen when the page is read. The numbers, tables, outputs, diffs and pictures at such
// comments are filled in from the data of these experiments.
//
//	<!-- run NAME: CLAIM; CLAIM -->      above a block whose first line is the command
//	<!-- figure NAME: KIND NAME -->      above the image bench/notes/data/NAME.svg
//	<!--=NAME.EXPR-->6.1 [5.9..6.7]<!--/-->
//	<!--=NAME.table COLUMN...-->         the others stand alone on a line, as does their end
//	<!--=NAME.text PARAGRAPH-->          a paragraph of the output, by number
//	<!--=diff 1 2 FILE...-->             from one stage to another
//
// An EXPR is a figure, or the quotient of two, a / b; behind it, short means two digits and no
// interval. A figure is STAGE.COLUMN, STAGE@PROPERTY=POINT.COLUMN or EXPERIMENT.STAGE.COLUMN;
// without a STAGE, it is that of the last one. The columns of lanes are how many clients were idle,
// waited for a worker or a lock, or were in the table, on average. A CLAIM is EXPR > n, EXPR < n or
// EXPR in a .. b; it is judged by the median.
package notes

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"lockstep/bench/machine"
	"lockstep/bench/testbed"
	"lockstep/common/text"
)

// dataDir holds the data of the experiments, NAME.json or NAME.txt, and the figures, NAME.svg.
const dataDir = "bench/notes/data"

// A Book is the pages of a module, and the experiments and figures that they name.
type Book struct {
	root, dir   string // of the module; of what is written: the same, or the reader's copy
	pages       []file
	experiments []*experiment
	pictures    []picture
	errs        []error // in the pages
}

type file struct{ name, text string }

// An experiment is a command of the text, and what it measured.
type experiment struct {
	data
	command, where string
	claims         []claim
}

type picture struct{ name, kind, experiment, where string }

// A definition of an experiment or a figure is a comment, and a command or an image below it.
var definition = regexp.MustCompile("<!-- *(run|figure)\\b(?: ([\\w-]+)(?:: (.+))? -->\n\n(?:    |```.*\n|!\\[.+\\]\\()(.+)\n)?")

// A mark is a comment, what is filled in, and the comment that ends it.
var mark = regexp.MustCompile(`(?s)<!--=(.*?)-->(.*?)(<!--/-->|<!--=|$)`)

// lineStart is what is before a mark, on its line, that begins a block of HTML.
var lineStart = regexp.MustCompile(`^[\s>*+-]*(\d+[.)]\s+)?$`)

// Open reads the pages of the module in root. Data are read from dir, or else from root. It is
// where everything is written: a dir that is not root becomes the reader's copy of the notes.
func Open(root, dir string) (*Book, error) {
	b := &Book{root: root, dir: dir}
	for _, name := range []string{"NOTES.md", "README.md"} {
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return nil, err
		}
		p := file{name, string(content)}
		b.pages = append(b.pages, p)
		for _, at := range definition.FindAllStringIndex(p.text, -1) {
			where := p.line(at[0])
			b.fail(where, b.define(definition.FindStringSubmatch(p.text[at[0]:at[1]]), where))
		}
	}
	return b, errors.Join(b.errs...)
}

// line names the line of an offset.
func (p file) line(at int) string {
	return fmt.Sprintf("%s:%d", p.name, 1+strings.Count(p.text[:at], "\n"))
}

func (b *Book) fail(where string, err error) {
	if err != nil {
		b.errs = append(b.errs, fmt.Errorf("%s: %w", where, err))
	}
}

// define adds the experiment or the figure of a definition.
func (b *Book) define(m []string, where string) (err error) {
	name, says, block := m[2], m[3], m[4]
	switch {
	case m[1] == "figure" && block == dataDir+"/"+name+".svg)":
		kind, of, _ := strings.Cut(says, " ")
		b.pictures = append(b.pictures, picture{name, kind, of, where})
		return nil
	case m[1] == "figure", block == "":
		return fmt.Errorf("want <!-- run NAME: CLAIM; CLAIM --> and a block that begins with a command, or "+
			"<!-- figure NAME: KIND EXPERIMENT --> and ![...](%s/NAME.svg), with a blank line between", dataDir)
	}
	if _, known := b.experiment(name); known {
		return fmt.Errorf("the name %s is taken", name)
	}
	e := &experiment{data: data{name: name}, command: block, where: where}
	b.experiments = append(b.experiments, e)
	_, saved := e.program("", "", false)
	e.load(saved, filepath.Join(b.dir, dataDir), filepath.Join(b.root, dataDir))
	e.claims, err = parseClaims(says)
	return err
}

// eval evaluates an expression about an experiment.
func (b *Book) eval(e *experiment, expr string) (value, error) {
	top, bottom, divided := strings.Cut(expr, " / ")
	v, err := b.figure(e, top)
	if err != nil || !divided {
		return v, err
	}
	w, err := b.figure(e, bottom)
	q := v.Median / w.Median
	if err == nil && (!(q <= math.MaxFloat64) || v.bound+w.bound != "") { // or NaN
		err = fmt.Errorf("%s cannot be divided by %s", v.String(false), w.String(false))
	}
	return single(q, text.Sig), err
}

// figure returns a figure of an experiment, or of the other one that its name begins with.
func (b *Book) figure(e *experiment, name string) (value, error) {
	first, rest, _ := strings.Cut(name, ".")
	if other, known := b.experiment(first); known {
		e, name = other, rest
	}
	dot := strings.LastIndex(name, ".")
	return e.value(name[:max(dot, 0)], name[dot+1:])
}

// experiment returns the experiment of a name; one that only has an error if none is known.
func (b *Book) experiment(name string) (_ *experiment, known bool) {
	for _, e := range b.experiments {
		if e.name == name {
			return e, true
		}
	}
	return &experiment{data: data{err: fmt.Errorf("there is no experiment %q", name)}}, false
}

// Write fills in the pages, draws the figures, and replaces the files that change, which it
// names on out. If there is an error in the pages, it changes nothing.
func (b *Book) Write(out io.Writer) error {
	files, err := b.render()
	for _, f := range files {
		path := filepath.Join(b.dir, f.name)
		if old, unread := os.ReadFile(path); err == nil && (unread != nil || string(old) != f.text) {
			err = cmp.Or(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(f.text), 0o666))
			fmt.Fprintln(out, "changed:", f.name)
		}
	}
	return err
}

// render returns the files as they should be.
func (b *Book) render() (files []file, err error) {
	b.errs = nil
	for _, e := range b.experiments {
		err := e.err
		for _, c := range e.claims {
			_, _, unknown := b.judge(e, c)
			err = cmp.Or(err, unknown)
		}
		b.fail(e.where, err)
	}
	for _, p := range b.pages {
		if filled := b.fill(p); b.dir == b.root {
			files = append(files, file{p.name, filled})
		} else if p.name == "NOTES.md" {
			files = append(files, file{p.name, b.localize(filled)})
		}
	}
	for _, p := range b.pictures {
		e, _ := b.experiment(p.experiment)
		svg, err := e.draw(p.kind)
		b.fail(p.where, err)
		files = append(files, file{dataDir + "/" + p.name + ".svg", svg + "\n"})
	}
	return files, errors.Join(b.errs...)
}

// fill returns the page with its marks filled in.
func (b *Book) fill(p file) (filled string) {
	done := 0
	for _, m := range mark.FindAllStringSubmatchIndex(p.text, -1) {
		head, end := p.text[m[2]:m[3]], p.text[m[6]:m[7]]
		before := p.text[strings.LastIndex(p.text[:m[0]], "\n")+1 : m[0]]
		content, err := b.content(head)
		if end != "<!--/-->" {
			err = errors.New("no <!--/--> closes it")
		} else if err == nil && strings.HasPrefix(content, "\n") != lineStart.MatchString(before) {
			err = errors.New("a table, a text or a diff stands alone on its lines, and a number does not begin a line")
		}
		if err != nil {
			b.fail(p.line(m[0]), fmt.Errorf("%s: %w", head, err))
		}
		filled += p.text[done:m[4]] + content
		done = m[5]
	}
	return filled + p.text[done:]
}

// content returns what stands at a mark: a block if it begins with a new line.
func (b *Book) content(head string) (content string, err error) {
	name, expr, _ := strings.Cut(head, ".")
	e, _ := b.experiment(name)
	switch stages, isDiff := strings.CutPrefix(head, "diff "); {
	case isDiff:
		content, err = b.stageDiff(strings.Fields(stages))
	case strings.HasPrefix(expr, "table "):
		content, err = e.table(strings.Fields(expr)[1:])
	case strings.HasPrefix(expr, "text "):
		content, err = e.paragraph(expr[len("text "):])
	default:
		quotient, short := strings.CutSuffix(expr, " short")
		v, err := b.eval(e, quotient)
		if err != nil {
			return "", err
		}
		return strings.TrimSpace(v.String(short) + " " + b.notSo(e, quotient)), nil
	}
	return "\n\n" + content + "\n", err
}

// notSo returns the claims that do not hold in the reader's copy: about an expression, or all.
func (b *Book) notSo(e *experiment, expr string) string {
	var broken []string
	for _, c := range e.claims {
		if _, holds, _ := b.judge(e, c); b.dir != b.root && !holds && (expr == "" || expr == c.expr) {
			broken = append(broken, "(not so here: "+c.text+")")
		}
	}
	return strings.Join(broken, " ")
}

// localize names the machine at the top of the reader's copy, and says before each experiment
// which of its claims do not hold.
func (b *Book) localize(notes string) string {
	here := "**Measured in few and short rounds on:** " + machine.New(true).String() + "."
	for _, e := range b.experiments {
		if e.dir != filepath.Join(b.dir, dataDir) {
			here += " Not measured here: " + e.name + "."
		}
		if broken := b.notSo(e, ""); broken != "" {
			notes = strings.Replace(notes, "<!-- run "+e.name+":", broken+"\n\n<!-- run "+e.name+":", 1)
		}
	}
	title, rest, _ := strings.Cut(notes, "\n")
	return title + "\n\n" + here + "\n" + rest
}

// stageDiff returns what changes in the code of some files from one stage to another, as a block.
// A file that the first one does not have is new.
func (b *Book) stageDiff(args []string) (string, error) {
	if len(args) < 3 {
		return "", errors.New("want diff STAGE STAGE FILE...")
	}
	from, err := testbed.StageDir(b.root, args[0])
	to, unknown := testbed.StageDir(b.root, args[1])
	if err = cmp.Or(err, unknown); err != nil {
		return "", err
	}
	block := "```diff\n"
	for _, name := range args[2:] {
		old := filepath.Base(from) + "/" + name
		before, missing := os.ReadFile(filepath.Join(from, name))
		if missing != nil {
			old = "/dev/null"
		}
		after, err := os.ReadFile(filepath.Join(to, name))
		if err != nil {
			return "", err
		}
		block += fmt.Sprintf("--- %s\n+++ %s/%s\n%s", old, filepath.Base(to), name, unified(linesOf(before), linesOf(after)))
	}
	return block + "```\n", nil
}

// linesOf returns the lines of a file but those that are comments.
func linesOf(content []byte) []string {
	isComment := func(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), "//") }
	return slices.DeleteFunc(slices.Collect(strings.Lines(string(content))), isComment)
}

// unified returns all lines of two texts, marked as those of one of them or of both: around the
// longest part that they have in common, and so on before and after it.
func unified(a, b []string) string {
	from, to, longest := 0, 0, 0
	for i := range a {
		for j := range b {
			n := 0
			for i+n < len(a) && j+n < len(b) && a[i+n] == b[j+n] {
				n++
			}
			if n > longest {
				from, to, longest = i, j, n
			}
		}
	}
	if longest == 0 {
		return marked("-", a) + marked("+", b)
	}
	return unified(a[:from], b[:to]) + marked(" ", a[from:from+longest]) + unified(a[from+longest:], b[to+longest:])
}

func marked(sign string, lines []string) string {
	return strings.Join(append([]string{""}, lines...), sign)
}
