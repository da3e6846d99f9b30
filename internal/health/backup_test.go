package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// at is a time before now, which is 2026-11-24 16:00.
func at(before time.Duration) time.Time {
	return time.Date(2026, 11, 24, 16, 0, 0, 0, time.UTC).Add(-before)
}

func now() time.Time { return at(0) }

const (
	hour = time.Hour
	day  = 24 * time.Hour
)

// nights are good backups of the last n nights, oldest first.
func nights(n int) []BackupCopy {
	var out []BackupCopy
	for i := n - 1; i >= 0; i-- {
		t := at(14*hour + time.Duration(i)*day)
		out = append(out, BackupCopy{Name: "b" + t.Format("0102"), Time: t, Size: 1000 + int64(i), Good: true})
	}
	return out
}

// scene is what a check of the backups sees.
type scene struct {
	bucket, dir       []BackupCopy
	bucketErr, runErr error
	runs              []JobRun
	verified          time.Time
	log               *LogTail
	accepted          time.Time
}

func healthyScene() *scene {
	return &scene{
		bucket: nights(11), dir: nights(11),
		runs:     []JobRun{{Start: at(14 * hour), End: at(13 * hour), Outcome: "ok", Figures: map[string]any{"name": "b1124", "uploaded": true}}},
		verified: at(2 * day),
	}
}

func (s *scene) probe() check.Probe {
	list := func(c []BackupCopy, err error) func(context.Context) ([]BackupCopy, error) {
		return func(context.Context) ([]BackupCopy, error) { return c, err }
	}
	opt := BackupOptions{
		Places: []BackupPlace{
			{"the bucket", list(s.bucket, s.bucketErr), "escrowctl backup upload"},
			{"the directory", list(s.dir, nil), "escrowctl backup"},
		},
		Runs:     func(int) ([]JobRun, error) { return s.runs, s.runErr },
		Verified: func() (time.Time, error) { return s.verified, nil },
		Now:      now, ShrinkRatio: 0.5, Limit: 30 * time.Second, Accepted: s.accepted,
	}
	if s.log != nil {
		opt.Log = func() (LogTail, error) { return *s.log, nil }
	}
	return Backup(opt)
}

