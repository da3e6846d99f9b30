package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/httpx"
)

// documents is a Memory that keeps documents as the state directory does.
type documents struct {
	mu   sync.Mutex
	docs map[string][]byte
}

func (d *documents) Load(name string, v any) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, ok := d.docs[name]
	if !ok {
		return false, nil
	}
	return true, json.Unmarshal(b, v)
}

func (d *documents) Save(name string, v any) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, err := json.Marshal(v)
	if d.docs == nil {
		d.docs = map[string][]byte{}
	}
	d.docs[name] = b
	return err
}

const gb = 1_000_000_000

// disks is a DiskOptions over made-up filesystems.
func disks(usage map[string]Usage) DiskOptions {
	return DiskOptions{
		Mounts: func(context.Context) ([]string, error) { return []string{"/", "/data"}, nil },
		Roles: []DiskRole{
			{DockersData, func(context.Context) (string, error) { return "/var/lib/docker", nil }},
			{"backups", func(context.Context) (string, error) { return "/var/backups", nil }},
			{"nothing here", func(context.Context) (string, error) { return "", nil }},
		},
		Usage: func(path string) (Usage, error) {
			u, ok := usage[path]
			if !ok {
				return Usage{}, errors.New("no such filesystem")
			}
			return u, nil
		},
		Now: now, Limit: 30 * time.Second,
	}
}

func halfFull() map[string]Usage {
	root := Usage{Device: "1", Used: 50 * gb, Free: 50 * gb, Inodes: 1000, InodesUsed: 100}
	data := Usage{Device: "2", Used: 10 * gb, Free: 90 * gb}
	return map[string]Usage{"/": root, "/data": data, "/var/lib/docker": root, "/var/backups": data}
}

func TestDisk(t *testing.T) {
	t.Parallel()
	const alert = "DiskUsage"
	set := func(path string, u Usage) func(*DiskOptions, map[string]Usage) {
		return func(_ *DiskOptions, m map[string]Usage) { m[path] = u }
	}
	for _, tt := range []struct {
		name   string
		change func(o *DiskOptions, m map[string]Usage)
		want   want
		parts  int
	}{
		{"half full", func(*DiskOptions, map[string]Usage) {}, want{check.OK, "2 filesystems, the fullest / at 50 %", "", ""}, 2},
		{"at the limit", set("/data", Usage{Device: "2", Used: 70 * gb, Free: 30 * gb}), want{check.OK, "the fullest /data at 70 %", "", ""}, 2},
		{"nearly full", set("/data", Usage{Device: "2", Used: 71 * gb, Free: 29 * gb}), want{check.Warning, "/data (backups) 71 % full, 29 GB free, warning from 70 %", "", "du -xh"}, 2},
		{"full", set("/data", Usage{Device: "2", Used: 86 * gb, Free: 14 * gb}), want{check.Critical, "/data (backups) 86 % full, 14 GB free, limit 85 %", alert, "du -xh"}, 2},
		{"Docker's is full", func(_ *DiskOptions, m map[string]Usage) {
			m["/var/lib/docker"] = Usage{Device: "3", Used: 99 * gb, Free: gb}
		},
			want{check.Critical, "/var/lib/docker (Docker's data) 99 % full", alert, "docker system df"}, 3},
		{"inodes used up", set("/", Usage{Device: "1", Used: gb, Free: 99 * gb, Inodes: 1000, InodesUsed: 1000}), want{check.Critical, "/ (Docker's data) has 100 % of its inodes used, limit 85 %", alert, "du --inodes"}, 2},
		{"no bytes left for anybody", set("/data", Usage{Device: "2", Used: 100 * gb}), want{check.Critical, "100 % full", alert, ""}, 2},
		{"no size at all", set("/data", Usage{Device: "2"}), want{check.Unknown, "not a number", alert, ""}, 2},
		{"cannot be asked", func(_ *DiskOptions, m map[string]Usage) { delete(m, "/data") }, want{check.Unknown, "/data: no such filesystem", "", "ls /data"}, 3},
		{"hangs", func(o *DiskOptions, m map[string]Usage) {
			asked := o.Usage
			mounts := []string{"/", "/data"}
			for i := range 20 { // which all answer
				m[fmt.Sprint("/", i)] = Usage{Device: fmt.Sprint("d", i), Used: 1, Free: 1}
				mounts = append(mounts, fmt.Sprint("/", i))
			}
			o.Mounts = func(context.Context) ([]string, error) { return mounts, nil }
			o.Limit = testLimit
			o.Usage = func(path string) (Usage, error) {
				if path == "/data" {
					select {}
				}
				return asked(path)
			}
		}, want{check.Unknown, "no answer: does a network filesystem hang?", "", ""}, 23},
		{"no list", func(o *DiskOptions, _ map[string]Usage) {
			o.Mounts = func(context.Context) ([]string, error) { return nil, errors.New("no /proc") }
		}, want{check.Unknown, "the list of filesystems: no /proc", "", "df -h"}, 2},
		{"nothing at all", func(o *DiskOptions, _ map[string]Usage) {
			o.Mounts = func(context.Context) ([]string, error) { return nil, nil }
			o.Roles = nil
		}, want{check.Unknown, "no filesystem could be looked at", "", ""}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := halfFull()
			o := disks(m)
			tt.change(&o, m)
			r := look(t, Disk(o))
			tt.want.check(t, r)
			if len(r.Parts) != tt.parts {
				t.Errorf("%d parts, want %d", len(r.Parts), tt.parts)
			}
		})
	}
}

