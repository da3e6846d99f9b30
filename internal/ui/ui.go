package ui

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// standardWidth is the width of a terminal that does not tell its own.
const standardWidth = 80

// IO is where a command reads and writes. Its methods may be called by several
// goroutines.
type IO struct {
	In     io.Reader
	Out    io.Writer
	Err    io.Writer
	OutTTY bool
	ErrTTY bool // and the terminal can redraw a line
	Color  bool // on stdout
	Width  int  // of the terminal in columns; 0 if unknown
	Height int  // of the terminal in lines; 0 if unknown
	// Quiet leaves out progress and log, Verbose adds to them.
	Quiet   bool
	Verbose bool
	Now     func() time.Time
	// Scrub takes secrets out of what goes to stderr; nil changes nothing.
	Scrub func(string) string

	mu       sync.Mutex
	live     *Progress // drawn on the terminal's last line
	document bool      // JSON is on stdout
}

// System returns the process's own streams.
func System() *IO {
	s := &IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Now: time.Now} //nolint:forbidigo // where the clock comes from
	dumb := os.Getenv("TERM") == "dumb"
	s.OutTTY = term.IsTerminal(int(os.Stdout.Fd()))
	s.ErrTTY = term.IsTerminal(int(os.Stderr.Fd())) && !dumb
	s.Color = s.OutTTY && !dumb && os.Getenv("NO_COLOR") == ""
	for _, f := range []*os.File{os.Stdout, os.Stderr} {
		if n, lines, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
			s.Width, s.Height = n, lines
			break
		}
	}
	return s
}

func (s *IO) terminalWidth() int {
	if s.Width > 0 {
		return s.Width
	}
	return standardWidth
}

// Log writes a line of progress to stderr.
func (s *IO) Log(format string, args ...any) {
	if !s.Quiet {
		s.line("", format, args...)
	}
}

// Debug writes a line to stderr that only -v shows.
func (s *IO) Debug(format string, args ...any) {
	if s.Verbose && !s.Quiet {
		s.line("debug: ", format, args...)
	}
}

// Warn writes a warning to stderr, even when quiet.
func (s *IO) Warn(format string, args ...any) { s.line("warning: ", format, args...) }

// Line writes a line to stderr, even when quiet.
func (s *IO) Line(format string, args ...any) { s.line("", format, args...) }

func (s *IO) line(kind, format string, args ...any) {
	text := kind + s.Told(fmt.Sprintf(format, args...))
	if !s.ErrTTY {
		text = s.Now().UTC().Format(time.RFC3339) + " " + text
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	_, _ = fmt.Fprintln(s.Err, text)
	s.redraw()
}

// Told makes text fit to be told on stderr: scrubbed of secrets and clean.
func (s *IO) Told(text string) string {
	if s.Scrub != nil {
		text = s.Scrub(text)
	}
	return Clean(text)
}

// Paint colours text for a status: "ok" and "pass" green, "warning" yellow,
// "unknown" magenta, "critical" and "fail" red, "dim" pale, "bold" bold;
// anything else is left as it is.
func (s *IO) Paint(status, text string) string {
	code := colour(status)
	if !s.Color || code == "" || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func colour(status string) string {
	switch status {
	case "ok", "pass":
		return "32"
	case "warning":
		return "33"
	case "unknown":
		return "35"
	case "critical", "fail":
		return "31"
	case "dim":
		return "2"
	case "bold":
		return "1"
	default:
		return ""
	}
}