func TestBackup(t *testing.T) {
	t.Parallel()
	const alert = "BackupFailed"
	plain := func(c []BackupCopy) []BackupCopy {
		c = slices.Clone(c)
		for i := range c {
			c[i].Good, c[i].Plain = false, true
		}
		return c
	}
	for _, tt := range []struct {
		name   string
		change func(s *scene)
		want   want
	}{
		{"all well", func(*scene) {}, want{check.OK, "14.0 h old, 1 kB in both places, verified 2 days ago", "", ""}},
		{"missed: the newest is too old", func(s *scene) { s.bucket, s.dir, s.runs = s.bucket[:10], s.dir[:10], nil },
			want{check.Critical, "the newest good backup in the bucket is 38.0 h old, limit 26.0 h", alert, "escrowctl backup"}},
		{"only in the directory", func(s *scene) { s.bucket, s.runs[0].Figures["uploaded"] = s.bucket[:10], false },
			want{check.Critical, "in the bucket is 38.0 h old", alert, "escrowctl backup upload"}},
		{"failed", func(s *scene) {
			s.runs = append([]JobRun{{Start: at(hour), End: at(hour), Outcome: "critical", Error: "pg_dump: no\x1b[2J"}}, s.runs...)
		}, want{check.Critical, "the run of 2026-11-24 15:00 ended critical: pg_dump: no", alert, "escrowctl backup"}},
		{"crashed", func(s *scene) { s.runs = append([]JobRun{{Start: at(hour), Outcome: "crashed"}}, s.runs...) },
			want{check.Critical, "ended crashed", alert, "escrowctl backup"}},
		{"outcome unknown", func(s *scene) { s.runs[0].Outcome = "unknown" }, want{check.Critical, "ended unknown", alert, ""}},
		{"with warnings", func(s *scene) { s.runs[0].Outcome = "warning" }, want{check.Warning, "ended with warnings", "", ""}},
		{"running now", func(s *scene) { s.runs = append([]JobRun{{Start: at(hour), Outcome: "running"}}, s.runs...) },
			want{check.OK, "a run goes on since 2026-11-24 15:00", "", ""}},
		{"running, and the last one failed", func(s *scene) {
			s.runs[0].Outcome = "critical"
			s.runs = append([]JobRun{{Start: at(hour), Outcome: "running"}}, s.runs...)
		}, want{check.Critical, "ended critical", alert, ""}},
		{"the record says ok, the object is gone", func(s *scene) { s.bucket = slices.Delete(s.bucket, 10, 11) },
			want{check.Critical, "says that it made b1124, but the bucket does not have it", alert, "escrowctl backup upload"}},
		{"too small", func(s *scene) { s.bucket[10].Size, s.dir[10].Size = 499, 499 },
			want{check.Critical, "b1124 is too small: 499 B is 49.6 % of the median of the 10 before it, limit 50 %", alert, "escrowctl backup ack"}},
		{"half is enough", func(s *scene) { s.bucket[10].Size, s.dir[10].Size = 510, 510 }, want{check.OK, "50.7 % of the median", "", ""}},
		{"smaller, and accepted", func(s *scene) {
			s.bucket[10].Size, s.dir[10].Size, s.accepted = 100, 100, at(hour)
		}, want{check.OK, "too few to compare sizes", "", ""}},
		{"smaller than what was accepted", func(s *scene) {
			s.bucket[10].Size, s.dir[10].Size, s.accepted = 100, 100, at(9*day)
		}, want{check.Critical, "of the median of the 9 before it", alert, ""}},
		{"few backups", func(s *scene) { s.bucket, s.dir = nights(2), nights(2) }, want{check.OK, "too few to compare sizes", "", ""}},
		{"none at all", func(s *scene) { s.bucket, s.dir, s.runs, s.verified = nil, nil, nil, time.Time{} },
			want{check.Critical, "no good backup in the bucket, it has none at all", alert, "escrowctl backup upload"}},
		{"only damaged ones", func(s *scene) {
			s.bucket = []BackupCopy{{Name: "b1124", Time: at(hour), Problem: "it has 5 bytes"}}
		}, want{check.Critical, "no good backup in the bucket, the newest is b1124: it has 5 bytes", alert, ""}},
		{"an unfinished one on top", func(s *scene) {
			s.dir = append(s.dir, BackupCopy{Name: "b9", Time: at(hour)})
		}, want{check.Warning, "the newest in the directory, b9, is no good: unfinished", "", "escrowctl backup list"}},
		{"dated in the future", func(s *scene) {
			s.bucket = append(nights(11)[:5], BackupCopy{Name: "b3000", Time: at(-day), Size: 1000, Good: true})
			s.runs = nil
		}, want{check.Critical, "unknown: the bucket: b3000 is dated 24.0 h ahead: is a clock wrong?", alert, ""}},
		{"bucket not reached", func(s *scene) { s.bucket, s.bucketErr = nil, errors.New("AccessDenied\nno") },
			want{check.Unknown, "the bucket: AccessDenied; no", "", "escrowctl backup list"}},
		{"records not readable", func(s *scene) { s.runs, s.runErr = nil, errors.New("damaged") }, want{check.Unknown, "the run records: damaged", "", ""}},
		{"newest failed its verification", func(s *scene) { s.bucket[10].FailedAt = at(hour) },
			want{check.Critical, "the newest backup in the bucket, b1124, failed its verification", alert, ""}},
		{"an older one failed its verification", func(s *scene) { s.dir[6].FailedAt = at(hour) },
			want{check.Warning, "b1120 in the directory failed its verification", "", "escrowctl backup list"}},
		{"verified long ago", func(s *scene) { s.verified = at(20 * day) }, want{check.Warning, "no backup was verified for 20 days", "", "escrowctl backup verify latest"}},
		{"old script, fresh, of usual size", func(s *scene) { s.bucket, s.dir, s.runs = plain(s.bucket), plain(s.dir), nil },
			want{check.OK, "the old script's, not read", "", ""}},
		{"old script, nothing to compare with", func(s *scene) { s.bucket, s.dir, s.runs = plain(nights(1)), plain(nights(1)), nil },
			want{check.Warning, "whether it is whole is not known", "", "escrowctl backup verify b1124"}},
		{"old script, yesterday's success in the log, no object", func(s *scene) {
			s.bucket, s.dir, s.runs = plain(nights(11)[:10]), plain(nights(11)[:10]), nil
			s.log = &LogTail{"/var/log/b.log", at(38 * hour), []string{"backup complete"}}
		}, want{check.Critical, "38.0 h old", alert, ""}},
		{"old script, its log ends with a failure", func(s *scene) {
			s.bucket, s.dir, s.runs = plain(s.bucket), plain(s.dir), nil
			s.log = &LogTail{"/var/log/b.log", at(hour), []string{"start", "upload failed: no route"}}
		}, want{check.Critical, "the log's last line tells of a failure: upload failed: no route", alert, ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := healthyScene()
			tt.change(s)
			tt.want.check(t, look(t, s.probe()))
		})
	}
}

