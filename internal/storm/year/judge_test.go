package year

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// judgeBackup: a backup that ends well is there, in both places; what came over
// the bucket costs the copy there and no more.
func (y *year) judgeBackup(r run, res result, at time.Time) {
	y.t.Helper()
	y.backup, y.backupRun = res, r
	done := res.code == 0 || res.code == 1
	if r.fault == faultTwice && (res.second == 0 || res.second == 1) {
		done = true
	}
	local, bucket := y.newest()
	hasLocal, hasBucket := !local.Before(at), !bucket.Before(at)
	ofBucket := slices.Contains([]string{faultS3Refused, faultS3Busy, faultS3Reset}, r.fault)
	switch {
	case done && (!hasLocal || !hasBucket):
		y.find("%s ended with %d: the newest whole one here is of %s, in the bucket of %s: %s", r, res.code, local, bucket, res.errs)
	case ofBucket && res.code == 2 && !hasLocal:
		y.find("%s: a fault of the bucket cost the local backup: %s", r, res.errs)
	case slices.Contains([]string{faultMetrics, faultWebhook}, r.fault) && !done:
		y.find("%s: who takes no report costs the backup: exit %d: %s", r, res.code, res.errs)
	case r.fault == "" && res.code == 1 && len(y.holds) == 0 && !y.held:
		y.find("a warning without a reason: %s", res.errs)
	}
	if done {
		y.acknowledge(res, at)
	}
}

// acknowledge does what a person does after a loss was told. Every table that
// was dropped since the last good backup must be named to them, whatever came
// over the runs that noticed it.
func (y *year) acknowledge(res result, at time.Time) {
	y.t.Helper()
	// What was held is pruned by the next backup.
	if y.held = len(y.holds) > 0; !y.held {
		return
	}
	ack := y.execute(y.t, at.Add(30*time.Minute), []string{"backup", "ack"}, nil)
	for table := range y.holds {
		if ack.code != 0 || !strings.Contains(ack.out, table) {
			y.find("%s was dropped, and nobody is told: %s; backup ack: exit %d: %s", table, res.errs, ack.code, ack.words())
		}
	}
	clear(y.holds)
}

// judgeRenew: after a run without a fault nginx serves what is on the disk.
func (y *year) judgeRenew(r run, res result) {
	y.t.Helper()
	if r.fault != "" {
		return
	}
	if res.code != 0 {
		y.find("certs renew: exit %d: %s", res.code, res.words())
	}
	if served, err := y.site.Handshake(); err != nil || served != y.site.OnDisk(y.t) {
		y.find("certs renew ended with %d, and nginx serves %s, not %s: %v", res.code, served, y.site.OnDisk(y.t), err)
	}
	if y.dueOpen {
		y.site.Due(y.t, false)
		y.dueOpen = false
		if strings.Contains(res.out, "renewed") {
			y.tally.renewed++
		}
	}
}

// judgeVerify: the newest backup is sound, as every one is.
func (y *year) judgeVerify(r run, res result, at time.Time) {
	y.t.Helper()
	if res.code == 0 {
		y.verified = at
	}
	if name, _ := y.w.newest("local"); name != "" && (r.fault == "" && res.code != 0 || res.code == 2) {
		y.find("%s: exit %d: %s", r, res.code, res.words())
	}
}

// testedFrom is where a recovery test takes the newest backup from, by turns.
func (y *year) testedFrom() string { return []string{"local", "s3"}[y.night.n/30%2] }

// judgeDRTest: a test without a fault passes while there is a backup young
// enough.
func (y *year) judgeDRTest(r run, res result) {
	y.t.Helper()
	if r.fault != "" {
		return
	}
	_, newest := y.w.newest(map[string]string{"local": "local", "s3": "bucket"}[y.testedFrom()])
	young := y.at(r.at).Sub(newest) < fresh
	if young && res.code > 1 || !young && res.code == 0 {
		y.find("dr-test --from %s: exit %d, the newest there is of %s: %s", y.testedFrom(), res.code, newest, res.words())
	}
}

// judgeShift: backup is never ok when the newest good one is too old in either
// place, and always when there is nothing to say against it.
func (y *year) judgeShift(r run, res result, at time.Time, local, bucket time.Time) {
	y.t.Helper()
	if res.code < 0 || res.code > 3 {
		return // it said nothing
	}
	var doc struct {
		Checks []struct {
			ID      string `json:"id"`
			Status  string `json:"status"`
			Summary string `json:"summary"`
		} `json:"checks"`
	}
	if err := json.Unmarshal([]byte(res.out), &doc); err != nil {
		y.find("%s: exit %d: %v: %s", r, res.code, err, res.words())
		return
	}
	for _, c := range doc.Checks {
		if c.ID != "backup" {
			continue
		}
		old := at.Sub(local) > fresh || at.Sub(bucket) > fresh
		y.tally.shift[c.Status]++
		if old {
			y.tally.old++
		}
		calm := r.fault == "" && y.backupRun.fault == "" && y.backup.code == 0 && (at.Sub(y.verified) < 15*day || y.night.n < 15)
		switch {
		case old && (c.Status == "ok" || c.Status == "warning"):
			y.find("shift-check says %s of backup, and the newest here is of %s, in the bucket of %s: %s", c.Status, local, bucket, c.Summary)
		case old && r.fault == "" && c.Status != "critical":
			y.find("shift-check says %s of backup, which is too old and can be seen: %s", c.Status, c.Summary)
		case !old && calm && c.Status != "ok":
			y.find("a false alarm: shift-check says %s of backup: %s", c.Status, c.Summary)
		}
		return
	}
	y.find("shift-check says nothing of backup: exit %d: %s", res.code, res.words())
}

