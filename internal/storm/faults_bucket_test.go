package storm

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv/s3fault"
)

// always makes a fault of every request of a kind; "" is any.
func always(kind string, fault s3fault.Fault) func(*stage) {
	return func(s *stage) { s.Faults.On(kind, 0, -1, fault) }
}

// first does so of the first n requests of a kind, which must come.
func first(kind string, n int, fault s3fault.Fault) func(*stage) {
	return func(s *stage) { s.armed = append(s.armed, s.Faults.On(kind, 0, n, fault)) }
}

// gate holds the requests of a kind, and is the moment when the first comes.
func gate(kind string) func(*stage) <-chan struct{} {
	return func(s *stage) <-chan struct{} {
		g := s3fault.NewGate()
		s.Faults.On(kind, 0, -1, g.Hold)
		s.later(g.Open)
		return g.Reached()
	}
}

// bucketFaults are those of the bucket and of the way to it. A backup keeps its
// local copy whatever they are.
func bucketFaults() []fault {
	const lacks = "the bucket lacks it"
	all := func(name string, before func(*stage), says ...string) fault {
		return fault{group: "S3", name: name, before: before, says: says, on: []cell{
			on("backup", 2, lacks), on("upload", 2), on("verify", 0), on("verify --s3", 3), on("restore", 2), on("dr-test", 3)}}
	}
	writing := func(name, kind string, n int, what s3fault.Fault, code int, says ...string) fault {
		before := always(kind, what)
		if n > 0 {
			before = first(kind, n, what)
		}
		return fault{group: "S3", name: name, before: before, says: says, on: []cell{on("backup", code), on("upload", code)}}
	}
	reading := func(name string, before func(*stage), verify, restore, drTest int, says ...string) fault {
		return fault{group: "S3", name: name, before: before, says: says, on: []cell{on("verify --s3", verify), on("restore", restore), on("dr-test", drTest)}}
	}
	slow := s3fault.Status(503, "SlowDown", "Please reduce your request rate.")
	broken := s3fault.Status(500, "InternalError", "We encountered an internal error.")
	faults := []fault{
		all("refused", s3Refused, "connection refused", "check s3.endpoint"),
		all("403", always("", s3fault.Status(403, "AccessDenied", "Access Denied")), "AccessDenied", "lack s3:"),
		all("404", always("", s3fault.Status(404, "NoSuchBucket", "The specified bucket does not exist")), "NoSuchBucket", "there is no bucket"),
		all("500", always("", broken), "InternalError", "try again later"),
		all("503", always("", slow), "SlowDown", "overloaded"),
		all("clock skew 403", always("", s3fault.Status(403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")), "clock is wrong"),
		writing("500 twice", "Part", 2, broken, 0),
		writing("503 twice", "Part", 2, slow, 0),
		writing("503 at the end", "Complete", 2, slow, 0),
		writing("reset in a part", "Part", 2, s3fault.Reset(1<<20), 0),
		patient(writing("reset in every part", "Part", 0, s3fault.Reset(1<<20), 2, "connection", "check the network")),
		writing("answer lost", "Complete", 1, s3fault.LoseAnswer, 0),
		writing("damage in a part", "Part", 1, s3fault.Damage, 0), // it is refused, and sent again
		patient(writing("damage in every part", "Part", 0, s3fault.Damage, 2, "changed between the disk and the store")),
		{group: "S3", name: "wrong checksum returned", before: liar, on: []cell{on("backup", 2, lacks, "is not what was sent"), on("upload", 2, "is not what was sent")}},
		{group: "S3", name: "upload not confirmed, no right to delete", before: addOnlyLiar, on: []cell{on("backup", 2, "the object is still there").soon()}},
		reading("reset while read", func(s *stage) {
			s.armed = append(s.armed, s.Faults.On("Get", 4, 1, s3fault.BreakAfter(1<<20))) // the first are manifests
		}, 0, 0, 0),
		reading("damage while read", spoiled, 2, 2, 2, "SHA-256"),
		{group: "S3", name: "10 kB/s", before: crawl, limit: 3 * time.Minute, says: []string{"backup.timeout"}, on: []cell{on("backup", 2, lacks)}},
		{group: "S3", name: "a list of 20,000 objects", before: crowdedBucket, limit: 3 * time.Minute, on: []cell{
			on("backup", 0), on("upload", 0), on("verify --s3", 0), on("restore", 0), on("dr-test", 0)}},
	}
	return quick(faults, "503 twice/upload", "reset in a part/backup", "wrong checksum returned/backup")
}

// quick has `make test` run these cells too: "fault/command".
func quick(faults []fault, names ...string) []fault {
	left := map[string]bool{}
	for _, name := range names {
		left[name] = true
	}
	for _, f := range faults {
		for i := range f.on {
			name := f.name + "/" + f.on[i].cmd
			f.on[i].quick = f.on[i].quick || left[name]
			delete(left, name)
		}
	}
	if len(left) > 0 {
		panic(fmt.Sprint("no such cells: ", left))
	}
	return faults
}

// patient is a fault that costs all tries of a part: ten, with up to 20 s between two.
func patient(f fault) fault {
	f.limit = 4 * time.Minute
	return f
}

func s3Refused(s *stage) { s.set("AWS_ENDPOINT_URL_S3=http://127.0.0.1:9") }

// liar shows a checksum that is not the object's.
func liar(s *stage) {
	s.Faults.On("Head", 0, -1, s3fault.Edit(func(h http.Header) {
		if h.Get("X-Amz-Checksum-Sha256") != "" {
			h.Set("X-Amz-Checksum-Sha256", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
		}
	}))
}

// addOnlyLiar refuses to delete besides, as the advised policy does, and goes on
// to do so in the next run.
func addOnlyLiar(s *stage) {
	liar(s)
	refuse := func() { s.Faults.On("Delete", 0, -1, s3fault.Status(403, "AccessDenied", "Access Denied")) }
	refuse()
	s.later(refuse)
}

// spoiled damages what is read of a dump, always.
func spoiled(s *stage) {
	s.Faults.On("Get", 0, -1, func(p *s3fault.Proxy, w http.ResponseWriter, r *http.Request) {
		if filepath.Ext(r.URL.Path) == ".gz" {
			s3fault.Spoil(p, w, r)
			return
		}
		p.Pass(w, r)
	})
}

func crawl(s *stage) {
	s.Faults.On("Part", 0, -1, s3fault.Crawl(10_000))
	s.set("ESCROWCTL_BACKUP_TIMEOUT=20s")
}

// crowdedBucket has 20,000 other objects beside the backups.
func crowdedBucket(s *stage) {
	dir := filepath.Dir(s.Object("x"))
	for i := range 20_000 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("other_%05d.txt", i)), nil, 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
}
