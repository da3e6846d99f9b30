package s3fault

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"time"
)

// Reset takes n bytes of the request and then resets the connection.
func Reset(n int64) Fault {
	return func(_ *Proxy, w http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, n)
		Cut(w)
	}
}

// Cut resets the connection.
func Cut(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

// Status answers as S3 does when it refuses.
func Status(code int, name, message string, header ...string) Fault {
	return func(_ *Proxy, w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(code)
		if r.Method != http.MethodHead {
			fmt.Fprintf(w, "<?xml version=\"1.0\"?>\n<Error><Code>%s</Code><Message>%s</Message></Error>", name, message)
		}
	}
}

// Hang takes nothing and answers nothing until the test ends.
func Hang(p *Proxy, _ http.ResponseWriter, r *http.Request) {
	select {
	case <-p.ended:
	case <-r.Context().Done():
	}
}

// HangBody takes a request without ever answering it.
func HangBody(p *Proxy, w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	Hang(p, w, r)
}

// Crawl passes a request on at so many bytes a second.
func Crawl(rate int) Fault {
	return func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		r.Body = struct {
			io.Reader
			io.Closer
		}{&slowReader{r.Body, rate}, r.Body}
		p.Pass(w, r)
	}
}

type slowReader struct {
	r    io.Reader
	rate int
}

func (s *slowReader) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	time.Sleep(time.Duration(n) * time.Second / time.Duration(s.rate))
	return n, err
}

// LoseAnswer lets a request have its effect and resets the connection.
func LoseAnswer(p *Proxy, w http.ResponseWriter, r *http.Request) {
	p.Pass(httptest.NewRecorder(), r.WithContext(context.WithoutCancel(r.Context())))
	Cut(w)
}

// Damage changes a byte of the request on its way.
func Damage(p *Proxy, w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	body[len(body)/2] ^= 1
	r.Body = io.NopCloser(bytes.NewReader(body))
	p.Pass(w, r)
}

// Edit passes a request on and changes the answer's headers.
func Edit(change func(http.Header)) Fault {
	return func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		p.Pass(answer, r)
		change(answer.Header())
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = io.Copy(w, answer.Body)
	}
}

// begin sends n bytes of an answer's body, under its whole header.
func begin(p *Proxy, w http.ResponseWriter, r *http.Request, n int) {
	answer := httptest.NewRecorder()
	p.Pass(answer, r)
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes()[:min(n, answer.Body.Len())])
	_ = http.NewResponseController(w).Flush()
}

// BreakAfter sends n bytes of an answer's body and resets the connection.
func BreakAfter(n int) Fault {
	return func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		begin(p, w, r, n)
		time.Sleep(20 * time.Millisecond) // a reset overtakes what was sent
		Cut(w)
	}
}

// Freeze sends n bytes of an answer's body and then nothing.
func Freeze(n int) Fault {
	return func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		begin(p, w, r, n)
		Hang(p, w, r)
	}
}

// Spoil changes the middle byte of an answer's body on its way.
func Spoil(p *Proxy, w http.ResponseWriter, r *http.Request) {
	answer := httptest.NewRecorder()
	p.Pass(answer, r)
	body := answer.Body.Bytes()
	if len(body) > 0 {
		body[len(body)/2] ^= 1
	}
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	_, _ = w.Write(body)
}

// Drip passes an answer back at so many bytes a second.
func Drip(rate int) Fault {
	return func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		p.Pass(&slowWriter{w, rate}, r)
	}
}

type slowWriter struct {
	http.ResponseWriter
	rate int
}

func (s *slowWriter) Write(b []byte) (n int, err error) {
	for piece := range slices.Chunk(b, max(1, s.rate/10)) {
		m, err := s.ResponseWriter.Write(piece)
		if n += m; err != nil {
			return n, err
		}
		_ = http.NewResponseController(s.ResponseWriter).Flush()
		time.Sleep(time.Duration(m) * time.Second / time.Duration(s.rate))
	}
	return n, nil
}

// Gate holds requests until it is opened.
type Gate struct {
	reached, open chan struct{}
	first, last   sync.Once
}

// NewGate returns a closed gate.
func NewGate() *Gate { return &Gate{reached: make(chan struct{}), open: make(chan struct{})} }

// Reached is closed when the first request waits.
func (g *Gate) Reached() <-chan struct{} { return g.reached }

// Open lets through those that wait and all that follow.
func (g *Gate) Open() { g.last.Do(func() { close(g.open) }) }

// Hold is the fault that waits for the gate.
func (g *Gate) Hold(p *Proxy, w http.ResponseWriter, r *http.Request) {
	g.first.Do(func() { close(g.reached) })
	select {
	case <-g.open:
		p.Pass(w, r)
	case <-p.ended:
	case <-r.Context().Done():
	}
}
