package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/health"
	"github.com/stellarescrow/escrowctl/internal/httpx"
	"github.com/stellarescrow/escrowctl/internal/incident"
	"github.com/stellarescrow/escrowctl/internal/journal"
	"github.com/stellarescrow/escrowctl/internal/state"
	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// incidentBed is a platform's memory of an incident of the last two hours, and
// an Alertmanager that knows of it.
type incidentBed struct {
	inv   *invocation
	am    *testenv.AlertmanagerServer
	now   time.Time
	state string
	said  strings.Builder
}

func newIncidentBed(t *testing.T, env ...string) *incidentBed {
	t.Helper()
	b := &incidentBed{am: testenv.Alertmanager(t, ""), now: time.Now().UTC().Truncate(time.Second)}
	b.inv = invoke(t, append([]string{"ESCROWCTL_ALERTMANAGER_URL=" + b.am.URL}, env...)...)
	b.inv.io.Now = func() time.Time { return b.now }
	b.state = filepath.Join(mustGetwd(t), "state")
	return b
}

func (b *incidentBed) ago(d time.Duration) time.Time { return b.now.Add(-d) }

// run runs escrowctl, which must end with the code.
func (b *incidentBed) run(t *testing.T, code int, args ...string) string {
	t.Helper()
	b.inv.out.Reset()
	b.inv.errs.Reset()
	b.inv.App = New(&ui.IO{Out: &b.inv.out, Err: &b.inv.errs, Now: b.inv.io.Now}, b.inv.environ, b.inv.build)
	got := b.inv.run(t, args...)
	out := b.inv.out.String() + b.inv.errs.String()
	b.said.WriteString(out)
	if got != code {
		t.Fatalf("%q: exit %d, want %d: %s", args, got, code, out)
	}
	return out
}

// fingerprint is that of an alert of the Alertmanager.
func (b *incidentBed) fingerprint(t *testing.T, name string) string {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		list, _, err := health.ListAlerts(t.Context(), httpx.New(), b.am.URL)
		if err != nil {
			t.Fatal(err)
		}
		for _, al := range list {
			if al.Name == name {
				return al.Fingerprint
			}
		}
	}
	t.Fatalf("Alertmanager has no alert %s", name)
	return ""
}

