package year

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// The week of every test run.
const (
	fewSeed    = 20260101
	fewNights  = 3
	yearNights = 365
	// fresh is how old a backup may be, the runbook's limit.
	fresh = 26 * time.Hour
	// rereadEvery nights the witness forgets what it has read, and restores every
	// backup that is called good.
	rereadEvery = 30
)

// TestYear lives through the nights, and looks at everything after each.
func TestYear(t *testing.T) {
	seed, nights := settings(t)
	t.Logf("STORM_SEED=%d STORM_NIGHTS=%d", seed, nights)
	s := newStage(t)
	y := &year{
		stage: s, t: t, lastGood: -1, holds: map[string]bool{}, tally: newTally(),
		w: newWitness(s.pg.Tool("psql"), s.pg.SocketURL, s.path("backups"), filepath.Join(s.s3.Root, s.bucket), s.first),
	}
	y.leaks = &leaks{
		mark: runMark + "=" + s.mark, query: y.w.query, backups: s.path("backups"), bucket: filepath.Join(s.s3.Root, s.bucket),
		state: s.path("state"), tmp: s.path("tmp"), metrics: s.path("metrics"), project: s.project.Name,
	}
	y.keys = newKeys(s)
	for _, n := range plan(seed, nights) {
		kit.Pause()
		start := time.Now()
		y.last = n.n == nights-1
		y.live(n)
		y.tally.nights++
		t.Logf("%s\n\t%s, %d finds so far", n, time.Since(start).Round(100*time.Millisecond), len(y.finds))
		y.progress(seed, nights)
		if len(y.finds) > 25 {
			t.Fatal("too many finds to go on")
		}
	}
	t.Log(y.tally)
}

// year is what is known while the nights pass.
type year struct {
	*stage
	t     *testing.T
	w     *witness
	leaks *leaks
	keys  *keys
	tally *tally
	finds []string

	night     night
	lastGood  int    // last night whose backup had no fault
	backup    result // of this night, and its run
	backupRun run
	holds     map[string]bool // tables that were dropped since the last good backup
	held      bool            // a loss waits to be acknowledged
	dueOpen   bool            // certbot finds the certificate due
	verified  time.Time       // when verify last read a backup
	last      bool            // it is the last night
}

// find notes that an invariant did not hold.
func (y *year) find(format string, args ...any) {
	y.t.Helper()
	text := fmt.Sprintf("night %d: ", y.night.n) + fmt.Sprintf(format, args...)
	y.finds = append(y.finds, text)
	y.t.Errorf("FIND %s", text)
}

func (y *year) at(offset time.Duration) time.Time {
	return y.first.Add(time.Duration(y.night.n)*day + offset)
}

// live is one night and the day after it.
func (y *year) live(n night) {
	y.t.Helper()
	y.night = n
	y.spent("the day", func() {
		// PostgreSQL logs sequences ahead by 32, and after a crash goes on from there,
		// unless there was a checkpoint in between.
		y.pg.Psql(y.t, database, n.sql+"\nCHECKPOINT;\n")
		if err := y.w.learn(n.n, database); err != nil {
			y.t.Fatal(err)
		}
	})
	for _, table := range n.dropped {
		if y.w.holds("local", table) { // else no backup is smaller for it
			y.holds[table] = true
		}
	}
	if n.due {
		y.site.Due(y.t, true)
		y.dueOpen = true
	}
	for _, r := range n.runs {
		y.spent("runs", func() { y.run(r) })
	}
	y.look()
	y.age(y.t)
}

// spent notes what a part of a night takes.
func (y *year) spent(part string, do func()) {
	start := time.Now()
	do()
	y.tally.spent[part] += time.Since(start)
}

// arguments are a run's.
func (y *year) arguments(r run) []string {
	switch r.command {
	case cmdVerify:
		return []string{"backup", "verify", "latest"}
	case cmdDRTest:
		return []string{"dr-test", "--from", y.testedFrom()}
	case cmdShift:
		return []string{"shift-check", "--json", "--only", "backup,dr-test,certs,database,schedule"}
	case cmdStart:
		return []string{"rotate-keys", "start", r.secret, "--out", y.keys.handed(y.night.n)}
	case cmdNotify:
		return []string{"rotate-keys", "notify", r.secret, "--manual"}
	case cmdActivate, cmdRetire:
		return append(strings.Fields(r.command), r.secret)
	}
	return strings.Fields(r.command)
}

