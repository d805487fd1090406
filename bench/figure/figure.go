// Package figure draws charts as SVG: rows with bars or dots, and lines. Their colours
// are the classes of a style sheet, s0 to s7 for series and rows and p0 to p5 for the
// shades of the parts of a row; a desc says in words what a chart shows.
package figure

import (
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
	letterWidth  = 7.8 // on average, rounded up
	letterHeight = 17.0
	maxName      = 24 // bytes of the name of a line

	Styles = 8  // the number of styles of series and rows
	Shades = 6  // the number of shades of a style, for the parts of a row
	Faint  = -1 // the style of a series that was not measured
)

func (f *figure) svg(title, desc string) string {
	return fmt.Sprintf(`<svg width="%[1]s" height="%[2]s" viewBox="0 0 %[1]s %[2]s" role="img" xmlns="http://www.w3.org/2000/svg"><title>%[3]s</title><desc>%[4]s</desc>%[5]s</svg>`,
		number(width), number(f.height), html.EscapeString(title), html.EscapeString(desc), f.body.String())
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

func (f *figure) mark(style int, x, y float64) {
	if style != Faint {
		fmt.Fprintf(&f.body, `<path class="mark s%d" transform="translate(%s,%s)" d="%s"/>`, style, number(x), number(y), marks[style])
	}
}

// number writes a coordinate to a tenth.
func number(v float64) string { return strconv.FormatFloat(math.Round(10*v)/10, 'f', -1, 64) }

func textWidth(s string) float64 { return letterWidth * float64(utf8.RuneCountInString(s)) }
