package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"errors"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"
)

// page is where text for people is written: it knows what the stream can show.
// On a pipe there is no colour, no truncation and no relative time, and tables
// are separated by tabs.
type page struct {
	b     bytes.Buffer
	tty   bool
	color bool
	ascii bool
	wide  bool
	width int
	zone  *time.Location
	now   time.Time
	app   *app
}

func (a *app) page(stream io.Writer) *page {
	return &page{
		tty: a.isTTY(stream), color: a.colored(stream), ascii: !a.utf8(), wide: a.opt.Output == formatWide,
		width: a.width(stream), zone: a.zone(), now: a.now(), app: a,
	}
}

// line writes one formatted line.
func (p *page) line(format string, args ...any) {
	fmt.Fprintf(&p.b, format, args...)
	p.b.WriteByte('\n')
}

// mark is a state as symbol and word: colour is never the only sign.
type mark int

// The marks.
const (
	markOK mark = iota
	markRisk
	markBad
	markUnknown
	markActive
	markWaiting
)

// symbol gives the sign of a mark.
func (p *page) symbol(m mark) string {
	signs, plain := [...]string{"✓", "!", "✗", "?", "▸", "⏸"}, [...]string{"ok:", "!!", "XX", "??", ">", "||"}
	colors := [...]string{"32", "33", "31", "35", "36", "36"}
	text := signs[m]
	if p.ascii {
		text = plain[m]
	}
	return p.paint(colors[m], text)
}

// mark writes symbol and word, as "✓ ok".
func (p *page) mark(m mark, word string) string { return p.symbol(m) + " " + word }

// paint colours text, where colour is on.
func (p *page) paint(code, text string) string {
	if !p.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// bold makes text strong, where colour is on.
func (p *page) bold(text string) string { return p.paint("1", text) }

// time writes an instant: in the chosen zone on a terminal, RFC 3339 on a pipe.
func (p *page) time(t time.Time) string {
	switch {
	case t.IsZero():
		return p.none()
	case !p.tty:
		return t.In(p.zone).Format(time.RFC3339)
	}
	return t.In(p.zone).Format("2006-01-02 15:04:05")
}

// ago writes how long ago t was on a terminal; on a pipe, the instant.
func (p *page) ago(t time.Time) string {
	if t.IsZero() {
		return p.none()
	}
	if !p.tty {
		return p.time(t)
	}
	return formatAge(p.now.Sub(t))
}

// none stands for what is not known or does not apply.
func (p *page) none() string {
	if p.ascii || !p.tty {
		return "-"
	}
	return "–"
}

// size writes bytes: 4.2 GiB, or the exact number on a pipe.
func (p *page) size(n int64) string {
	if !p.tty {
		return fmt.Sprint(n)
	}
	return formatSize(n)
}

// duration writes a time span, such as 11m02s.
func (p *page) duration(d time.Duration) string { return formatDuration(d) }

// table is rows under titles. The last column is cut at the terminal's width.
type table struct {
	titles []string
	right  map[int]bool
	rows   [][]string
}

// newTable begins a table; a title that begins with ">" is aligned to the right.
func newTable(titles ...string) *table {
	t := &table{right: map[int]bool{}}
	for i, title := range titles {
		name, right := strings.CutPrefix(title, ">")
		t.right[i] = right
		t.titles = append(t.titles, name)
	}
	return t
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// table writes t.
func (p *page) table(t *table) {
	all := append([][]string{t.titles}, t.rows...)
	if !p.tty {
		for _, row := range all {
			for i, cell := range row {
				if i > 0 {
					p.b.WriteByte('\t')
				}
				p.b.WriteString(strings.Map(noTabs, cell))
			}
			p.b.WriteByte('\n')
		}
		return
	}
	widths := make([]int, len(t.titles))
	for _, row := range all {
		for i, cell := range row {
			if i < len(widths) {
				widths[i] = max(widths[i], visibleWidth(cell))
			}
		}
	}
	for _, row := range all {
		p.tableRow(t, row, widths)
	}
}

func (p *page) tableRow(t *table, row []string, widths []int) {
	used := 0
	for i, cell := range row {
		last := i == len(row)-1
		pad := ""
		if i < len(widths) {
			pad = strings.Repeat(" ", max(0, widths[i]-visibleWidth(cell)))
		}
		switch {
		case t.right[i]:
			cell = pad + cell
		case !last:
			cell += pad
		case !p.wide && p.width > 0 && !strings.Contains(cell, "\x1b"):
			cell = runewidth.Truncate(cell, max(8, p.width-used), "…")
		}
		p.b.WriteString(cell)
		used += visibleWidth(cell) + 2
		if !last {
			p.b.WriteString("  ")
		}
	}
	p.b.WriteByte('\n')
}

// visibleWidth is the width of text on a terminal, colour left out.
func visibleWidth(text string) int {
	for {
		begin := strings.Index(text, "\x1b[")
		if begin < 0 {
			return runewidth.StringWidth(text)
		}
		end := strings.IndexByte(text[begin:], 'm')
		if end < 0 {
			return runewidth.StringWidth(text[:begin])
		}
		text = text[:begin] + text[begin+end+1:]
	}
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	if s, ok := stream.(*safeWriter); ok {
		stream = s.w
	}
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// colored follows --color, NO_COLOR, LIFEBOAT_NO_COLOR, CLICOLOR_FORCE and TERM.
func (a *app) colored(stream any) bool {
	switch {
	case a.opt.Color == "always":
		return true
	case a.opt.Color == "never" || a.getenv("NO_COLOR") != "" || a.getenv("LIFEBOAT_NO_COLOR") != "":
		return false
	case a.getenv("CLICOLOR_FORCE") != "" && a.getenv("CLICOLOR_FORCE") != "0":
		return true
	}
	return a.isTTY(stream) && a.getenv("TERM") != "dumb" && a.getenv("CLICOLOR") != "0"
}

// utf8 reports whether the locale shows more than ASCII.
func (a *app) utf8() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := a.getenv(name); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// width of a terminal in columns; 0 is unknown.
func (a *app) width(stream any) int {
	if s, ok := stream.(*safeWriter); ok {
		stream = s.w
	}
	if f, ok := stream.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			return w
		}
	}
	return 0
}

// isClosedPipe tells that the reader of a stream has gone.
func isClosedPipe(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, errClosedPipe)
}