// run runs one command and judges it.
func (y *year) run(r run) {
	y.t.Helper()
	at, args := y.at(r.at), y.arguments(r)
	// What the night of its shift-check is to be judged by lies there before it.
	local, bucket := y.newest()
	res := y.execute(y.t, at, args, y.strike(y.t, r, at, args))
	if r.fault == "" {
		y.usual[r.command] = (y.usual[r.command]*3 + res.took) / 4
		if y.usual[r.command] < res.took/2 {
			y.usual[r.command] = res.took
		}
	}
	y.tally.count(r, res)
	y.common(r, res)
	if r.fault != "" {
		y.spent("runs: until they have settled", func() { y.settle(r) })
	}
	switch r.command {
	case cmdBackup:
		y.judgeBackup(r, res, at)
	case cmdRenew:
		y.judgeRenew(r, res)
	case cmdVerify:
		y.judgeVerify(r, res, at)
	case cmdDRTest:
		y.judgeDRTest(r, res)
	case cmdShift:
		y.judgeShift(r, res, at, local, bucket)
	case cmdPerf:
		if r.fault == "" && !slices.Contains([]int{0, 1, 2}, res.code) {
			y.find("perf analyze: exit %d: %s", res.code, res.words())
		}
	default:
		y.judgeRotation(r, res, at, args)
	}
}

func (y *year) newest() (local, bucket time.Time) {
	_, local = y.w.newest("local")
	_, bucket = y.w.newest("bucket")
	return local, bucket
}

// settle waits for what a killed run started: to the next one it is hours. The
// server of a killed recovery test stays until the next test.
func (y *year) settle(r run) {
	y.t.Helper()
	if r.command == cmdDRTest {
		if reap := y.execute(y.t, y.at(r.at+10*time.Minute), []string{"dr-test", "--reap"}, nil); reap.code != 0 {
			y.find("dr-test --reap: exit %d: %s", reap.code, reap.words())
		}
	}
	for _, left := range settled(y.leaks.processes) {
		y.find("%s: left behind: %s", r, left)
	}
}

// common is what holds for every run: a known exit code, the signal's own after
// a signal, no panic, no secret, an end in time.
func (y *year) common(r run, res result) {
	y.t.Helper()
	want := []int{0, 1, 2, 3, 75}
	switch r.fault {
	case faultKill:
		want = append(want, -1)
	case faultTerm:
		want = append(want, 143)
	case faultInt:
		want = append(want, 130)
	}
	if (r.fault == faultTerm || r.fault == faultInt) && res.words() == "" {
		want = append(want, -1) // it came before main
	}
	if !slices.Contains(want, res.code) {
		y.find("%s: exit %d: %s", r, res.code, res.words())
	}
	if strings.Contains(res.errs, "panic: ") || strings.Contains(res.errs, "goroutine ") {
		y.find("%s: it panicked: %s", r, res.errs)
	}
	for _, secret := range []string{y.pg.Password, y.s3.SecretKey, "s3cretW3bh00k"} {
		if strings.Contains(res.words(), secret) {
			y.find("%s: it told a secret", r)
		}
	}
	if res.code != 0 && res.code != -1 && strings.TrimSpace(res.words()) == "" {
		y.find("%s: exit %d without a word", r, res.code)
	}
	if (r.fault == faultTerm || r.fault == faultInt) && res.struck && res.afterSignal > 3*time.Minute {
		y.find("%s: it ended %s after the signal", r, res.afterSignal)
	}
	if r.fault == faultTwice && !slices.Contains([]int{0, 1, 75}, res.second) {
		y.find("%s: the second one: exit %d", r, res.second)
	}
}

// look is what is looked at once the day is over.
func (y *year) look() {
	y.t.Helper()
	now := y.at(23 * time.Hour)
	swept := y.backup.code == 0 || y.backup.code == 1
	if swept {
		y.lastGood = max(y.lastGood, y.night.n)
	} else if y.backupRun.fault == "" {
		y.find("the backup without a fault: exit %d: %s", y.backup.code, y.backup.errs)
	}
	y.spent("lists and restores", func() { y.listed(now) })
	for _, f := range y.w.retention(now, swept && !y.held) {
		y.find("%s", f)
	}
	y.spent("leaks", func() { y.left(swept) })
	files, bytes := size(y.path("state"))
	y.tally.stateFiles, y.tally.stateBytes = max(y.tally.stateFiles, files), max(y.tally.stateBytes, bytes)
	if files > maxStateFiles || bytes > maxStateBytes {
		y.find("the state directory has grown to %d files and %d bytes", files, bytes)
	}
	if err := y.keys.whole(); err != nil {
		y.find("%v", err)
	}
	if y.night.n%rereadEvery == rereadEvery-1 || y.last {
		// 1 is a last line that a kill has torn, which the next change mends.
		if r := y.execute(y.t, now, []string{"changes", "verify"}, nil); r.code > 1 {
			y.find("the log of changes: exit %d: %s", r.code, r.words())
		}
		y.w.forget()
		y.spent("every restore", y.proveAll)
	}
}

