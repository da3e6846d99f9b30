package platform

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The faults that a path can be given. Slow and Status are followed by their
// argument, as in slow:500ms and status:404; Body by the text to answer with.
const (
	Hang      = "hang"      // takes the request and stays silent
	Truncated = "truncated" // the answer breaks off in the middle
	Endless   = "endless"   // the answer never ends
	HTML      = "html"      // an HTML page in place of JSON
	Binary    = "binary"    // bytes that are no text
	Empty     = "empty"     // 200 and nothing
	Drop      = "drop"      // the connection ends without an answer
	Slow      = "slow:"     // the first byte comes late
	Status    = "status:"   // an error status, with a proxy's page
	Body      = "body:"     // 200 and this text
)

// known says whether there is such a fault.
func known(fault string) error {
	switch fault {
	case "", Hang, Truncated, Endless, HTML, Binary, Empty, Drop:
		return nil
	}
	if text, ok := strings.CutPrefix(fault, Slow); ok {
		_, err := time.ParseDuration(text)
		return err
	}
	if text, ok := strings.CutPrefix(fault, Status); ok {
		code, err := strconv.Atoi(text)
		if err == nil && (code < 200 || code > 599) {
			err = errors.New("no such status")
		}
		return err
	}
	if strings.HasPrefix(fault, Body) {
		return nil
	}
	return fmt.Errorf("no such fault: %q", fault)
}

// show answers with a fault. It returns false where there is none.
func show(fault string, w http.ResponseWriter, r *http.Request, next http.Handler) bool {
	switch fault {
	case "":
		return false
	case Hang:
		<-r.Context().Done()
	case Truncated:
		truncate(w, r, next)
	case Endless:
		for line := []byte(strings.Repeat(`{"status":"ok",`, 512)); ; {
			if _, err := w.Write(line); err != nil {
				return true
			}
		}
	case HTML:
		page(w, http.StatusOK, "Welcome")
	case Binary:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(bytes.Repeat([]byte{0, 0xff, 0x1b, '[', '2', 'J', 0x80, '\n'}, 64))
	case Empty:
		w.WriteHeader(http.StatusOK)
	case Drop:
		panic(http.ErrAbortHandler)
	default:
		return showWith(fault, w, r)
	}
	return true
}

// showWith answers with a fault that has an argument, or waits and leaves the
// answer to the real handler.
func showWith(fault string, w http.ResponseWriter, r *http.Request) bool {
	if text, ok := strings.CutPrefix(fault, Slow); ok {
		wait, _ := time.ParseDuration(text) // 0 if nonsense
		select {
		case <-time.After(wait):
			return false
		case <-r.Context().Done():
			return true
		}
	}
	if text, ok := strings.CutPrefix(fault, Status); ok {
		code, _ := strconv.Atoi(text)
		page(w, max(code, 200), http.StatusText(code))
		return true
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(strings.TrimPrefix(fault, Body)))
	return true
}

func page(w http.ResponseWriter, code int, title string) {
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(code)
	fmt.Fprintf(w, "<html>\n<head><title>%s</title></head>\n<body><h1>%s</h1></body>\n</html>\n", title, title)
}

// truncate promises the whole of the real answer and sends half of it.
func truncate(w http.ResponseWriter, r *http.Request, next http.Handler) {
	whole := &recorder{header: http.Header{}, code: http.StatusOK}
	next.ServeHTTP(whole, r)
	w.Header().Set("Content-Type", whole.header.Get("Content-Type"))
	w.Header().Set("Content-Length", strconv.Itoa(whole.Len()))
	w.WriteHeader(whole.code)
	_, _ = w.Write(whole.Bytes()[:whole.Len()/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// recorder keeps an answer.
type recorder struct {
	bytes.Buffer
	header http.Header
	code   int
}

func (r *recorder) Header() http.Header  { return r.header }
func (r *recorder) WriteHeader(code int) { r.code = code }