// The log is shown where something is wrong, and only there.
func TestBackupShowsTheLog(t *testing.T) {
	t.Parallel()
	s := healthyScene()
	s.log = &LogTail{"/var/log/b.log", at(hour), []string{"one", "two\x1b[2J"}}
	if r := look(t, s.probe()); strings.Contains(strings.Join(r.Detail, "\n"), "/var/log/b.log") {
		t.Errorf("the log of what is well: %q", r.Detail)
	}
	s.runs[0].Outcome = "critical"
	want{check.Critical, "/var/log/b.log, last written 60 min ago, ends:\n  one\n  two", "BackupFailed", "escrowctl backup"}.check(t, look(t, s.probe()))
}

// A place that hangs costs its own line.
func TestBackupHanging(t *testing.T) {
	t.Parallel()
	s := healthyScene()
	opt := BackupOptions{
		Places: []BackupPlace{{"the bucket", func(ctx context.Context) ([]BackupCopy, error) {
			<-ctx.Done()
			return nil, fmt.Errorf("list: %w", ctx.Err())
		}, ""}},
		Runs: func(int) ([]JobRun, error) { return s.runs, nil }, Verified: func() (time.Time, error) { return time.Time{}, nil },
		Now: now, Limit: testLimit,
	}
	want{check.Unknown, "the bucket: list: context deadline exceeded", "", ""}.check(t, look(t, Backup(opt)))
}

