// Package figure draws charts as SVG: rows with bars or dots, lines, a dot for each request,
// and lanes. A figure stands alone: it has its style, which is legible on white and on black, and
// a desc that says in words what it shows. A page can have rules of its own for its classes:
// s0 to s7 for series and rows, p0 to p5 for the shades of the parts of a row.
package figure

import (
	_ "embed"
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A figure is an SVG in the making. Its letters are large because a narrow phone shows it
// at two thirds of its size.
type figure struct {
	body   strings.Builder
	height float64
}

const (
	width        = 520.0
	letterWidth  = 10.0 // on average, of a wide font: which one is the reader's choice
	letterHeight = 20.0
	maxName      = 18 // bytes of the name of a line

	Styles = 8  // the number of styles of series and rows
	Shades = 6  // the number of shades of a style, for the parts of a row
	Faint  = -1 // the style of a series that was not measured
)

// style is that of all figures. Its colours have a contrast of 3:1 at least, to white and to the
// black of dark pages.
//
//go:embed style.css
var style string

func (f *figure) svg(title, desc string) string {
	return fmt.Sprintf(`<svg width="%[1]s" height="%[2]s" viewBox="0 0 %[1]s %[2]s" role="img" xmlns="http://www.w3.org/2000/svg"><style>%[3]s</style><title>%[4]s</title><desc>%[5]s</desc>%[6]s</svg>`,
		number(width), number(f.height), style, html.EscapeString(title), html.EscapeString(desc), f.body.String())
}

// legend writes names beside each other, in as many rows as they need, each behind what draw
// draws to the right of x and around y. It returns where it ends.
func (f *figure) legend(names []string, draw func(i int, x, y float64)) (bottom float64) {
	at, y := 0.0, 16.0
	for i, name := range names {
		if at > 0 && at+20+textWidth(name) > width {
			at, y = 0, y+24
		}
		draw(i, at, y-6)
		f.text("", at+20, y, name)
		at += 36 + textWidth(name)
	}
	return y + 10
}

func (f *figure) line(class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(&f.body, `<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, class, number(x1), number(y1), number(x2), number(y2))
}

// bar draws a horizontal bar around y.
func (f *figure) bar(class string, x1, x2, y float64) {
	fmt.Fprintf(&f.body, `<rect class="%s" x="%s" y="%s" width="%s" height="18"/>`, class, number(x1), number(y-9), number(max(x2-x1, 0)))
}

// text writes to the right of x, to the left of it (class end) or around it (class mid).
func (f *figure) text(class string, x, y float64, s string) {
	fmt.Fprintf(&f.body, `<text class="%s" x="%s" y="%s">%s</text>`, class, number(x), number(y), html.EscapeString(s))
}

func (f *figure) path(class string, points [][2]float64) {
	var list []string
	for _, p := range points {
		list = append(list, number(p[0])+","+number(p[1]))
	}
	fmt.Fprintf(&f.body, `<polyline class="%s" points="%s"/>`, class, strings.Join(list, " "))
}

// marks differ in shape for readers who do not see their colours.
var marks = [Styles]string{
	"M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
	"M-4,-4h8v8h-8z",
	"M0,-5l5,9h-10z",
	"M0,-5.5l5,5.5l-5,5.5l-5,-5.5z",
	"M-4,-4l8,8m0,-8l-8,8",
	"M0,5l5,-9h-10z",
	"M0,-5v10m-5,-5h10",
	"M-5,-2h10v4h-10z",
}

func (f *figure) mark(class string, style int, x, y float64) {
	if style != Faint {
		fmt.Fprintf(&f.body, `<path class="%s s%d" transform="translate(%s,%s)" d="%s"/>`, class, style, number(x), number(y), marks[style])
	}
}

// number writes a coordinate to a tenth.
func number(v float64) string { return strconv.FormatFloat(math.Round(10*v)/10, 'f', -1, 64) }

func textWidth(s string) float64 { return letterWidth * float64(utf8.RuneCountInString(s)) }
