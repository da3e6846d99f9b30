package report

import (
	"context"
	"fmt"
	"html"
	"net/http"
	"strings"
	"testing"
	"time"
)

const marker = "s3cr/et&Marker"

// Whatever a destination answers, a message of ours does not hold what its URL
// must keep to itself.
func TestNoSecretInProblems(t *testing.T) {
	const path = "/services/T0MARKER1/MARKER2xyz%2Fq?token=MARKER3%26x"
	answers := map[string]http.HandlerFunc{
		"echo": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = fmt.Fprintf(w, "Cannot POST %s %s %s %s", r.RequestURI, r.URL.Path, html.EscapeString(r.URL.Query().Get("token")), r.URL.Query().Get("token"))
		},
		"echo auth": func(w http.ResponseWriter, r *http.Request) {
			_, pw, _ := r.BasicAuth()
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = fmt.Fprint(w, "bad password ", pw)
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "https://u:MARKER4@127.0.0.1"+r.RequestURI)
			w.WriteHeader(http.StatusFound)
		},
		"not found": http.NotFound,
		"hang":      hang,
		"abort":     func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"garbage": func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = fmt.Fprintf(conn, "NONSENSE %s\r\n\r\n", r.RequestURI)
				_ = conn.Close()
			}
		},
	}
	for name, answer := range answers {
		s := newSink(t, answer)
		withUser := strings.Replace(s.URL, "://", "://user:MARKER5pw@", 1)
		r := newReporter(Options{
			APIBaseURL: withUser, Webhook: withUser + path, Pushgateway: withUser, Timeout: limit,
		})
		problems := r.Send(t.Context(), aRun(true))
		if len(problems) != 3 {
			t.Errorf("%s: %v", name, problems)
		}
		for _, p := range problems {
			if text := fmt.Sprintf("%v %+v %#v %q", p, p, p.Cause, p.Remedy); strings.Contains(text, "MARKER") {
				t.Errorf("%s: %s", name, text)
			}
		}
		if name == "echo" {
			if !strings.Contains(problems[1].Error(), "Cannot POST") {
				t.Errorf("the answer's harmless part is not told: %v", problems[1])
			}
			for _, got := range s.requests() {
				if got.user != "user" {
					t.Errorf("%s was sent without its credentials", got.path)
				}
			}
		}
	}
}

func TestNoSecretOfUnusableURLs(t *testing.T) {
	for _, raw := range []string{
		"://" + marker, "hooks.slack.com/services/" + marker, "ftp://h/" + marker, "http://h ost/" + marker,
		"http://h/%zz" + marker, "http:///" + marker, "http://u:" + marker + "\x00@h/", "https://[::1/" + marker,
	} {
		r := newReporter(Options{APIBaseURL: raw, Webhook: raw, Timeout: limit})
		problems := r.Send(t.Context(), aRun(true))
		if len(problems) != 2 {
			t.Errorf("%q: %v", raw, problems)
		}
		for _, p := range problems {
			if strings.Contains(fmt.Sprintf("%v %+v", p, p), "Marker") || p.Kind != Local || p.Remedy == "" {
				t.Errorf("%v (%s)", p, p.Kind)
			}
		}
	}
}

func TestNoSecretWhenUnreachable(t *testing.T) {
	for _, host := range []string{"127.0.0.1:1", "127.0.0.1:99999", "nohost.invalid"} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		r := newReporter(Options{
			Webhook: "http://user:MARKER1@" + host + "/MARKER2", Pushgateway: "user:MARKER3@" + host,
			HTTP: &http.Client{Transport: offline{}},
		})
		for _, p := range r.Send(ctx, aRun(true)) {
			if strings.Contains(p.Error(), "MARKER") || !strings.Contains(p.Error(), strings.Split(host, ":")[0]) {
				t.Errorf("%v", p)
			}
		}
		cancel()
	}
}

// offline keeps the tests from asking a name server.
type offline struct{}

func (offline) RoundTrip(req *http.Request) (*http.Response, error) {
	if strings.HasPrefix(req.URL.Host, "127.0.0.1:") {
		return http.DefaultTransport.RoundTrip(req)
	}
	return nil, fmt.Errorf("lookup %s: no such host, asked for %s", req.URL.Host, req.URL)
}
