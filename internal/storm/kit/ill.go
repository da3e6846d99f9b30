package kit

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// hugeSize is the size of a huge answer.
const hugeSize = 100 << 20

// IllHTTP is a server that answers everything in one bad way. It counts what it
// was asked, and what could be sent of an answer before nobody read on.
type IllHTTP struct {
	URL      string
	Requests atomic.Int64
	Sent     atomic.Int64 // bytes of the huge answer of which most was taken, what lies in the kernel's buffers among them
	// Pointed counts the requests that came to the host it points to, Carried
	// those of them that brought credentials.
	Carried, Pointed atomic.Int64
}

// Illnesses are the ways in which an HTTP server can be ill, but for being dead.
func Illnesses() []string {
	return []string{"hanging", "500", "redirect to itself", "redirect elsewhere", "huge answer", "garbage", "cut short"}
}

// NewIllHTTP starts one, which ends with the test.
func NewIllHTTP(t testing.TB, illness string) *IllHTTP {
	t.Helper()
	s := new(IllHTTP)
	if illness == "dead" {
		s.URL = "http://127.0.0.1:9"
		return s
	}
	other := testenv.Serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s.Pointed.Add(1)
		if r.Header.Get("Authorization") != "" || r.Header.Get("X-Api-Key") != "" {
			s.Carried.Add(1)
		}
	}))
	s.URL = testenv.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Requests.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		switch illness {
		case "hanging":
			<-r.Context().Done()
		case "500":
			http.Error(w, "it is broken", http.StatusInternalServerError)
		case "redirect to itself":
			http.Redirect(w, r, r.URL.RequestURI(), http.StatusTemporaryRedirect)
		case "redirect elsewhere":
			// By another name: 127.0.0.1 and localhost are different hosts.
			http.Redirect(w, r, strings.Replace(other, "127.0.0.1", "localhost", 1)+r.URL.RequestURI(), http.StatusTemporaryRedirect)
		case "huge answer":
			s.flood(w)
		case "garbage":
			_, _ = w.Write(bytes.Repeat([]byte{0, 0xff, 0x1b, '[', '2', 'J', '{', '\n'}, 64))
		case "cut short":
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(`{"status":"ok","database":"connected","data":{"alerts":[`))
		default:
			panic(illness)
		}
	}))
	return s
}

// flood answers with a JSON text that does not end before hugeSize bytes.
func (s *IllHTTP) flood(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	chunk := []byte(`{"status":"ok","x":"` + strings.Repeat("x", 64<<10))
	for sent := int64(0); sent < hugeSize; {
		n, err := w.Write(chunk)
		sent += int64(n)
		for most := s.Sent.Load(); sent > most && !s.Sent.CompareAndSwap(most, sent); most = s.Sent.Load() {
		}
		if err != nil {
			return
		}
	}
}
