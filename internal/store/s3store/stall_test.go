package s3store

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/store"
	"github.com/stellarescrow/escrowctl/internal/testenv/s3fault"
)

func impatient(o *Options) { o.Stall, o.MinRate = 400*time.Millisecond, 100<<20 }

// TestStallMended: a request that makes no progress is dropped and made again.
func TestStallMended(t *testing.T) {
	newBench := setUp(t)
	for what, c := range map[string]struct {
		kind  string
		fault s3fault.Fault
	}{
		"part not taken":       {"Part", s3fault.Hang},
		"part not answered":    {"Part", s3fault.HangBody},
		"create not answered":  {"Create", s3fault.HangBody},
		"look not answered":    {"Head", s3fault.HangBody},
		"confirm not answered": {"Head", s3fault.HangBody},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t, impatient)
			skip := 0
			if strings.HasPrefix(what, "confirm") {
				skip = 2
			}
			r := b.proxy.On(c.kind, skip, 1, c.fault)
			body := random(big)
			if _, err := b.Upload(t.Context(), name, source(t, body)); err != nil {
				t.Fatal(err)
			}
			if b.proxy.Fired(r) != 1 {
				t.Error("nothing hung")
			}
			out, err := b.List(t.Context())
			if err != nil || len(out) != 1 || out[0].Size != big {
				t.Errorf("List: %v, %v", out, err)
			}
		})
	}
}

// TestStallEnds: a store that never answers ends the upload in bounded time.
func TestStallEnds(t *testing.T) {
	newBench := setUp(t)
	for what, fault := range map[string]s3fault.Fault{"not taken": s3fault.Hang, "not answered": s3fault.HangBody} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t, func(o *Options) { o.Stall, o.MinRate, o.Attempts = 100*time.Millisecond, 100<<20, 1 })
			b.proxy.On("Part", 0, -1, fault)
			_, err := b.Upload(t.Context(), name, source(t, random(2*minPartSize)))
			if err == nil {
				t.Fatal("it succeeded")
			}
			for _, want := range []string{"upload part ", "no progress for 1", "tried 2 times", "does not answer"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			b.empty(t)
		})
	}
}

// TestServerPaused: the whole server stops answering, as a machine that swaps
// itself to death does, and comes back.
func TestServerPaused(t *testing.T) {
	b := setUp(t)(t, impatient, func(o *Options) { o.Attempts = 10 })
	b.server.Pause(t)
	time.AfterFunc(1500*time.Millisecond, func() { b.server.Resume(t) })
	body := random(big)
	if _, err := b.Upload(t.Context(), name, source(t, body)); err != nil {
		t.Fatal(err)
	}
	b.holds(t, body)
}

// TestSlow: slow is not stalled, up to the least rate.
func TestSlow(t *testing.T) {
	newBench := setUp(t)
	t.Run("enough", func(t *testing.T) {
		b := newBench(t, impatient, func(o *Options) { o.MinRate = 1 << 20 })
		b.proxy.On("Part", 0, -1, s3fault.Crawl(6<<20)) // a part takes longer than the limit
		body := random(big)
		if _, err := b.Upload(t.Context(), name, source(t, body)); err != nil {
			t.Fatal(err)
		}
		b.holds(t, body)
	})
	t.Run("too slow", func(t *testing.T) {
		b := newBench(t, func(o *Options) {
			o.Stall, o.MinRate, o.Attempts, o.PartSize = 1500*time.Millisecond, 20<<20, 1, 20<<20
		})
		b.proxy.On("Part", 0, -1, s3fault.Crawl(3<<20))
		_, err := b.Upload(t.Context(), name, source(t, random(20<<20+1)))
		if err == nil || !strings.Contains(err.Error(), "20971520 bytes not taken within ") {
			t.Errorf("Upload: %v", err)
		}
		b.empty(t)
	})
	t.Run("assembling", func(t *testing.T) {
		b := newBench(t, func(o *Options) { o.Stall = 200 * time.Millisecond })
		b.proxy.On("Complete", 0, 1, func(p *s3fault.Proxy, w http.ResponseWriter, r *http.Request) {
			time.Sleep(600 * time.Millisecond)
			p.Pass(w, r)
		})
		if _, err := b.Upload(t.Context(), name, source(t, random(big))); err != nil {
			t.Fatal(err)
		}
		if n := b.proxy.Count("Complete"); n != 1 {
			t.Errorf("asked to assemble %d times", n)
		}
	})
}