func TestDRTest(t *testing.T) {
	t.Parallel()
	run := func(age time.Duration, outcome string) JobRun {
		return JobRun{Start: at(age), End: at(age - hour), Outcome: outcome, Figures: map[string]any{"name": "b1"}}
	}
	for _, tt := range []struct {
		name string
		runs []JobRun
		err  error
		want want
	}{
		{"passed", []JobRun{run(10*day, "ok")}, nil, want{check.OK, "passed 10 days ago: b1", "", ""}},
		{"none", nil, nil, want{check.Warning, "no recovery test is recorded", "", "escrowctl dr-test"}},
		{"failed", []JobRun{run(day, "critical"), run(20*day, "ok")}, nil, want{check.Critical, "ended critical: b1", "BackupFailed", "escrowctl dr-test"}},
		{"could not verify", []JobRun{run(day, "unknown"), run(20*day, "ok")}, nil, want{check.Unknown, "could not be verified", "", "escrowctl dr-test"}},
		{"interrupted", []JobRun{run(day, "interrupted"), run(20*day, "ok")}, nil, want{check.Warning, "ended interrupted", "", ""}},
		{"too old", []JobRun{run(40*day, "ok")}, nil, want{check.Warning, "last passed 40 days ago: b1, limit 31 days", "", "escrowctl dr-test"}},
		{"never passed", []JobRun{run(day, "interrupted")}, nil, want{check.Warning, "none of the last 1 tests passed", "", ""}},
		{"running", []JobRun{{Start: at(hour), Outcome: "running"}, run(40*day, "ok")}, nil, want{check.Warning, "last passed 40 days ago", "", ""}},
		{"from the future", []JobRun{run(-day, "ok")}, nil, want{check.Unknown, "is a clock wrong", "", ""}},
		{"not readable", nil, errors.New("damaged"), want{check.Unknown, "damaged", "", ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.want.check(t, look(t, DRTest(DRTestOptions{Runs: func(int) ([]JobRun, error) { return tt.runs, tt.err }, Now: now})))
		})
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	fresh := func() map[string]time.Time {
		return map[string]time.Time{
			"POSTGRES_PASSWORD": at(100 * day), "REDIS_PASSWORD": at(100 * day), "API_KEYS": at(30 * day), "ADMIN_KEYS": at(30 * day), "GRAFANA_ADMIN_PASSWORD": at(30 * day),
		}
	}
	for _, tt := range []struct {
		name   string
		change func(map[string]time.Time)
		err    error
		want   want
	}{
		{"all rotated", func(map[string]time.Time) {}, nil, want{check.OK, "5 rotations recorded, next due API_KEYS on 2027-01-25", "", ""}},
		{"overdue", func(m map[string]time.Time) { m["ADMIN_KEYS"] = at(93 * day) }, nil, want{check.Warning, "ADMIN_KEYS was due for rotation 24.0 h ago (quarterly, last 2026-08-23)", "", "rotate ADMIN_KEYS"}},
		{"due within the notice", func(m map[string]time.Time) { m["API_KEYS"] = at(88 * day) }, nil, want{check.Warning, "API_KEYS is due in 4 days: its consumers need 7 days", "", "rotate API_KEYS"}},
		{"due, and nobody to tell", func(m map[string]time.Time) { m["GRAFANA_ADMIN_PASSWORD"] = at(88 * day) }, nil, want{check.OK, "next due GRAFANA_ADMIN_PASSWORD", "", ""}},
		{"one not recorded", func(m map[string]time.Time) { delete(m, "REDIS_PASSWORD") }, nil, want{check.Warning, "no rotation recorded: REDIS_PASSWORD", "", "record REDIS_PASSWORD"}},
		{"none recorded", func(m map[string]time.Time) { clear(m) }, nil, want{check.Warning, "no rotation recorded: POSTGRES_PASSWORD, REDIS_PASSWORD, API_KEYS", "", ""}},
		{"from the future", func(m map[string]time.Time) { m["API_KEYS"] = at(-day) }, nil, want{check.Unknown, "is a clock wrong", "", ""}},
		{"damaged", func(map[string]time.Time) {}, errors.New("damaged"), want{check.Unknown, "damaged", "", ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := fresh()
			tt.change(m)
			tt.want.check(t, look(t, Secrets(SecretsOptions{
				Due: func() ([]Rotation, error) { return rotations(m), tt.err }, Now: now,
				Rotate: func(s string) string { return "rotate " + s }, Record: func(s string) string { return "record " + s },
			})))
		})
	}
}

// rotations are the runbook's secrets, last rotated at these times.
func rotations(last map[string]time.Time) []Rotation {
	var out []Rotation
	for _, s := range runbook.Secrets() {
		r := Rotation{Secret: s.Name, Frequency: s.Frequency, Every: s.Every, Last: last[s.Name]}
		if r.Every > 0 && !r.Last.IsZero() {
			r.Due, r.Left = r.Last.Add(r.Every), r.Last.Add(r.Every).Sub(now())
		}
		out = append(out, r)
	}
	return out
}