// keys are the platform's, as its .env should hold them.
type keys struct {
	env, dir, api string

	text     string // of .env, before the rotation
	old, new map[string]string
}

func newKeys(s *stage) *keys {
	text, err := os.ReadFile(s.project.EnvFile())
	if err != nil {
		panic(err) // the stage has just written it
	}
	return &keys{
		env: s.project.EnvFile(), dir: s.path("handed"), api: s.api, text: string(text), new: map[string]string{},
		old: map[string]string{"API_KEYS": "first-api-key", "ADMIN_KEYS": "first-admin-key"},
	}
}

func (k *keys) handed(night int) string { return filepath.Join(k.dir, fmt.Sprint("of-night-", night)) }

// learn reads the key that was handed out.
func (k *keys) learn(secret string, night int) error {
	body, err := os.ReadFile(filepath.Join(k.handed(night), secret+"-1.key"))
	k.new[secret] = strings.TrimSpace(string(body))
	return err
}

// whole says whether .env is, to the byte, one of the versions that a rotation
// has: as it was, with both keys, with the new one alone.
func (k *keys) whole() error {
	got, err := os.ReadFile(k.env)
	if err != nil {
		return err
	}
	texts := []string{k.text}
	for secret, fresh := range k.new {
		if fresh != "" {
			texts = append(texts, strings.Replace(k.text, k.old[secret], k.old[secret]+","+fresh, 1), strings.Replace(k.text, k.old[secret], fresh, 1))
		}
	}
	if !slices.Contains(texts, string(got)) {
		return fmt.Errorf(".env is none of its %d versions", len(texts))
	}
	return nil
}

// beside are files beside .env that no rotation needs. ended says that none is
// under way.
func (k *keys) beside(ended bool) []string {
	var out []string
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(k.env), "*"))
	hidden, _ := filepath.Glob(filepath.Join(filepath.Dir(k.env), ".*"))
	for _, f := range append(files, hidden...) {
		name := filepath.Base(f)
		ours := strings.HasPrefix(name, ".env.escrowctl-") && !ended
		if name != ".env" && name != "docker-compose.yml" && !ours {
			out = append(out, "file "+f)
		}
	}
	return out
}

// ask is the API's answer to a key.
func (k *keys) ask(secret, key string) int {
	path := "/api/trades"
	if secret == "ADMIN_KEYS" {
		path = "/api/admin/x"
	}
	return testenv.Answer(k.api+path, key, 10*time.Second)
}

// judgeRotation: whatever came over an action, .env is whole; run again it is
// done, and the API answers to the keys that it should.
func (y *year) judgeRotation(r run, res result, at time.Time, args []string) {
	y.t.Helper()
	if r.command == cmdStart {
		_ = y.keys.learn(r.secret, y.night.n) // it may not have come so far
	}
	if err := y.keys.whole(); err != nil {
		y.find("%s: exit %d: %v", r, res.code, err)
	}
	for again := 1; res.code != 0; again++ {
		if r.fault == "" || again > 3 {
			y.find("%s: exit %d: %s", r, res.code, res.words())
			return
		}
		res = y.execute(y.t, at.Add(time.Duration(again)*5*time.Minute), args, nil)
		if r.command == cmdNotify && res.code == 3 {
			break // it was told before
		}
	}
	if r.command == cmdStart {
		if err := y.keys.learn(r.secret, y.night.n); err != nil {
			y.find("%s: no key was handed out: %v", r, err)
		}
	}
	if err := y.keys.whole(); err != nil {
		y.find("%s, run again: %v", r, err)
	}
	k := y.keys
	for _, left := range k.beside(r.command == cmdRetire) {
		y.find("%s: left behind: %s", r, left)
	}
	answers := func(key string) int { return k.ask(r.secret, key) }
	switch r.command {
	case cmdActivate:
		if a, b := answers(k.old[r.secret]), answers(k.new[r.secret]); a != 200 || b != 200 {
			y.find("%s: the old key is answered with %d, the new one with %d", r, a, b)
		}
	case cmdRetire:
		if a, b := answers(k.old[r.secret]), answers(k.new[r.secret]); a != 401 || b != 200 {
			y.find("%s: the old key is answered with %d, the new one with %d", r, a, b)
		}
		k.text = strings.Replace(k.text, k.old[r.secret], k.new[r.secret], 1)
		k.old[r.secret], k.new[r.secret] = k.new[r.secret], ""
		y.tally.rotated++
	}
}
