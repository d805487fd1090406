// Package notes keeps the figures of NOTES.md and README.md true. The pages name experiments,
// which are commands of the text, with claims about what they find, in comments that are not
// seen when the page is read. The numbers, tables, outputs, diffs and pictures at such
// comments are filled in from the data of these experiments.
//
//	<!-- run NAME: CLAIM; CLAIM -->      above a block whose first line is the command
//	<!-- figure NAME: KIND NAME... -->   above the image bench/notes/data/NAME.svg
//	<!--=NAME.EXPR-->6.1 [5.9..6.7]<!--/-->
//	<!--=NAME.table COLUMN...-->         the others stand alone on a line, as does their end
//	<!--=NAME.text PARAGRAPH...-->       all paragraphs of the output, or some by number
//	<!--=diff 1 2 FILE...-->             from one stage to another
//
// An EXPR is a figure, or the quotient of two, a / b; behind it, short means two digits and no
// interval. A figure is STAGE.COLUMN, STAGE@POINT.COLUMN or EXPERIMENT.STAGE.COLUMN; without a
// STAGE, it is that of the last one. A CLAIM is EXPR > n, EXPR < n, EXPR in a .. b, EXPR is TEXT,
// or EXPR no difference; it is judged by the median.
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

	"lockstep/bench/figure"
	"lockstep/bench/machine"
	"lockstep/bench/stats"
	"lockstep/common/text"
)

// dataDir holds the data of the experiments, NAME.json or NAME.txt, and the figures, NAME.svg.
const dataDir = "bench/notes/data"

// figures draw an SVG from the data of experiments, by the KIND in the mark.
var figures = map[string]func([]data) (string, error){
	"lanes":    func(of []data) (string, error) { return figure.LanesSVG(of[0].lanes), nil },
	"dots":     dots,
	"rate":     rate,
	"gain":     gain,
	"ceilings": ceilings,
	"ports":    ports,
}

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
	claims         []*claim
}

type picture struct{ name, kind, experiments, where string }

var (
	definition = regexp.MustCompile(`<!-- *(run|figure)\b`)
	runMark    = regexp.MustCompile("^<!-- run ([\\w-]+)(?:: (.+))? -->\n\n(?:    |```.*\n)(.+)\n")
	figureMark = regexp.MustCompile(`^<!-- figure ([\w-]+): (\w+) (.+) -->\n\n!\[.+\]\(` + dataDir + `/([\w-]+)\.svg\)\n`)
	mark       = regexp.MustCompile(`(?s)<!--=(.*?)-->(.*?)(<!--/-->|<!--=|$)`)
	lineStart  = regexp.MustCompile(`(^|\n)[\s>*+-]*(\d+[.)]\s+)?$`) // what is before a mark that begins a block of HTML
)

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
			b.fail(p.line(at[0]), b.define(p.text[at[0]:], p.line(at[0])))
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

// define adds the experiment or the figure that a mark defines.
func (b *Book) define(from, where string) (err error) {
	if m := figureMark.FindStringSubmatch(from); m != nil && m[4] == m[1] {
		b.pictures = append(b.pictures, picture{m[1], m[2], m[3], where})
		return nil
	}
	m := runMark.FindStringSubmatch(from)
	if m == nil {
		return fmt.Errorf("want <!-- run NAME: CLAIM; CLAIM --> and a block that begins with a command, or "+
			"<!-- figure NAME: KIND EXPERIMENT --> and ![...](%s/NAME.svg), with a blank line between", dataDir)
	}
	if other, _ := b.experiment(m[1]); other != nil || m[1] == "diff" {
		return fmt.Errorf("the name %s is taken", m[1])
	}
	e := &experiment{data: data{name: m[1]}, command: m[3], where: where}
	b.experiments = append(b.experiments, e)
	_, name := e.program("", "", false)
	e.load(name, filepath.Join(b.dir, dataDir), filepath.Join(b.root, dataDir))
	e.claims, err = parseClaims(m[2])
	return err
}

// eval evaluates an expression about an experiment. A quotient has the widest interval that those
// of its figures allow.
func (b *Book) eval(e *experiment, expr string) (value, error) {
	top, bottom, divided := strings.Cut(expr, " / ")
	v, err := b.figure(e, top)
	if err != nil || !divided {
		return v, err
	}
	w, err := b.figure(e, bottom)
	q := value{Interval: stats.Interval{Median: v.Median / w.Median, Low: v.Low / w.High, High: v.High / w.Low}, write: text.Sig}
	q.same = q.Low < q.High && q.WithinNoise(stats.Interval{})
	if err == nil && (!(q.Median <= math.MaxFloat64) || v.bound+w.bound != "") { // or NaN
		err = fmt.Errorf("%s cannot be divided by %s", v.String(false), w.String(false))
	}
	return q, err
}

