package storm

import (
	"fmt"
	"net/http"

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
	const group, lacks = "S3", "the bucket lacks it"
	slow := s3fault.Status(503, "SlowDown", "Please reduce your request rate.")
	faults := []fault{
		{group: group, name: "refused", before: s3Refused, says: []string{"connection refused", "check s3.endpoint"}, on: []cell{
			on("backup", 2, lacks), on("verify --s3", 3), on("restore", 2)}},
		{group: group, name: "403", before: always("", s3fault.Status(403, "AccessDenied", "Access Denied")), says: []string{"AccessDenied", "lack s3:"}, on: []cell{on("upload", 2)}},
		{group: group, name: "503", before: always("", slow), says: []string{"SlowDown", "overloaded"}, on: []cell{on("backup", 2, lacks)}},
		{group: group, name: "clock skew 403", says: []string{"clock is wrong"}, on: []cell{on("backup", 2, lacks)},
			before: always("", s3fault.Status(403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."))},
		{group: group, name: "503 twice", before: first("Part", 2, slow), on: []cell{on("upload", 0)}},
		{group: group, name: "reset in a part", before: first("Part", 2, s3fault.Reset(1<<20)), on: []cell{on("backup", 0)}},
		{group: group, name: "wrong checksum returned", before: liar, on: []cell{on("backup", 2, lacks, "is not what was sent")}},
		{group: group, name: "upload not confirmed, no right to delete", before: addOnlyLiar, on: []cell{on("backup", 2, "the object is still there")}},
	}
	return quick(faults, "refused/verify --s3", "403/upload", "clock skew 403/backup", "503 twice/upload", "reset in a part/backup",
		"upload not confirmed, no right to delete/backup")
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