// TestSlowReader: a reader in no hurry is not at fault, as while psql builds an
// index.
func TestSlowReader(t *testing.T) {
	b := setUp(t)(t, func(o *Options) { o.Stall = 100 * time.Millisecond })
	body := random(8 << 20) // more than the connection holds
	if err := b.Put(t.Context(), name, body); err != nil {
		t.Fatal(err)
	}
	rc, err := b.Open(t.Context(), name, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if _, err := io.ReadFull(rc, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(400 * time.Millisecond)
	if n, err := io.Copy(io.Discard, rc); err != nil || n != int64(len(body)-1000) {
		t.Errorf("read %d bytes more, %v", n, err)
	}
	if n := b.proxy.Count("Get"); n != 1 {
		t.Errorf("it was asked for %d times", n)
	}
}

// TestCancelHung: SIGTERM while the store hangs ends at once and leaves nothing.
func TestCancelHung(t *testing.T) {
	b := setUp(t)(t)
	b.proxy.On("Part", 1, -1, s3fault.Hang)
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(300*time.Millisecond, func() { cancel(interrupted) })
	start := time.Now()
	if _, err := b.Upload(ctx, name, source(t, random(big))); !errors.Is(err, interrupted) {
		t.Errorf("Upload: %v", err)
	}
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("it took %s to end", took)
	}
	if n := b.proxy.Count("Abort"); n != 1 {
		t.Errorf("%d uploads were aborted, want 1", n)
	}
	b.empty(t)
}

// TestAbortFails: what cannot be tidied up is said, beside the reason, and found
// by the next Sweep.
func TestAbortFails(t *testing.T) {
	b := setUp(t)(t)
	b.proxy.On("Part", 0, -1, s3fault.Status(403, "AccessDenied", "no"))
	b.proxy.On("Abort", 0, -1, s3fault.Status(500, "InternalError", "no"))
	_, err := b.Upload(t.Context(), name, source(t, random(big)))
	if err == nil || !strings.Contains(err.Error(), "upload part ") || !strings.Contains(err.Error(), "parts are still there") {
		t.Errorf("Upload: %v", err)
	}
	b.proxy.Clear()
	owns := func(n string) bool { return n == name }
	if swept, err := b.Sweep(t.Context(), time.Now().Add(-time.Hour), owns); err != nil || len(swept) != 0 {
		t.Errorf("Sweep of what is young: %v, %v", swept, err)
	}
	if swept, err := b.Sweep(t.Context(), time.Now().Add(time.Hour), owns); err != nil || len(swept) != 1 || swept[0] != name {
		t.Errorf("Sweep: %v, %v", swept, err)
	}
	b.empty(t)
}

// TestLostCreateOnly: a lost answer is no licence to take another's object for
// our own, nor to delete it.
func TestLostCreateOnly(t *testing.T) {
	newBench := setUp(t)
	for what, size := range map[string]int{"small": 1000, "in parts": big} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			theirs := random(10)
			another := func(p *s3fault.Proxy, w http.ResponseWriter, _ *http.Request) {
				other, err := New(t.Context(), Options{Bucket: b.bucket, Prefix: "backups", Endpoint: b.server.Endpoint})
				if err == nil {
					err = other.Put(t.Context(), name, theirs)
				}
				if err != nil {
					t.Error(err)
				}
				s3fault.Cut(w)
			}
			b.proxy.On("Put", 0, 1, another)
			b.proxy.On("Complete", 0, 1, another)
			if _, err := b.Upload(t.Context(), name, source(t, random(size))); !errors.Is(err, store.ErrExist) || !strings.Contains(err.Error(), "there already") {
				t.Errorf("Upload: %v", err)
			}
			b.holds(t, theirs)
		})
	}
}

// TestUnconditional: a store that knows no conditions is asked first.
func TestUnconditional(t *testing.T) {
	newBench := setUp(t)
	for what, size := range map[string]int{"small": 1000, "in parts": big} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			b.proxy.On("Head", 0, 1, s3fault.Status(403, "", "")) // so that it is not told at once
			refuse := s3fault.Status(501, "NotImplemented", "no")
			b.proxy.On("Put", 0, 1, refuse)
			b.proxy.On("Complete", 0, 1, refuse)
			other, err := New(t.Context(), Options{Bucket: b.bucket, Prefix: "backups", Endpoint: b.server.Endpoint})
			if err != nil {
				t.Fatal(err)
			}
			theirs := random(10)
			if err := other.Put(t.Context(), name, theirs); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Upload(t.Context(), name, source(t, random(size))); !errors.Is(err, store.ErrExist) {
				t.Errorf("Upload: %v", err)
			}
			b.holds(t, theirs)
		})
	}
}