// record keeps a finished run of a job.
func (b *incidentBed) record(t *testing.T, job string, begun time.Time, took time.Duration, outcome string, figures map[string]any, cause error) {
	t.Helper()
	at := begun
	st, err := state.Open(b.state, state.Options{Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	run, err := st.Begin(job)
	if err != nil {
		t.Fatal(err)
	}
	at = begun.Add(took)
	if err := run.Finish(outcome, 0, figures, cause); err != nil {
		t.Fatal(err)
	}
}

// remember fills the state directory and Alertmanager with what happened.
func (b *incidentBed) remember(t *testing.T, secret string) {
	t.Helper()
	alert := func(name, service, summary string, began time.Duration) {
		b.am.Post(t, testenv.Alert{Labels: map[string]string{"alertname": name, "service": service}, Annotations: map[string]string{"summary": summary}, StartsAt: b.ago(began), EndsAt: time.Now().Add(time.Hour)})
	}
	alert("ServiceDown", "api", "api is down: "+secret, 2*time.Hour)
	alert("IndexerLag", "indexer", "behind", 90*time.Minute)
	alert("Watchdog", "none", "always", 900*time.Hour)
	b.am.Silence(t, "IndexerLag", "ops", "known", time.Now().Add(time.Second), time.Now().Add(2*time.Hour))
	checks := func(pairs ...string) map[string]any {
		m := map[string]any{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return map[string]any{"checks": m}
	}
	b.record(t, shiftJob, b.ago(10*time.Hour), time.Second, "ok", checks("api", "ok", "disk", "warning"), nil)
	b.record(t, shiftJob, b.ago(110*time.Minute), time.Second, "critical", checks("api", "critical", "disk", "warning"), nil)
	b.record(t, shiftJob, b.ago(100*time.Minute), time.Second, "critical", checks("api", "critical"), nil)
	b.record(t, shiftJob, b.ago(20*time.Minute), time.Second, "warning", checks("api", "ok", "disk", "warning"), nil)
	b.record(t, "backup", b.ago(80*time.Minute), 3*time.Minute, "critical", nil, errors.New("pg_dump: password="+secret))
	b.record(t, "dr-test", b.ago(200*time.Hour), time.Hour, "ok", nil, nil)
	st, err := state.Open(b.state, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	acks := health.Handover{At: b.ago(time.Hour), Acks: []health.Ack{{ID: "api", By: "ada@ops", Why: "on it " + secret, At: b.ago(105 * time.Minute), Until: b.now.Add(time.Hour)}}}
	if err := st.Save(shiftDoc, acks); err != nil {
		t.Fatal(err)
	}
	now := b.now
	b.now = b.ago(3 * time.Hour) // an hour before it began
	b.run(t, 1, "changes", "add", "--type", "app", "--summary", "v2 "+secret, "--incomplete")
	b.now = now
	// One acknowledgement that is over, and the one that holds, in the journal.
	for ago, summary := range map[time.Duration]string{
		95 * time.Minute:  "acknowledged disk until 18:00: ordered",
		105 * time.Minute: fmt.Sprintf("acknowledged api until %s: on it %s", incident.Stamp(b.now.Add(time.Hour)), secret),
	} {
		log := journal.Log{Dir: filepath.Join(b.state, "journal"), Now: func() time.Time { return b.ago(ago) }}
		if _, err := log.Add(t.Context(), operation(ackCommand, summary)); err != nil {
			t.Fatal(err)
		}
	}
}

// timelineOf are the rows of a document's timeline, without the day.
func timelineOf(t *testing.T, doc string) []string {
	t.Helper()
	_, text, _ := strings.Cut(doc, "## Timeline")
	text, _, found := strings.Cut(text, "Sources:")
	if !found {
		t.Fatalf("there is no timeline:\n%s", doc)
	}
	var rows []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "| 2") {
			rows = append(rows, strings.TrimSpace(line))
		}
	}
	return rows
}

// TestIncidentFromAlert: the review of a real alert, its timeline from every
// source, sorted, in UTC.
func TestIncidentFromAlert(t *testing.T) {
	b := newIncidentBed(t)
	b.remember(t, "nothing")
	print := b.fingerprint(t, "ServiceDown")
	var made struct {
		Review struct {
			incident.Record
			Missing map[string]string `json:"missing_sources"`
		}
	}
	if err := json.Unmarshal([]byte(b.run(t, 0, "incident", "new", "--from", "alert", print[:8], "--json")), &made); err != nil {
		t.Fatal(err)
	}
	start := b.ago(2 * time.Hour)
	if r := made.Review; r.Priority.String() != "P1" || !r.Start.Equal(start) || !r.End.IsZero() || !r.Due.Equal(b.now.Add(48*time.Hour)) || r.ID != incident.NewID(start, nil) || len(r.Missing) != 0 {
		t.Errorf("recorded: %+v", r)
	}
	if made.Review.File != filepath.Join(b.state, "reviews", made.Review.ID+".md") {
		t.Errorf("written to %s", made.Review.File)
	}
	doc := read(t, made.Review.File)
	at := func(ago time.Duration) string { return b.ago(ago).Format("2006-01-02 15:04:05") }
	want := []string{
		"| " + at(3*time.Hour) + " | change journal | change 1 (application, ok): v2 nothing; lacking: approval of the on-call lead",
		"| " + at(2*time.Hour) + " | this review | the incident begins |",
		"| " + at(2*time.Hour) + " | Alertmanager | fires: ServiceDown:api: api is down: nothing (the alert of this review) |",
		"| " + at(110*time.Minute) + " | shift checks | api: ok -> critical |",
		"| " + at(105*time.Minute) + " | shift checks | acknowledged api until",
		"| " + at(95*time.Minute) + " | shift checks | acknowledged disk until 18:00: ordered |",
		"| " + at(90*time.Minute) + " | Alertmanager | fires: IndexerLag:indexer: behind",
		"| " + at(77*time.Minute) + " | run records | backup: critical, after 3m 0s: pg\\_dump: password=xxxxx |",
		"| " + at(20*time.Minute) + " | shift checks | api: critical -> ok |",
	}
	rows := timelineOf(t, doc)
	for i, w := range want {
		if i >= len(rows) || !strings.HasPrefix(rows[i], w) {
			t.Fatalf("row %d is not %q:\n%s", i, w, strings.Join(rows, "\n"))
		}
	}
	if len(rows) > len(want)+1 {
		t.Errorf("more than happened:\n%s", strings.Join(rows, "\n"))
	}
	for _, w := range []string{
		"# Post-incident review: ServiceDown:api: api is down: nothing", "| Alert | ServiceDown:api (" + print + ") |", "| Ended | ongoing |",
		"| Review due | " + incident.Stamp(b.now.Add(48*time.Hour)) + " |", "TODO: 2 h 0 min so far, from " + incident.Stamp(start), "The first signal in the sources came at " + incident.Stamp(start) + ".",
		"- Alertmanager: ", "- shift checks: ", "- run records: 1 from", "- change journal: 1 from",
	} {
		if !strings.Contains(doc, w) {
			t.Errorf("the document lacks %q:\n%s", w, doc)
		}
	}
	if strings.Contains(doc, "MISSING") || strings.Contains(doc, "ada@ops") || strings.Contains(doc, "Watchdog") {
		t.Errorf("what should not be there is:\n%s", doc)
	}
	if list := b.run(t, 0, "changes", "list"); !strings.Contains(list, "operation") || !strings.Contains(list, "review "+made.Review.ID+" (P1) begun") {
		t.Errorf("the journal has\n%s", list)
	}
	if out := b.run(t, 3, "incident", "new", "--from", "alert", "ffffffffffffffff"); !strings.Contains(out, print+" (ServiceDown:api)") || !strings.Contains(out, "give --start and --end without --from") {
		t.Errorf("of an alert that is not there it says %s", out)
	}
}

// TestIncidentMissingSources: what cannot be read is named, in the document, on
// stderr and by the exit code.
func TestIncidentMissingSources(t *testing.T) {
	b := newIncidentBed(t)
	b.remember(t, "nothing")
	b.am.Stop(t)
	if out := b.run(t, 3, "incident", "new", "--from", "alert", "5f3c9a1b"); !strings.Contains(out, "connection refused") || !strings.Contains(out, "give --start and --priority") {
		t.Errorf("it says %s", out)
	}
	write(t, filepath.Join(b.state, "documents", shiftDoc+".json"), "{")
	for _, path := range []string{filepath.Join(b.state, "runs", "backup.jsonl"), filepath.Join(b.state, "journal", "changes.jsonl")} {
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	doc := b.run(t, 0, "incident", "new", "--from", "alert", "5f3c9a1b", "--priority", "P2", "--start", "2h", "--end", "1h", "--dry-run")
	for _, w := range []string{"- **MISSING**: Alertmanager: ", "- **MISSING**: shift checks: ", "- **MISSING**: run records: ", "- **MISSING**: change journal: ", "| Review due | " + incident.Stamp(b.now.Add(47*time.Hour)) + " |", "- Duration: 1 h 0 min, from"} {
		if !strings.Contains(doc, w) {
			t.Errorf("the document lacks %q:\n%s", w, doc)
		}
	}
	if rows := timelineOf(t, doc); len(rows) != 2 {
		t.Errorf("the timeline is\n%s", strings.Join(rows, "\n"))
	}
	if left, _ := filepath.Glob(filepath.Join(b.state, "reviews", "*")); len(left) > 0 {
		t.Errorf("a dry run wrote %q", left)
	}
	if out := b.run(t, 1, "incident", "new", "--priority", "P2", "--start", "2h", "--end", "1h", "--out", "x.md"); strings.Count(out, "the timeline lacks") != 4 {
		t.Errorf("it says %s", out)
	}
}

// TestIncidentLife: begun, checked, written by hand, closed, its action overdue,
// done; and how it shows in shift-check and the metrics all the while.
func TestIncidentLife(t *testing.T) {
	metrics := t.TempDir()
	b := newIncidentBed(t, "ESCROWCTL_REPORT_TEXTFILE_DIR="+metrics)
	shift := func(code int, parts ...string) {
		t.Helper()
		out := b.run(t, code, "shift-check", "--only", "reviews")
		for _, p := range parts {
			if !strings.Contains(out, p) {
				t.Errorf("shift-check lacks %q:\n%s", p, out)
			}
		}
	}
	gauge := func(name, value string) {
		t.Helper()
		if text := read(t, filepath.Join(metrics, "escrowctl_incident.prom")); !regexp.MustCompile(`(?m)^escrowctl_incident_` + name + ` ` + value + `$`).MatchString(text) {
			t.Errorf("the metrics have no %s %s:\n%s", name, value, text)
		}
	}
	shift(0, "ok        reviews     none open")
	b.run(t, 0, "incident", "list")
	b.run(t, 0, "incident", "new", "--priority", "P1", "--start", "3h", "--end", "1h", "--out", "sub/review.md", "--title", "down")
	id := incident.NewID(b.ago(3*time.Hour), nil)
	due := b.now.Add(47 * time.Hour)
	file := filepath.Join(mustGetwd(t), "sub", "review.md")
	before := read(t, file)
	if out := b.run(t, 3, "incident", "new", "--priority", "P1", "--start", "3h", "--out", "sub/review.md"); !strings.Contains(out, "is there already, and nothing is overwritten") || read(t, file) != before {
		t.Errorf("it says %s", out)
	}
	gauge("reviews_open", "1")
	gauge(`review_due_timestamp_seconds\{id="`+id+`",priority="P1"\}`, regexp.QuoteMeta(jsonNumber(due.Unix())))
	shift(1, "reviews/"+id+"  WARNING", "is open, due", "P1        respond by", "section 6.2", "escrowctl incident check "+id)
	if out := b.run(t, 1, "incident", "check", "sub/review.md"); !strings.Contains(out, "WARNING") || !strings.Contains(out, "has no owner") {
		t.Errorf("check says %s", out)
	}
	if out := b.run(t, 3, "incident", "close", id); !strings.Contains(out, "is not closed: 9 findings") {
		t.Errorf("close says %s", out)
	}

	b.now = due.Add(time.Hour)
	shift(2, "was due 60 min ago", "CRITICAL")
	b.run(t, 2, "incident", "list")
	b.run(t, 2, "incident", "check", id)
	gauge("reviews_overdue", "1")

	day := b.now.AddDate(0, 0, 3).Format(time.DateOnly)
	done := regexp.MustCompile(`(?m)^\| TODO.*$`).ReplaceAllString(before, "| alert on it | Ada | "+day+" | open |")
	done = strings.ReplaceAll(done, "TODO:", "Done:")
	write(t, file, strings.ReplaceAll(done, "\n", "\r\n"))
	shift(2, "whole, to be closed", "escrowctl incident close "+id)
	b.run(t, 0, "incident", "close", id, "--dry-run")
	shift(2)
	if out := b.run(t, 0, "incident", "close", "sub/review.md"); !strings.Contains(out, "closed, 1h late; 1 action is left to do") {
		t.Errorf("close says %s", out)
	}
	if list := b.run(t, 0, "changes", "list"); !strings.Contains(list, "review "+id+" (P1) closed, 1h late") {
		t.Errorf("the journal has\n%s", list)
	}
	gauge("reviews_open", "0")
	gauge("actions_open", "1")
	shift(0, "0 open, 1 closed; 1 actions to do")

	b.now = b.now.AddDate(0, 0, 4)
	shift(1, "reviews/"+id+":actions  WARNING", "alert on it (Ada, "+day+")")
	if out := b.run(t, 1, "incident", "list"); !strings.Contains(out, "1 overdue") {
		t.Errorf("list says %s", out)
	}
	gauge("actions_overdue", "1")
	if err := os.Rename(file, "moved.md"); err != nil {
		t.Fatal(err)
	}
	shift(3, "its document cannot be read", "whether 1 actions are done is not known")
	write(t, "moved.md", strings.Replace(read(t, "moved.md"), "| open |", "| done |", 1))
	b.run(t, 0, "incident", "close", "moved.md")
	shift(0, "0 open, 1 closed; 0 actions to do")
	if out := b.run(t, 0, "changes", "verify"); !strings.Contains(out, "OK") {
		t.Errorf("verify says %s", out)
	}
}

func jsonNumber(n int64) string {
	body, _ := json.Marshal(float64(n))
	text := string(body)
	return strings.Replace(text[:1]+"."+strings.TrimRight(text[1:], "0")+"e+09", ".e", "e", 1)
}

// TestIncidentMisuse: nothing is written, and the message says the way out.
func TestIncidentMisuse(t *testing.T) {
	inv := invoke(t, "ESCROWCTL_ALERTMANAGER_URL=off")
	for _, tt := range []struct{ args, want string }{
		{"new", "--priority is needed"},
		{"new --priority P1", "when did it begin? give --start, or --from alert FINGERPRINT"},
		{"new --priority high --start 1h", `--priority "high": P1, P2, P3 or P4`},
		{"new --priority P1 --start soon", `--start "soon" is no time`},
		{"new --priority P1 --start 2027-01-01T00:00:00Z", "is in the future"},
		{"new --priority P1 --start 1h --end 2h", "it cannot have ended 2026-01-02 01:04:05 UTC, before it began"},
		{"new --priority P1 --start 1h --from prometheus x", `--from "prometheus": write --from alert FINGERPRINT`},
		{"new --priority P1 --start 1h --from alert", "--from alert: of which alert?"},
		{"new --from alert 5f3c9a1b", "alertmanager.url is off"},
		{"check", "of which review?"},
		{"check none.md", "none.md is neither the ID of a review"},
		{"close", "give the ID or the file of one review"},
		{"close none", "none is neither the ID of a review"},
	} {
		inv.out.Reset()
		inv.errs.Reset()
		if code := inv.run(t, append([]string{"incident"}, strings.Fields(tt.args)...)...); code != 3 || !strings.Contains(inv.out.String()+inv.errs.String(), tt.want) {
			t.Errorf("%s: exit %d: %s%s", tt.args, code, &inv.out, &inv.errs)
		}
	}
	if left, _ := filepath.Glob("state/reviews/*"); len(left) > 0 {
		t.Errorf("it wrote %q", left)
	}
	lock, err := state.Open("state", state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	held, err := lock.Lock(incidentJob)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Unlock() }()
	if code := inv.run(t, "incident", "new", "--priority", "P1", "--start", "1h"); code != 75 {
		t.Errorf("beside another run: exit %d: %s", code, &inv.errs)
	}
}

// TestIncidentSecrets: marker secrets in every source come out nowhere.
func TestIncidentSecrets(t *testing.T) {
	const marker = "m4rk3r-incident"
	dir := t.TempDir()
	env := filepath.Join(dir, ".env")
	if err := os.WriteFile(env, []byte("API_KEYS="+marker+"-one,"+marker+"-two\nPOSTGRES_PASSWORD="+marker+"-pg\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	metrics := filepath.Join(dir, "metrics")
	if err := os.Mkdir(metrics, 0o700); err != nil {
		t.Fatal(err)
	}
	b := newIncidentBed(t, "ESCROWCTL_COMPOSE_ENV_FILE="+env, "DATABASE_URL=postgres://u:"+marker+"-db@127.0.0.1/x", "GRAFANA_ADMIN_PASSWORD="+marker+"-grafana",
		"BACKUP_ALERT_WEBHOOK=http://127.0.0.1:9/"+marker+"-hook", "ADMIN_KEYS="+marker+"-admin", "ESCROWCTL_REPORT_TEXTFILE_DIR="+metrics)
	b.remember(t, strings.Join([]string{
		marker + "-one", marker + "-two", marker + "-pg", marker + "-db", marker + "-grafana", marker + "-admin", "http://127.0.0.1:9/" + marker + "-hook",
		"redis://:" + marker + "-elsewhere@cache:6379", "TOKEN=" + marker + "-setting",
	}, " "))
	// What the sources themselves hold is theirs: look at what is made of them.
	b.said.Reset()
	print := b.fingerprint(t, "ServiceDown")
	b.run(t, 0, "incident", "new", "--from", "alert", print, "--title", "with "+marker+"-one", "--out", filepath.Join(dir, "review.md"))
	b.run(t, 0, "incident", "new", "--from", "alert", print, "--dry-run")
	b.run(t, 1, "incident", "check", filepath.Join(dir, "review.md"))
	b.run(t, 1, "incident", "list", "--json")
	b.run(t, 3, "incident", "close", filepath.Join(dir, "review.md"))
	b.run(t, 1, "shift-check", "--only", "reviews", "--json")
	doc := read(t, filepath.Join(dir, "review.md"))
	if !strings.Contains(doc, "sha256:") || !strings.Contains(doc, "redis://:xxxxx@cache:6379") || len(timelineOf(t, doc)) < 7 {
		t.Errorf("nothing was scrubbed, so nothing is proven:\n%s", doc)
	}
	texts := map[string]string{"the output": b.said.String(), "the document": doc, "the records": read(t, filepath.Join(b.state, "documents", incident.RecordsDoc+".json"))}
	texts["the metrics"] = read(t, filepath.Join(metrics, "escrowctl_incident.prom"))
	journal := strings.Split(strings.TrimSpace(read(t, filepath.Join(b.state, "journal", "changes.jsonl"))), "\n")
	texts["the journal"] = journal[len(journal)-1]
	if !strings.Contains(texts["the journal"], "incident new") {
		t.Errorf("the journal ends with %s", texts["the journal"])
	}
	for where, text := range texts {
		if i := strings.Index(text, marker); i >= 0 {
			t.Errorf("a secret in %s: ...%s", where, text[max(0, i-60):min(len(text), i+40)])
		}
	}
}

// TestStatusChanges: what a shift check left out is not a change, and the first
// that was made tells what it found.
func TestStatusChanges(t *testing.T) {
	last := map[string]string{}
	for i, tt := range []struct {
		checks  map[string]any
		outcome state.Outcome
		want    string
		worse   bool
	}{
		{map[string]any{"a": "ok", "b": "warning", "c": "nonsense"}, state.Warning, "b: warning", true},
		{map[string]any{"a": "critical"}, state.Critical, "a: ok -> critical", true},
		{map[string]any{"b": "warning"}, state.Warning, "", false},
		{map[string]any{"a": "ok", "b": "critical"}, state.Critical, "a: critical -> ok; b: warning -> critical", true},
		{nil, state.Interrupted, "the shift check ended interrupted", false},
		{map[string]any{"b": "ok"}, state.OK, "b: critical -> ok", false},
	} {
		if text, worse := statusChanges(last, state.Run{Outcome: tt.outcome, Figures: map[string]any{"checks": tt.checks}}); text != tt.want || worse != tt.worse {
			t.Errorf("%d: %q, %v, want %q, %v", i, text, worse, tt.want, tt.worse)
		}
	}
}

// TestShiftCheckNamesReviews: the check is one of a whole shift check.
func TestShiftCheckNamesReviews(t *testing.T) {
	if !slices.Contains(checkIDs(), health.ReviewsID) {
		t.Error("shift-check does not look at reviews")
	}
	if s := (incident.Standing{Problem: errors.New("x")}).Status(testNow()); s != check.Unknown {
		t.Errorf("what cannot be read is %s", s)
	}
}