// Earlier checks tell when a filesystem will be full.
func TestDiskTrend(t *testing.T) {
	t.Parallel()
	m := halfFull()
	o := disks(m)
	o.Memory = &documents{}
	moment := at(10 * hour)
	o.Now = func() time.Time { return moment }
	var r check.Result
	for range 11 { // a gigabyte an hour
		r = look(t, Disk(o))
		moment = moment.Add(hour)
		for path, u := range m {
			if u.Device == "1" {
				u.Used, u.Free = u.Used+gb, u.Free-gb
				m[path] = u
			}
		}
	}
	// 40 GB are left at the 11th, which is said, and is no alarm.
	want{check.OK, "", "", ""}.check(t, r)
	if text := r.Parts[0].Summary; !strings.Contains(text, "40 GB free, full in 40.0 h as it goes") {
		t.Errorf("it says %q", text)
	}
	if text := r.Parts[1].Summary; strings.Contains(text, "as it goes") {
		t.Errorf("what does not grow %q", text)
	}
	for range 20 {
		moment = moment.Add(hour)
		for path, u := range m {
			if u.Device == "1" {
				u.Used, u.Free = u.Used+gb, u.Free-gb
				m[path] = u
			}
		}
		r = look(t, Disk(o))
	}
	want{check.Warning, "warning from 70 %", "", ""}.check(t, r)
	said := strings.Join(append(r.Parts[0].Detail, r.Parts[0].Summary), "\n")
	if !strings.Contains(said, "will be full in 19.0 h as it goes") {
		t.Errorf("it says %q", said)
	}
}

func TestUntilFull(t *testing.T) {
	t.Parallel()
	line := func(n int, every time.Duration, grow uint64) []sample {
		var s []sample
		for i := range n {
			s = append(s, sample{at(0).Add(time.Duration(i) * every), 1000 + uint64(i)*grow})
		}
		return s
	}
	for _, tt := range []struct {
		name string
		s    []sample
		want time.Duration
	}{
		{"none", nil, 0},
		{"two", line(2, day, 10), 0},
		{"too short a time", line(30, time.Minute, 10), 0},
		{"even", line(30, hour, 0), 0},
		{"grows", line(30, hour, 10), 10 * hour},
		{"all at once", make([]sample, 30), 0},
	} {
		if got := untilFull(tt.s, 100); got.Round(time.Second) != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	if got := untilFull(line(30, hour, 1), math.MaxUint64); got <= 0 {
		t.Errorf("an age from now is %s", got)
	}
}

func TestDiskVolumes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testDiskVolumes)
}

// testDiskVolumes runs in a bubble, whose clock a busy machine does not move.
func testDiskVolumes(t *testing.T) {
	o := disks(halfFull())
	o.Memory = &documents{}
	moment := now()
	o.Now = func() time.Time { return moment }
	answer := func(context.Context) ([]VolumeSize, error) {
		return []VolumeSize{{"a", 5}, {"pg", 7 * gb}, {"b", 6}, {"redis", 2 * gb}}, nil
	}
	slow := func(ctx context.Context) ([]VolumeSize, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	o.VolumesLimit = 50 * time.Millisecond
	for _, tt := range []struct {
		volumes func(context.Context) ([]VolumeSize, error)
		later   time.Duration
		want    string
	}{
		{slow, 0, "Docker's volumes: sizes not known (not within 50 ms): docker system df -v"},
		// Not asked again right away.
		{answer, 5 * time.Minute, "Docker's volumes: sizes not known (not within 50 ms, asked 5 min ago): docker system df -v"},
		{answer, 11 * time.Minute, "Docker's volumes: pg 7 GB, redis 2 GB, b 6 B"},
		{slow, 16 * time.Minute, "Docker's volumes, as of 5 min ago: pg 7 GB, redis 2 GB, b 6 B"},
		{slow, 11*time.Minute + 3*hour, "Docker's volumes, as of 3.0 h ago (now: not within 50 ms): pg 7 GB, redis 2 GB, b 6 B"},
		{answer, 16*time.Minute + 3*hour, "Docker's volumes, as of 3.0 h ago (now: not within 50 ms, asked 5 min ago): pg 7 GB, redis 2 GB, b 6 B"},
	} {
		moment = now().Add(tt.later)
		o.Volumes = tt.volumes
		r := look(t, Disk(o))
		if r.Status != check.OK || len(r.Detail) != 1 || r.Detail[0] != tt.want {
			t.Errorf("%s: %q, want %q", r.Status, r.Detail, tt.want)
		}
	}
}

// A Docker that never answers costs itself alone: a full backup directory in no
// mount of its own is judged, and so is a filesystem that answers only after
// Docker's time is up; and of the check's time it takes half.
func TestDiskDockerHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		usage := halfFull()
		usage["/var/backups"] = Usage{Device: "3", Used: 99 * gb, Free: gb}
		o := disks(usage)
		o.Limit = 10 * time.Second
		docker := make(chan struct{})
		defer close(docker)
		o.Roles[0].Find = func(context.Context) (string, error) { <-docker; return "", nil }
		o.Volumes = func(context.Context) ([]VolumeSize, error) { <-docker; return nil, nil }
		quick := o.Usage
		o.Usage = func(path string) (Usage, error) {
			if path == "/" {
				time.Sleep(7 * time.Second)
			}
			return quick(path)
		}
		start := time.Now()
		r := look(t, Disk(o))
		if took := time.Since(start); took != 7*time.Second {
			t.Errorf("it took %s, the slowest filesystem 7 s", took)
		}
		want{check.Critical, "the directory of Docker's data: context deadline exceeded", "DiskUsage", "du -xh"}.check(t, r)
		got := map[string]check.Status{}
		for _, p := range r.Parts {
			got[p.ID] = p.Status
		}
		if want := map[string]check.Status{"/": check.OK, "/data": check.OK, "/var/backups": check.Critical}; !maps.Equal(got, want) {
			t.Errorf("the filesystems are %v, want %v", got, want)
		}
	})
}