// left looks for what should not be there any more.
func (y *year) left(swept bool) {
	y.t.Helper()
	for _, what := range []func() []string{
		y.leaks.processes, y.leaks.sessions, y.leaks.containers,
		func() []string { return y.leaks.files(swept, time.Now()) },
		func() []string {
			if !swept {
				return nil
			}
			return y.leaks.uploads()
		},
	} {
		for _, left := range settled(what) {
			y.find("left behind: %s", left)
		}
	}
	for _, p := range []*proxy{y.toS3, y.toCA, y.toDocker} {
		if p.count() > 0 && len(settled(func() []string { return make([]string, p.count()) })) > 0 {
			y.find("%d connections to %s are open", p.count(), p.to)
		}
	}
}

// What the state directory may hold, after a year as after a week.
const (
	maxStateFiles = 300
	maxStateBytes = 8 << 20
)

// listed holds what backup list calls good against what lies there, and restores
// the newest of each place. There must be one that is no older than the last
// night in which no fault came over the backup.
func (y *year) listed(now time.Time) {
	y.t.Helper()
	for place, flag := range map[string]string{"local": "--local", "bucket": "--s3"} {
		r := y.execute(y.t, now, []string{"backup", "list", flag, "--json"}, nil)
		var list struct {
			Backups []struct {
				Name string `json:"name"`
				Good bool   `json:"good"`
			} `json:"backups"`
		}
		if err := json.Unmarshal([]byte(r.out), &list); err != nil || r.code > 1 {
			y.find("backup list %s: exit %d: %s", flag, r.code, r.words())
			continue
		}
		newest, all := "", map[string]bool{}
		for _, b := range list.Backups {
			if !b.Good {
				continue
			}
			newest, all[b.Name] = b.Name, true
			if _, err := y.w.whole(place, b.Name); err != nil {
				y.find("%s is listed as good: %v", b.Name, err)
			}
		}
		for _, name := range y.w.names(place) {
			if _, err := y.w.whole(place, name); err == nil && !all[name] {
				y.find("%s is whole in %s, and not listed as good", name, place)
			}
		}
		if at, _ := taken(newest); y.lastGood >= 0 && at.Before(y.first.Add(time.Duration(y.lastGood)*day)) {
			y.find("the newest good backup in %s is %q, though that of night %d had no fault", place, newest, y.lastGood)
		}
		if newest != "" {
			if err := y.w.prove(place, newest); err != nil {
				y.find("%v", err)
			}
		}
	}
}

// proveAll restores every whole backup.
func (y *year) proveAll() {
	y.t.Helper()
	for _, place := range slices.Sorted(maps.Keys(y.w.places)) {
		for _, name := range y.w.names(place) {
			if err := y.w.prove(place, name); err != nil {
				y.find("%v", err)
			}
		}
	}
}

// TestPlan: one seed is one year, and a year is what it says.
func TestPlan(t *testing.T) {
	a, b := plan(7, yearNights), plan(7, yearNights)
	runs, faults := map[string]int{}, 0
	for i := range a {
		if a[i].String() != b[i].String() || a[i].sql != b[i].sql {
			t.Fatalf("two plans of one seed:\n%s\n%s", a[i], b[i])
		}
		for _, r := range a[i].runs {
			runs[r.command]++
			if r.fault != "" {
				faults++
			}
		}
	}
	want := map[string]int{cmdBackup: 365, cmdRenew: 730, cmdShift: 1095, cmdPerf: 52, cmdVerify: 52, cmdDRTest: 12, cmdStart: 4, cmdNotify: 4, cmdActivate: 4, cmdRetire: 4}
	if !maps.Equal(runs, want) {
		t.Errorf("runs %v, want %v", runs, want)
	}
	total := 0
	for _, n := range runs {
		total += n
	}
	if faults < total/4 || faults > total*2/5 {
		t.Errorf("%d of %d runs have a fault", faults, total)
	}
	if plan(8, 1)[0].String() == a[0].String() {
		t.Error("another seed makes the same night")
	}
}

// TestWitnessIsIndependent: the witness and what it looks with import nothing of
// ours.
func TestWitnessIsIndependent(t *testing.T) {
	for _, file := range []string{"witness_test.go", "retention_test.go", "leaks_test.go"} {
		text, err := os.ReadFile(file)
		testenv.Need(t, err == nil, "the source", "run the test where it lies")
		if strings.Contains(string(text), `"github.com/`) {
			t.Errorf("%s imports more than the standard library", file)
		}
	}
}
