package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/term"
)

// printer writes the story for a person: colours on a terminal, plain text everywhere else.
type printer struct {
	w      io.Writer
	colour bool
}

// newPrinter tells the story on standard output, or on standard error when a program reads the summary.
func newPrinter(c *console) *printer {
	p := &printer{w: c.stdout}
	if c.format == "json" {
		p.w = c.stderr
	}
	f, ok := p.w.(*os.File)
	p.colour = ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return p
}

const (
	bold  = "\x1b[1m"
	green = "\x1b[32m"
	plain = "\x1b[0m"
)

func (p *printer) paint(colour, text string) string {
	if !p.colour {
		return text
	}
	return colour + text + plain
}

// step begins a numbered step.
func (p *printer) step(n int, title string) {
	fmt.Fprintf(p.w, "\n%s\n", p.paint(bold, fmt.Sprintf("%2d  %s", n, title)))
}

// line is one line of a step.
func (p *printer) line(format string, args ...any) {
	fmt.Fprintf(p.w, "    %s\n", fmt.Sprintf(format, args...))
}

// held is a line that says what was expected and came.
func (p *printer) held(format string, args ...any) {
	fmt.Fprintf(p.w, "    %s %s\n", p.paint(green, "ok"), fmt.Sprintf(format, args...))
}

// table writes rows in columns.
func (p *printer) table(rows ...[]string) {
	w := tabwriter.NewWriter(p.w, 0, 4, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintf(w, "    %s\n", strings.Join(row, "\t"))
	}
	_ = w.Flush() // a reader that has gone away ends the program elsewhere
}

// summary closes the story.
func (p *printer) summary(s summary) {
	fmt.Fprintf(p.w, "\n%s\n", p.paint(bold, "    in numbers"))
	p.table(s.rows()...)
	fmt.Fprintf(p.w, "\n    %s\n", p.paint(green, "every step ended as it should"))
}
