package report

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The bodies that the platform reads, byte for byte.
func TestEventBodies(t *testing.T) {
	type backup struct {
		Source string `json:"source"`
		Type   string `json:"type"`
		File   string `json:"file"`
		TS     int64  `json:"ts"`
	}
	for _, c := range []struct {
		event any
		want  string
	}{
		{
			backup{"backup", "backup_success", "stellar_escrow_20260101T020000Z.sql.gz", 1767225600},
			`{"source":"backup","type":"backup_success","file":"stellar_escrow_20260101T020000Z.sql.gz","ts":1767225600}`,
		},
		{
			json.RawMessage(`{"source":"dr_test","type":"recovery_test","status":"fail", "trades":0,"events":12345678901234567890,"ts":1}`),
			`{"source":"dr_test","type":"recovery_test","status":"fail", "trades":0,"events":12345678901234567890,"ts":1}`,
		},
		{
			map[string]any{"source": "ssl", "type": "cert_expiry_days", "value": -1, "domain": "a&b<ü>"},
			`{"domain":"a&b<ü>","source":"ssl","type":"cert_expiry_days","value":-1}`,
		},
	} {
		api := newSink(t, nil)
		arrived(t, newReporter(Options{APIBaseURL: api.URL}), Report{Job: "backup", Event: c.event})
		want := []request{{"POST", "/api/metrics", "application/json", "", []byte(c.want)}}
		if diff := cmp.Diff(want, api.requests(), cmp.AllowUnexported(request{})); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

func TestEventMustBeAnObject(t *testing.T) {
	api := newSink(t, nil)
	for _, event := range []any{"text", 5, []int{1}, json.RawMessage(`{"a":`), json.RawMessage(`null`), func() {}} {
		p := only(t, newReporter(Options{APIBaseURL: api.URL}).Send(t.Context(), Report{Event: event}))
		if p.Kind != Local || p.Destination != ToAPI {
			t.Errorf("%T: %v (%s)", event, p, p.Kind)
		}
	}
	if got := api.requests(); len(got) != 0 {
		t.Errorf("sent: %v", got)
	}
}

func TestAPIBaseURL(t *testing.T) {
	for base, want := range map[string]string{"": "/api/metrics", "/": "/api/metrics", "/sub/": "/sub/api/metrics"} {
		api := newSink(t, nil)
		arrived(t, newReporter(Options{APIBaseURL: api.URL + base}), aRun(true))
		if got := api.requests(); len(got) != 1 || got[0].path != want {
			t.Errorf("base %q: %v", base, got)
		}
	}
}

func TestWebhookBody(t *testing.T) {
	hook := newSink(t, nil)
	text := "*backup* <https://x?a=1&b=2|log> \"ü\"\nline 2\t\\"
	arrived(t, newReporter(Options{Webhook: hook.URL + "/services/T0/B0/abc"}), Report{Job: "backup", Text: text})
	got := hook.requests()
	if len(got) != 1 || got[0].path != "/services/T0/B0/abc" || got[0].contentType != "application/json" {
		t.Fatalf("%v", got)
	}
	var body map[string]any
	must(t, json.Unmarshal(got[0].body, &body))
	if diff := cmp.Diff(map[string]any{"text": text}, body); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestNothingToSay(t *testing.T) {
	s := newSink(t, nil)
	arrived(t, newReporter(Options{APIBaseURL: s.URL, Webhook: s.URL}), Report{Job: "backup"})
	arrived(t, newReporter(Options{}), aRun(true))
	if got := s.requests(); len(got) != 0 {
		t.Errorf("sent: %v", got)
	}
}

// What each answer means, and after which it is tried again.
func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		status       int
		api, webhook Kind
		tries        int
	}{
		{200, "", "", 1},
		{201, "", "", 1},
		{204, "", "", 1},
		{304, Rejected, Rejected, 1},
		{400, Rejected, Rejected, 1},
		{401, Rejected, Rejected, 1},
		{404, Unserved, Rejected, 1},
		{405, Unserved, Rejected, 1},
		{410, Rejected, Rejected, 1},
		{429, Unreachable, Unreachable, 3},
		{500, Unreachable, Unreachable, 3},
		{503, Unreachable, Unreachable, 3},
	} {
		api, hook := newSink(t, status(c.status)), newSink(t, status(c.status))
		problems := newReporter(Options{APIBaseURL: api.URL, Webhook: hook.URL}).Send(t.Context(), aRun(true))
		var kinds [2]Kind
		for i, p := range problems {
			kinds[i] = p.Kind
			if p.Remedy == "" || !strings.Contains(p.Error(), "HTTP ") || !strings.HasSuffix(p.Error(), p.Remedy) {
				t.Errorf("%d: no cause or remedy: %v", c.status, p)
			}
		}
		if kinds != [2]Kind{c.api, c.webhook} {
			t.Errorf("%d: %v", c.status, problems)
		}
		for _, s := range []*sink{api, hook} {
			if n := len(s.requests()); n != c.tries {
				t.Errorf("%d: %d tries, want %d", c.status, n, c.tries)
			}
		}
	}
}

func TestRecoversByTryingAgain(t *testing.T) {
	var hook *sink
	hook = newSink(t, func(w http.ResponseWriter, _ *http.Request) {
		switch len(hook.requests()) {
		case 1:
			panic(http.ErrAbortHandler) // the connection breaks without an answer
		case 2:
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	arrived(t, newReporter(Options{Webhook: hook.URL}), aRun(true))
	got := hook.requests()
	if len(got) != 3 {
		t.Fatalf("%d tries", len(got))
	}
	for i, r := range got {
		if string(r.body) != `{"text":"backup ok"}` {
			t.Errorf("try %d: %q", i+1, r.body)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	var at []time.Time
	var seconds string
	hook := newSink(t, func(w http.ResponseWriter, _ *http.Request) {
		if at = append(at, time.Now()); len(at) == 1 {
			w.Header().Set("Retry-After", seconds)
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	r := newReporter(Options{Webhook: hook.URL, Timeout: 20 * time.Second})
	seconds = "1"
	arrived(t, r, aRun(true))
	if len(at) != 2 || at[1].Sub(at[0]) < time.Second {
		t.Errorf("tried at %v", at)
	}
	// More than there is time for: told at once, not waited for.
	at, seconds = nil, "60"
	begin := time.Now()
	p := only(t, r.Send(t.Context(), aRun(true)))
	if p.Kind != Unreachable || len(at) != 1 || time.Since(begin) > 10*time.Second {
		t.Errorf("%v after %d tries and %s", p, len(at), time.Since(begin))
	}
}

func TestNobodyListens(t *testing.T) {
	const closed = "127.0.0.1:1" // tcpmux, in nobody's use
	r := newReporter(Options{APIBaseURL: "http://" + closed, Webhook: "http://" + closed, Pushgateway: closed})
	problems := r.Send(t.Context(), aRun(true))
	if len(problems) != 3 {
		t.Fatalf("%v", problems)
	}
	for _, p := range problems {
		if p.Kind != Unreachable || !strings.Contains(p.Error(), "refused (3 tries): ") || p.Remedy == "" {
			t.Errorf("%v (%s)", p, p.Kind)
		}
	}
}

// Redirects are not followed: not to another host, not endlessly, and not as a
// GET without the report.
func TestRedirects(t *testing.T) {
	other := newSink(t, nil)
	for _, code := range []int{301, 302, 303, 307, 308} {
		for name, to := range map[string]string{"another host": other.URL + "/elsewhere", "itself": "/api/metrics"} {
			s := newSink(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", to)
				w.WriteHeader(code)
			})
			r := newReporter(Options{APIBaseURL: s.URL, Webhook: s.URL + "/api/metrics", Pushgateway: s.URL})
			problems := r.Send(t.Context(), aRun(true))
			if len(problems) != 3 || len(s.requests()) != 3 {
				t.Errorf("%d to %s: %v, %d requests", code, name, problems, len(s.requests()))
			}
			for _, p := range problems {
				if p.Kind != Rejected || !strings.Contains(p.Error(), "points to http://127.0.0.1:") || strings.Contains(p.Error(), "elsewhere") {
					t.Errorf("%d to %s: %v (%s)", code, name, p, p.Kind)
				}
			}
		}
	}
	if got := other.requests(); len(got) != 0 {
		t.Errorf("the other host was sent %v", got)
	}
}

func TestInjectedClientFollowsNoRedirectsEither(t *testing.T) {
	s := newSink(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
	})
	mine := &http.Client{}
	p := only(t, newReporter(Options{Webhook: s.URL, HTTP: mine}).Send(t.Context(), aRun(true)))
	if p.Kind != Rejected || len(s.requests()) != 1 {
		t.Errorf("%v, %d requests", p, len(s.requests()))
	}
	if mine.CheckRedirect != nil {
		t.Error("the caller's client was changed")
	}
}

func TestInterrupted(t *testing.T) {
	s := newSink(t, hang)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	begin := time.Now()
	p := only(t, newReporter(Options{Webhook: s.URL, Timeout: time.Minute}).Send(ctx, aRun(true)))
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
	if p.Kind != Unreachable || !strings.Contains(p.Error(), "interrupted") {
		t.Errorf("%v", p)
	}
}