// dateServer answers with a Date, and perhaps a status.
func dateServer(t *testing.T, date func() string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Date"] = []string{date()}
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// hangingServer takes connections and stays silent.
func hangingServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return "http://" + l.Addr().String()
}

func TestClock(t *testing.T) {
	t.Parallel()
	date := func(offset time.Duration) func() string {
		return func() string { return time.Now().Add(-offset).UTC().Format(http.TimeFormat) }
	}
	text := func(s string) func() string { return func() string { return s } }
	for _, tt := range []struct {
		name   string
		date   func() string
		outer  bool
		want   want
		hang   bool
		figure float64 // to within 2 s
	}{
		{name: "right", date: date(0), outer: true, want: want{check.OK, "agrees with A", "", ""}},
		{name: "right, but its own", date: date(0), want: want{check.OK, "no outside clock", "", ""}},
		{name: "a little off", date: date(20 * time.Second), outer: true, want: want{check.Warning, "s ahead, limit 5 s", "", "timedatectl"}, figure: 19},
		{name: "ten minutes ahead", date: date(10 * time.Minute), outer: true, want: want{check.Critical, "min ahead", "", "timedatectl"}, figure: 599},
		{name: "ten minutes behind", date: date(-10 * time.Minute), outer: true, want: want{check.Critical, "min behind", "", "timedatectl"}, figure: -600},
		{name: "nonsense", date: text("yesterday"), outer: true, want: want{check.Unknown, "no Date that can be read", "", "timedatectl"}},
		{name: "none", date: text(""), outer: true, want: want{check.Unknown, "no other clock answered", "", "timedatectl"}},
		{name: "silent", hang: true, outer: true, want: want{check.Unknown, "no other clock answered", "", "timedatectl"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			limit, serve := 30*time.Second, func() string { return dateServer(t, tt.date) }
			if tt.hang {
				limit, serve = testLimit, func() string { return hangingServer(t) }
			}
			r := look(t, Clock(ClockOptions{Sources: []ClockSource{{"A", tt.outer, HTTPClock(httpx.New(), serve())}}, Limit: limit, Now: time.Now}))
			tt.want.check(t, r)
			if tt.figure != 0 && math.Abs(figure(t, r, "offset")-tt.figure) > 4 {
				t.Errorf("offset %g, want %g", figure(t, r, "offset"), tt.figure)
			}
		})
	}
	r := look(t, Clock(ClockOptions{Now: time.Now}))
	want{check.Unknown, "there is no other clock to compare with", "", ""}.check(t, r)
	// One that is silent beside one that is not.
	r = look(t, Clock(ClockOptions{Sources: []ClockSource{
		{"A", true, HTTPClock(httpx.New(), dateServer(t, date(0)))}, {"B", true, HTTPClock(httpx.New(), "http://127.0.0.1:1")},
	}, Now: time.Now}))
	want{check.OK, "not asked: B: http://127.0.0.1:1: connection refused", "", ""}.check(t, r)
}

func TestCertsCheck(t *testing.T) {
	t.Parallel()
	host := func(name string, s check.Status) CertHost {
		return CertHost{name, func(context.Context) check.Result {
			return check.Result{Status: s, Summary: name + " says " + s.String(), Action: "see " + name}
		}}
	}
	want{check.Unknown, "no host to look at", "", "certs.domain"}.check(t, look(t, Certs(CertsOptions{})))
	r := look(t, Certs(CertsOptions{Hosts: []CertHost{host("a", check.OK), host("b", check.Critical), host("c", check.Warning)}}))
	want{check.Critical, "b says critical", "", "see b"}.check(t, r)
	if len(r.Parts) != 3 || r.ID != CertsID || r.Parts[0].ID != "a" {
		t.Errorf("%+v", r)
	}
}
