package s3store

import (
	"bytes"
	"errors"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stellarescrow/escrowctl/internal/store"
	"github.com/stellarescrow/escrowctl/internal/testenv/s3fault"
)

// TestPartSize: within 10,000 parts of at most 5 GiB there is room for S3's
// classic 5 TiB, and small backups go up in small parts.
func TestPartSize(t *testing.T) {
	for _, first := range []int64{defaultPartSize, 64 << 20, 5 << 30} {
		var total int64
		for n := 1; n <= maxParts; n++ {
			size := partSize(first, n)
			if size < first || size > 5<<30 {
				t.Fatalf("part %d is of %d bytes", n, size)
			}
			total += size
		}
		if total < 5<<40 {
			t.Errorf("first parts of %d bytes make %d bytes at most", first, total)
		}
	}
	if got := partSize(defaultPartSize, 1000); got != defaultPartSize {
		t.Errorf("part 1,000 is of %d bytes", got)
	}
}

// TestParallel: as many parts as Concurrency says are under way at once.
func TestParallel(t *testing.T) {
	newBench := setUp(t)
	for _, want := range []int{1, 3} {
		b := newBench(t, func(o *Options) { o.Concurrency = want })
		var now, most atomic.Int32
		b.proxy.On("Part", 0, -1, func(p *s3fault.Proxy, w http.ResponseWriter, r *http.Request) {
			n := now.Add(1)
			defer now.Add(-1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			time.Sleep(100 * time.Millisecond)
			p.Pass(w, r)
		})
		body := random(5 * minPartSize)
		if _, err := b.Upload(t.Context(), name, source(t, body)); err != nil {
			t.Fatal(err)
		}
		if got := int(most.Load()); got != want {
			t.Errorf("%d parts at once, want %d", got, want)
		}
		b.holds(t, body)
	}
}

// TestFollows: a part goes up as soon as the file holds it, and not when it
// ends.
func TestFollows(t *testing.T) {
	b := setUp(t)(t)
	g := growing(t)
	done := make(chan error, 1)
	go func() { _, err := b.Upload(t.Context(), name, g); done <- err }()
	body := random(3*minPartSize + 1)
	for i := range 3 {
		if _, err := g.Write(body[i*minPartSize : (i+1)*minPartSize]); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			continue // one byte more shows that it is not the whole file
		}
		for deadline := time.Now().Add(10 * time.Second); b.proxy.Count("Part") < i; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("after %d parts of the file, %d went up", i+1, b.proxy.Count("Part"))
			}
		}
	}
	if _, err := g.Write(body[3*minPartSize:]); err != nil {
		t.Fatal(err)
	}
	g.Finish(nil)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	b.holds(t, body)
}

// TestSlowBucketThrottlesNobody: the writer of the file is never held up.
func TestSlowBucketThrottlesNobody(t *testing.T) {
	b := setUp(t)(t)
	b.proxy.On("Part", 0, -1, s3fault.Hang)
	g := growing(t)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = b.Upload(t.Context(), name, g) })
	start := time.Now()
	piece := random(1 << 20)
	for range 100 {
		if _, err := g.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("writing 100 MiB beside a bucket that hangs took %s", took)
	}
	// Nor does an upload that hangs outlive a file that failed.
	g.Finish(errors.New("pg_dump was killed"))
	wg.Wait()
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("the upload of a file that failed took %s to end", took)
	}
	b.empty(t)
}

// TestMemory: no part is ever held in memory.
func TestMemory(t *testing.T) {
	b := setUp(t)(t, func(o *Options) { o.PartSize, o.Endpoint = 16<<20, "" }) // straight to the server
	body := bytes.Repeat(random(1<<20), 160)
	src := source(t, body)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := b.Upload(t.Context(), name, src); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 16<<20 {
		t.Errorf("uploading 160 MiB in parts of 16 MiB allocated %d MiB", got>>20)
	}
	b.holds(t, body)
}

// TestSweep: unfinished uploads of ours that are old, and no others.
func TestSweep(t *testing.T) {
	b := setUp(t)(t)
	client := b.server.Client()
	for _, key := range []string{
		"backups/" + name, "backups/" + store.ProbeName, "backups/other.txt", "backups/deeper/" + name, name, "backups-2/" + name,
	} {
		if _, err := client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &b.bucket, Key: aws.String(key)}); err != nil {
			t.Fatal(err)
		}
	}
	owns := func(n string) bool { return n == name }
	if got, err := b.Sweep(t.Context(), time.Now().Add(-time.Hour), owns); err != nil || len(got) != 0 {
		t.Errorf("Sweep of what is young: %v, %v", got, err)
	}
	got, err := b.Sweep(t.Context(), time.Now().Add(time.Hour), owns)
	slices.Sort(got)
	if want := []string{store.ProbeName, name}; err != nil || !slices.Equal(got, want) {
		t.Errorf("swept %v, %v, want %v", got, err, want)
	}
	left, err := client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &b.bucket})
	if err != nil || len(left.Uploads) != 4 {
		t.Errorf("left: %d uploads, %v", len(left.Uploads), err)
	}
	b.proxy.On("Uploads", 0, -1, s3fault.Status(403, "AccessDenied", "no"))
	if _, err := b.Sweep(t.Context(), time.Now(), owns); err == nil || !strings.Contains(err.Error(), "s3:ListBucketMultipartUploads") {
		t.Errorf("forbidden Sweep: %v", err)
	}
}

func growing(t *testing.T) *store.Growing {
	t.Helper()
	return store.NewGrowing(tempFile(t))
}
