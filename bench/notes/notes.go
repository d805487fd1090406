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
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"lockstep/bench/figure"
	"lockstep/bench/machine"
)

// dataDir holds the data of the experiments, NAME.json or NAME.txt, and the figures, NAME.svg.
const dataDir = "bench/notes/data"

// figures draw an SVG from the data of experiments, by the KIND in the mark.
var figures = map[string]func([]data) (string, error){
	"lanes": func(of []data) (string, error) { return figure.LanesSVG(of[0].lanes), nil },
}

// A Book is the pages of a module, and the experiments that they name.
type Book struct {
	root, dir   string // of the module; of what is written: the same, or the reader's copy
	pages       []file
	experiments []*experiment
	errs        []error // in the pages
}

type file struct{ name, text string }

// An experiment is a command of the text, and what it measured.
type experiment struct {
	data
	command string
	claims  []*claim
	page    file // where it is defined,
	at      int
}

var (
	definition = regexp.MustCompile(`<!-- *(run|figure)\b`)
	run        = regexp.MustCompile("^<!-- run ([\\w-]+)(?:: (.+))? -->\n\n(?:    |```.*\n)(.+)\n")
	picture    = regexp.MustCompile(`^<!-- figure ([\w-]+): (\w+) (.+) -->\n\n!\[.+\]\(` + dataDir + `/([\w-]+)\.svg\)\n`)
	mark       = regexp.MustCompile(`(?s)<!--=(.*?)-->(.*?)(<!--/-->|<!--=|$)`)
	// What is before a mark at the start of a line: a mark there would begin a block of HTML.
	lineStart = regexp.MustCompile(`^[\s>*+-]*(\d+[.)]\s+)?$`)
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
			b.fail(p, at[0], b.define(p, at[0]))
		}
	}
	return b, errors.Join(b.errs...)
}

// fail notes an error, if there is one, with its line.
func (b *Book) fail(p file, offset int, err error) {
	if err != nil {
		b.errs = append(b.errs, fmt.Errorf("%s:%d: %w", p.name, 1+strings.Count(p.text[:offset], "\n"), err))
	}
}

// define adds the experiment that is defined at an offset of a page, or checks a figure.
func (b *Book) define(p file, at int) error {
	text := p.text[at:]
	m := run.FindStringSubmatch(text)
	switch {
	case picture.MatchString(text):
		return nil
	case m == nil:
		return fmt.Errorf("want <!-- run NAME: CLAIM; CLAIM --> and a block that begins with a command, or "+
			"<!-- figure NAME: KIND EXPERIMENT --> and ![...](%s/NAME.svg), with a blank line between", dataDir)
	}
	e, err := b.experiment(m[1])
	if e != nil || m[1] == "diff" {
		return fmt.Errorf("the name %s is taken", m[1])
	}
	e = &experiment{data: data{name: m[1]}, command: m[3], page: p, at: at}
	b.experiments = append(b.experiments, e)
	_, name := e.program("", "", false)
	e.load(name, filepath.Join(b.dir, dataDir), filepath.Join(b.root, dataDir))
	e.claims, err = parseClaims(m[2])
	return err
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
		b.fail(e.page, e.at, b.judge(e))
	}
	for _, p := range b.pages {
		filled := b.fill(p)
		for _, at := range definition.FindAllStringIndex(p.text, -1) {
			if m := picture.FindStringSubmatch(p.text[at[0]:]); m != nil {
				svg, err := b.draw(m[2], strings.Fields(m[3]))
				if m[1] != m[4] {
					err = fmt.Errorf("the image is %s.svg", m[4])
				}
				if err != nil {
					b.fail(p, at[0], fmt.Errorf("figure %s: %w", m[1], err))
				}
				files = append(files, file{dataDir + "/" + m[1] + ".svg", svg + "\n"})
			}
		}
		if b.dir == b.root {
			files = append(files, file{p.name, filled})
		} else if p.name == "NOTES.md" {
			files = append(files, file{p.name, b.localize(filled)})
		}
	}
	return files, errors.Join(b.errs...)
}

func (b *Book) draw(kind string, names []string) (string, error) {
	draw, of := figures[kind], []data(nil)
	if draw == nil {
		return "", fmt.Errorf("there is no kind %q", kind)
	}
	for _, name := range names {
		e, err := b.experiment(name)
		if err != nil {
			return "", err
		}
		of = append(of, e.data)
	}
	return draw(of)
}

// fill returns the page with its marks filled in.
func (b *Book) fill(p file) string {
	var out strings.Builder
	done := 0
	for _, m := range mark.FindAllStringSubmatchIndex(p.text, -1) {
		head, body, end := p.text[m[2]:m[3]], p.text[m[4]:m[5]], p.text[m[6]:m[7]]
		line := p.text[:m[0]]
		filled, err := b.content(head)
		alone := lineStart.MatchString(line[strings.LastIndex(line, "\n")+1:])
		switch {
		case end != "<!--/-->":
			err = errors.New("no <!--/--> closes it")
		case err == nil && alone != strings.HasPrefix(filled, "\n"), alone != strings.HasPrefix(body, "\n"):
			err = errors.New("a table, a text or a diff stands alone on its lines, and a number does not begin a line")
		}
		if err != nil {
			b.fail(p, m[0], fmt.Errorf("%s: %w", head, err))
		}
		out.WriteString(p.text[done:m[4]] + filled)
		done = m[5]
	}
	return out.String() + p.text[done:]
}

// content returns what stands at a mark: a block if it begins with a new line.
func (b *Book) content(head string) (string, error) {
	words := strings.Fields(head)
	if len(words) > 3 && words[0] == "diff" {
		return b.stageDiff(words[1], words[2], words[3:])
	}
	expr, short := strings.CutSuffix(head, " short")
	name, expr, _ := strings.Cut(expr, ".")
	e, err := b.experiment(name)
	if err != nil {
		return "", err
	}
	block := ""
	switch _, what, _ := strings.Cut(words[0], "."); what {
	case "table":
		block, err = e.table(words[1:])
	case "text":
		block, err = e.paragraphs(words[1:])
	default:
		v, err := b.eval(e, expr)
		if err != nil {
			return "", err
		}
		return v.String(short) + b.notSo(e, expr), nil
	}
	if not := b.notSo(e, ""); not != "" {
		block += "\n" + not[1:] + "\n"
	}
	return "\n\n" + block + "\n", err
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
func (b *Book) localize(text string) string {
	here := "**Measured in few and short rounds on:** " + machine.New(true).String() + "."
	for _, e := range b.experiments {
		if e.dir != filepath.Join(b.dir, dataDir) {
			here += " Not measured here: " + e.name + "."
		}
		for _, c := range e.claims {
			if head := "<!-- run " + e.name; !c.holds && !c.shown {
				text = strings.Replace(text, head, "(not so here: "+c.text+")\n\n"+head, 1)
			}
		}
	}
	title, rest, _ := strings.Cut(text, "\n")
	return title + "\n\n" + here + "\n" + rest
}