var figureName = regexp.MustCompile(`^(?:(.*?)\.)??(ratio\.p99|[^.]+)$`)

// figure returns a figure of an experiment, or of the other one that its name begins with.
func (b *Book) figure(e *experiment, name string) (value, error) {
	first, rest, _ := strings.Cut(name, ".")
	if other, _ := b.experiment(first); other != nil {
		e, name = other, rest
	}
	m := append(figureName.FindStringSubmatch(name), "", "", "")
	if e.err != nil {
		return value{}, e.err
	}
	return e.value(m[1], m[2])
}

func (b *Book) experiment(name string) (*experiment, error) {
	i := slices.IndexFunc(b.experiments, func(e *experiment) bool { return e.name == name })
	if i < 0 {
		return nil, fmt.Errorf("there is no experiment %q", name)
	}
	return b.experiments[i], b.experiments[i].err
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
		b.fail(e.where, cmp.Or(e.err, b.judge(e)))
	}
	for _, p := range b.pages {
		if filled := b.fill(p); b.dir == b.root {
			files = append(files, file{p.name, filled})
		} else if p.name == "NOTES.md" {
			files = append(files, file{p.name, b.localize(filled)})
		}
	}
	for _, p := range b.pictures {
		svg, err := b.draw(p)
		b.fail(p.where, err)
		files = append(files, file{dataDir + "/" + p.name + ".svg", svg + "\n"})
	}
	return files, errors.Join(b.errs...)
}

func (b *Book) draw(p picture) (string, error) {
	draw, of := figures[p.kind], []data(nil)
	if draw == nil {
		return "", fmt.Errorf("there is no figure of the kind %q", p.kind)
	}
	for _, name := range strings.Fields(p.experiments) {
		e, err := b.experiment(name)
		if err != nil {
			return "", err
		}
		of = append(of, e.data)
	}
	return draw(of)
}

// fill returns the page with its marks filled in.
func (b *Book) fill(p file) (filled string) {
	done := 0
	for _, m := range mark.FindAllStringSubmatchIndex(p.text, -1) {
		head, end := p.text[m[2]:m[3]], p.text[m[6]:m[7]]
		content, err := b.content(head)
		if end != "<!--/-->" {
			err = errors.New("no <!--/--> closes it")
		} else if err == nil && strings.HasPrefix(content, "\n") != lineStart.MatchString(p.text[:m[0]]) {
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
	words := append(strings.Fields(head), "")
	if words[0] == "diff" {
		return b.stageDiff(words[1 : len(words)-1])
	}
	expr, short := strings.CutSuffix(head, " short")
	name, expr, _ := strings.Cut(expr, ".")
	e, err := b.experiment(name)
	if err != nil {
		return "", err
	}
	switch words[0] {
	case name + ".table":
		content, err = e.table(words[1 : len(words)-1])
	case name + ".text":
		content, err = e.paragraphs(words[1 : len(words)-1])
	default:
		v, err := b.eval(e, expr)
		if err != nil {
			return "", err
		}
		return v.String(short) + b.notSo(e, expr), nil
	}
	return strings.TrimRight("\n\n"+content+"\n"+strings.TrimSpace(b.notSo(e, "")), "\n") + "\n\n", err
}

// notSo returns the claims that do not hold in the reader's copy: about an expression, or all.
func (b *Book) notSo(e *experiment, expr string) (all string) {
	for _, c := range e.claims {
		if b.dir != b.root && !c.holds && (expr == "" || expr == c.expr) {
			all += " (not so here: " + c.text + ")"
			c.shown = true
		}
	}
	return all
}

// localize names the machine at the top of the reader's copy. It says before an experiment which
// of its claims do not hold, if no number or table says so.
func (b *Book) localize(notes string) string {
	here := "**Measured in few and short rounds on:** " + machine.New(true).String() + "."
	for _, e := range b.experiments {
		if e.dir != filepath.Join(b.dir, dataDir) {
			here += " Not measured here: " + e.name + "."
		}
		for _, c := range e.claims {
			if head := "<!-- run " + e.name; !c.holds && !c.shown {
				notes = strings.Replace(notes, head, "(not so here: "+c.text+")\n\n"+head, 1)
			}
		}
	}
	title, rest, _ := strings.Cut(notes, "\n")
	return title + "\n\n" + here + "\n" + rest
}
