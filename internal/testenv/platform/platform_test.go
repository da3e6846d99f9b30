package platform_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/testenv/platform"
)

// call sends a request and returns status and body.
func call(t *testing.T, method, url, body string, headers ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// fields are the keys of a JSON object, sorted, and the object.
func fields(t *testing.T, text string) ([]string, map[string]any) {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	var keys []string
	for key := range object {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys, object
}

func TestIndexerShapes(t *testing.T) {
	t.Parallel()
	x := platform.NewIndexer(time.Now)
	url := testenv.Serve(t, x)
	metrics := []string{
		"active_ws_connections", "avg_response_ms", "error_rate", "events_indexed_total", "last_ledger_processed",
		"p95_response_ms", "requests_per_minute", "requests_total", "uptime_seconds",
	}
	for path, want := range map[string][]string{
		"/health":         {"database", "node_env", "status", "timestamp", "uptime_seconds"},
		"/health/metrics": metrics,
		"/health/ready":   {"components", "metrics", "status", "version"},
	} {
		code, text := call(t, "GET", url+path, "")
		if keys, _ := fields(t, text); code != 200 || !slices.Equal(keys, want) {
			t.Errorf("%s: %d %v, want %v", path, code, keys, want)
		}
	}

	lag := 12.0
	x.Set(func(s *platform.IndexerSettings) { s.LagSeconds, s.Status, s.NoLedger = &lag, "degraded", true })
	code, text := call(t, "GET", url+"/health", "")
	if _, o := fields(t, text); code != 503 || o["lag_seconds"] != 12.0 || o["status"] != "degraded" {
		t.Errorf("degraded with a lag: %d %s", code, text)
	}
	_, text = call(t, "GET", url+"/health/metrics", "")
	if _, o := fields(t, text); o["last_ledger_processed"] != nil {
		t.Errorf("no ledger: %s", text)
	}
}

func TestIndexerKeepsEvents(t *testing.T) {
	t.Parallel()
	x := platform.NewIndexer(time.Now)
	url := testenv.Serve(t, x) + "/api/metrics"
	const event = `{"source":"ssl","type":"cert_expiry_days","value":3,"domain":"x"}`
	if code, _ := call(t, "POST", url, event); code != 201 {
		t.Errorf("an event: %d", code)
	}
	if code, _ := call(t, "POST", url, `[1]`); code != 400 {
		t.Errorf("no event: %d", code)
	}
	if got := x.Events(); len(got) != 1 || string(got[0]) != event {
		t.Errorf("kept: %s", got)
	}
}

func TestAPIKeys(t *testing.T) {
	t.Parallel()
	url := testenv.Serve(t, platform.NewAPI("one, two,", "boss"))
	for _, tt := range []struct {
		path, header, value string
		want                int
	}{
		{"/health", "X-API-Key", "", 200},
		{"/api/trades", "X-API-Key", "", 401},
		{"/api/trades", "X-API-Key", "one", 200},
		{"/api/trades", "X-API-Key", "two", 200},
		{"/api/trades", "Authorization", "Bearer two", 200},
		{"/api/trades", "Authorization", "two", 401},
		{"/api/trades", "X-API-Key", "three", 401},
		{"/api/trades", "X-API-Key", "boss", 200},
		{"/api/admin/keys", "X-API-Key", "one", 401},
		{"/api/admin/keys", "X-API-Key", "boss", 200},
	} {
		if code, _ := call(t, "GET", url+tt.path, "", tt.header, tt.value); code != tt.want {
			t.Errorf("%s with %s %s: %d, want %d", tt.path, tt.header, tt.value, code, tt.want)
		}
	}
	if code, _ := call(t, "GET", url+"/api/trades", ""); code != 401 {
		t.Errorf("without a key: %d", code)
	}
	none := testenv.Serve(t, platform.NewAPI("", ""))
	if code, _ := call(t, "GET", none+"/api/trades", "", "X-API-Key", ""); code != 401 {
		t.Errorf("an API without keys takes the empty one: %d", code)
	}
}

func TestHorizonAndIndexerAgree(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 12, 0, 3, 0, time.UTC)
	h, x := platform.NewHorizon(func() time.Time { return at }), platform.NewIndexer(func() time.Time { return at })
	_, root := call(t, "GET", testenv.Serve(t, h)+"/", "")
	_, metrics := call(t, "GET", testenv.Serve(t, x)+"/health/metrics", "")
	_, a := fields(t, root)
	_, b := fields(t, metrics)
	if a["history_latest_ledger"] == nil || a["history_latest_ledger"] != b["last_ledger_processed"] {
		t.Errorf("Horizon at %v, indexer at %v", a["history_latest_ledger"], b["last_ledger_processed"])
	}
	if platform.Ledger(at.Add(5*time.Second)) != platform.Ledger(at)+1 {
		t.Error("no ledger closes within 5 s")
	}
}

func TestGrafanaPassword(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func(env string) (*platform.Grafana, string) {
		g, err := platform.NewGrafana(env, dir)
		if err != nil {
			t.Fatal(err)
		}
		return g, strings.Replace(testenv.Serve(t, g), "http://", "http://admin:"+g.Password()+"@", 1)
	}
	_, url := open("first")
	if code, text := call(t, "GET", url+"/api/search", ""); code != 200 || !strings.Contains(text, `"Web Vitals"`) {
		t.Errorf("search: %d %s", code, text)
	}
	wrong := strings.Replace(url, "first", "wrong", 1)
	if code, _ := call(t, "GET", wrong+"/api/search", ""); code != 401 {
		t.Errorf("search with a wrong password: %d", code)
	}
	const change = `{"oldPassword":%q,"newPassword":"second","confirmNew":"second"}`
	if code, _ := call(t, "PUT", url+"/api/user/password", fmt.Sprintf(change, "other")); code != 401 {
		t.Errorf("change with a wrong old password: %d", code)
	}
	if code, text := call(t, "PUT", url+"/api/user/password", fmt.Sprintf(change, "first")); code != 200 {
		t.Errorf("change: %d %s", code, text)
	}
	if code, _ := call(t, "GET", url+"/api/user", ""); code != 401 {
		t.Errorf("the old password still opens: %d", code)
	}
	// Like Grafana, which keeps it in its database.
	if g, _ := open("third"); g.Password() != "second" {
		t.Error("the environment changed the password of a Grafana that has one")
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	x := platform.NewIndexer(time.Now)
	url := testenv.Serve(t, x)
	get := func(limit time.Duration) (string, error) {
		client := http.Client{Timeout: limit}
		resp, err := client.Get(url + "/health")
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		return fmt.Sprint(resp.StatusCode, " ", string(text)), err
	}
	const short, long = 200 * time.Millisecond, 30 * time.Second
	for _, tt := range []struct {
		fault string
		limit time.Duration
		fails bool
		says  string
	}{
		{platform.Hang, short, true, ""},
		{platform.Truncated, long, true, ""},
		{platform.Drop, long, true, ""},
		{platform.Slow + "1h", short, true, ""},
		{platform.Endless, long, false, `{"status":"ok",{"status"`},
		{platform.HTML, long, false, "200 <html>"},
		{platform.Binary, long, false, "200 \x00\xff"},
		{platform.Empty, long, false, "200 "},
		{platform.Slow + "1ms", long, false, `"status":"ok"`},
		{platform.Status + "502", long, false, "502 <html>"},
		{platform.Body + "null", long, false, "200 null"},
		{"", long, false, `"status":"ok"`},
	} {
		if err := x.Merge(fmt.Appendf(nil, `{"faults":{"/health":%q}}`, tt.fault)); err != nil {
			t.Errorf("%q: %v", tt.fault, err)
		}
		text, err := get(tt.limit)
		if (err != nil) != tt.fails || !strings.Contains(text, tt.says) {
			t.Errorf("%q: %.80q, %v", tt.fault, text, err)
		}
		// No other path is touched, and the way to mend it stays open.
		if code, _ := call(t, "GET", url+"/health/ready", ""); code != 200 {
			t.Errorf("%q: /health/ready: %d", tt.fault, code)
		}
	}
	for _, bad := range []string{`{"faults":{"/health":"nonsense"}}`, `{"faults":{"/health":"status:9"}}`, `{"status":1}`, `x`} {
		if code, _ := call(t, "POST", url+platform.AdminPath, bad); code != 400 {
			t.Errorf("%s: %d", bad, code)
		}
	}
	if code, _ := call(t, "POST", url+platform.AdminPath, `{"ledgers_behind":7,"faults":{"*":"status:503"}}`); code != 200 || x.Settings().LedgersBehind != 7 {
		t.Errorf("setting from outside: %d %+v", code, x.Settings())
	}
	if code, _ := call(t, "GET", url+"/health/ready", ""); code != 503 {
		t.Errorf("a fault of every path: %d", code)
	}
}
