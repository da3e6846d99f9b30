package httpx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestJSON(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = fmt.Fprintf(w, `{"user":%q,"password":%q}`, user, password)
	})
	var got struct{ User, Password string }
	a, err := New().JSON(t.Context(), Request{URL: url + "/x?y=1", User: "u", Password: "p"}, &got)
	if err != nil || got.User != "u" || got.Password != "p" || a.Type != "application/json" || a.Date.IsZero() || a.FirstByte <= 0 {
		t.Errorf("%+v, %+v, %v", got, a, err)
	}
}

// TestBadAnswers: each is told as what it is, and none as a good answer.
func TestBadAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		kind    Kind
		says    string
	}{
		{"html for JSON", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<!doctype html><html>") }, Garbage, `not JSON: it begins with "<!doctype html>`},
		{"binary", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte{0, 0x1b, 0xff, '['}) }, Garbage, `begins with "\x00\x1b\xff["`},
		{"empty", func(http.ResponseWriter, *http.Request) {}, Garbage, "the answer is empty"},
		{"null", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, " null\n") }, Garbage, "the answer is null"},
		{"wrong shape", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "[1]") }, Garbage, "a JSON array of the wrong shape"},
		{"wrong type", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"user":{"name":1}}`) }, Garbage, `"user" is of type object in the answer, not string`},
		{"truncated JSON", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"user":"x`) }, Garbage, "not JSON"},
		{"two documents", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"user":"x"}{}`) }, Garbage, "not JSON"},
		{"shorter than announced", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{}")
		}, Garbage, "the answer breaks off"},
		{"huge", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 5000)) }, Garbage, "longer than 4096 bytes"},
		{"endless", func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := io.WriteString(w, strings.Repeat("x", 1000)); err != nil {
					return
				}
			}
		}, Garbage, "longer than 4096 bytes"},
		{"drips for ever", func(w http.ResponseWriter, r *http.Request) {
			for {
				_, _ = io.WriteString(w, " ")
				_ = http.NewResponseController(w).Flush()
				select {
				case <-r.Context().Done():
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		}, Garbage, "the answer breaks off: no answer within"},
		{"silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, NoAnswer, "no answer within"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example/login?x=1", http.StatusFound)
		}, Refused, "a redirect to https://evil.example, which is not followed"},
		{"not found", http.NotFound, Refused, `HTTP 404 Not Found: "404 page not found"`},
		{"huge headers", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", maxHeaderBytes)) }, NoAnswer, "exceeded"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := serve(t, tt.handler)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var v struct {
				User string `json:"user"`
			}
			_, err := New().JSON(ctx, Request{URL: url + "/?token=hunter2", MaxBytes: 4096}, &v)
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Kind != tt.kind || !strings.Contains(err.Error(), tt.says) || !strings.HasPrefix(err.Error(), url+"/: ") {
				t.Errorf("got kind %v: %v; want %v: %s", e, err, tt.kind, tt.says)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the query is shown: %v", err)
			}
		})
	}
}

func TestNoServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + l.Addr().String()
	_ = l.Close()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	go func() {
		for {
			c, err := raw.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("-ERR unknown command\r\n"))
			_ = c.Close()
		}
	}()
	for url, says := range map[string]string{
		closed:                           "connection refused: nothing listens there",
		"http://" + raw.Addr().String():  "",
		"http://u:hunter2@127.0.0.1:1/":  "http://127.0.0.1:1/: ",
		"http://no-such-host.invalid/":   "no-such-host.invalid",
		"http://hunter2:\x00@127.0.0.1/": "not a URL",
	} {
		_, err := (&Client{}).Get(t.Context(), Request{URL: url})
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"", "null", "{}", "[", `{"a":1}`, `{"a":"x","b":[1,2,{}]}`, "<html>", "\x00\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var v struct {
			A string
			B []int
		}
		err := Decode(body, &v)
		if err != nil && (len(err.Error()) > 500 || strings.ContainsAny(err.Error(), "\n\x1b\x00")) {
			t.Errorf("%q: %q", body, err)
		}
	})
}
