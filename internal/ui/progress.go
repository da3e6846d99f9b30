package ui

import (
	"fmt"
	"time"
)

const (
	animateEvery = 200 * time.Millisecond
	logEvery     = 30 * time.Second

	// earliest is when there is something to reckon a rate from, longest the time
	// left beyond which a reckoning means nothing.
	earliest = 100 * time.Millisecond
	longest  = 365 * 24 * time.Hour

	eraseLine = "\r\x1b[K"
)

// Progress shows how far a long piece of work is. On a terminal it is one line,
// drawn over and over; without one a log line when the work first tells of
// itself, at most one every 30 s, and one at its end. The IO's lock guards it.
type Progress struct {
	io    *IO
	label string
	begun time.Time

	started, ended bool
	shown          time.Time
	done, total    int64
	unit           func(int64) string
	drawn          string // what stands on the terminal
}

// Progress begins a piece of work.
func (s *IO) Progress(label string) *Progress {
	return &Progress{io: s, label: label, begun: s.Now()}
}

// Set says how much is done, of total if that is known (0 if not), and how to
// write such an amount. After Done it does nothing.
func (p *Progress) Set(done, total int64, unit func(int64) string) {
	s := p.io
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.ended {
		return
	}
	p.done, p.total, p.unit = done, total, unit
	now := s.Now()
	every := logEvery
	if s.ErrTTY {
		every = animateEvery
	}
	if p.started && now.Sub(p.shown) < every {
		return
	}
	first := !p.started
	p.started, p.shown = true, now
	switch {
	case s.Quiet:
	case s.ErrTTY:
		p.draw(p.text(now))
	case first:
		p.log(now, "")
	default:
		p.log(now, p.text(now))
	}
}

// Done ends the work, well or not, and clears the terminal's line. A second
// call does nothing.
func (p *Progress) Done() {
	s := p.io
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.ended {
		return
	}
	p.ended = true
	if s.live == p {
		s.erase()
		s.live = nil
	}
	if !p.started || s.Quiet || s.ErrTTY {
		return
	}
	now := s.Now()
	spent := now.Sub(p.begun)
	text := fmt.Sprintf("%s in %s", p.unit(p.done), Duration(spent))
	if p.total > 0 && p.done != p.total {
		text = fmt.Sprintf("ended at %s of %s after %s", p.unit(p.done), p.unit(p.total), Duration(spent))
	}
	p.log(now, text+p.rate(spent))
}

// text is the state of the work: amount, share, rate, time left.
func (p *Progress) text(now time.Time) string {
	spent := now.Sub(p.begun)
	text := p.unit(p.done)
	if p.total > 0 {
		share := 100 * min(1, float64(p.done)/float64(p.total))
		text += fmt.Sprintf(" of %s (%d %%)", p.unit(p.total), int(share))
	}
	text += p.rate(spent)
	return text + p.left(spent)
}

// left is the time that the rest takes at the rate so far.
func (p *Progress) left(spent time.Duration) string {
	if p.done <= 0 || p.total <= p.done || spent < earliest {
		return ""
	}
	seconds := spent.Seconds() * float64(p.total-p.done) / float64(p.done)
	switch {
	case seconds < 60:
		return fmt.Sprintf(", %ds left", max(1, int(seconds)))
	case seconds > longest.Seconds():
		return ""
	}
	return ", " + Duration(time.Duration(seconds)*time.Second) + " left"
}

func (p *Progress) rate(spent time.Duration) string {
	if spent < earliest || p.done <= 0 {
		return ""
	}
	return ", " + p.unit(int64(float64(p.done)/spent.Seconds())) + "/s"
}

func (p *Progress) log(now time.Time, text string) {
	line := now.UTC().Format(time.RFC3339) + " " + p.io.Told(p.label)
	if text != "" {
		line += ": " + text
	}
	_, _ = fmt.Fprintln(p.io.Err, line)
}

// draw puts the line on the terminal, short enough not to wrap: a wrapped line
// could not be erased. The label is cut before the figures are.
func (p *Progress) draw(text string) {
	s := p.io
	limit := s.terminalWidth() - 1
	label := truncate(s.Told(p.label), max(minColumn, limit-len(": ")-columns(text)))
	p.drawn = truncate(label+": "+text, limit)
	s.live = p
	_, _ = fmt.Fprint(s.Err, eraseLine+p.drawn)
}

// erase takes the animated line off the terminal, to write another above it.
func (s *IO) erase() {
	if s.live != nil {
		_, _ = fmt.Fprint(s.Err, eraseLine)
	}
}

func (s *IO) redraw() {
	if s.live != nil {
		_, _ = fmt.Fprint(s.Err, s.live.drawn)
	}
}
