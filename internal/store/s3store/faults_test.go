package s3store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stellarescrow/escrowctl/internal/store"
	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/testenv/s3fault"
)

// bench is a store that reaches its bucket through a proxy.
type bench struct {
	*Store
	proxy  *s3fault.Proxy
	server *testenv.S3Server
	bucket string
}

// setUp makes a server for the test, and through it one bench for each change
// of the options.
func setUp(t *testing.T) func(t *testing.T, change ...func(*Options)) bench {
	server := testenv.S3(t)
	server.Setenv(t)
	return func(t *testing.T, change ...func(*Options)) bench {
		t.Helper()
		b := bench{proxy: s3fault.New(t, server), server: server, bucket: server.Bucket(t)}
		opt := Options{
			Bucket: b.bucket, Prefix: "backups", Endpoint: b.proxy.URL, PartSize: minPartSize, Attempts: 3,
			Pause: time.Millisecond, Stall: 10 * time.Second,
		}
		for _, c := range change {
			c(&opt)
		}
		st, err := New(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		b.Store = st
		return b
	}
}

const name = "stellar_escrow_20260101T000000Z.sql.gz"

// big takes three parts, the last a small one.
const big = 2*minPartSize + 12345

func tempFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "src")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func source(t *testing.T, body []byte) store.Source {
	t.Helper()
	f := tempFile(t)
	if _, err := f.Write(body); err != nil {
		t.Fatal(err)
	}
	src, err := store.FileSource(f)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// holds fails the test unless the object is the body, whole, and nothing
// unfinished is left. It asks the server itself.
func (b bench) holds(t *testing.T, body []byte) {
	t.Helper()
	out, err := b.server.Client().GetObject(t.Context(), &s3.GetObjectInput{Bucket: &b.bucket, Key: b.key(name)})
	if err != nil {
		t.Errorf("the object is not there: %v", err)
		return
	}
	defer out.Body.Close()
	if got, err := io.ReadAll(out.Body); err != nil || !bytes.Equal(got, body) {
		t.Errorf("the object's %d bytes are not the %d sent (%v)", len(got), len(body), err)
	}
	b.noUploads(t)
}

// empty fails the test if anything is left in the bucket.
func (b bench) empty(t *testing.T) {
	t.Helper()
	out, err := b.server.Client().ListObjectsV2(context.Background(), &s3.ListObjectsV2Input{Bucket: &b.bucket})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range out.Contents {
		t.Errorf("left in the bucket: %s", aws.ToString(o.Key))
	}
	b.noUploads(t)
}

func (b bench) noUploads(t *testing.T) {
	t.Helper()
	out, err := b.server.Client().ListMultipartUploads(context.Background(), &s3.ListMultipartUploadsInput{Bucket: &b.bucket})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range out.Uploads {
		t.Errorf("left unfinished: %s", aws.ToString(u.Key))
	}
}

// TestUploadSurvives: faults that pass are mended, and the object is whole.
func TestUploadSurvives(t *testing.T) {
	newBench := setUp(t)
	for what, c := range map[string]struct {
		size  int
		kind  string
		times int
		fault s3fault.Fault
	}{
		"part reset at its start":         {big, "Part", 2, s3fault.Reset(0)},
		"part reset in its middle":        {big, "Part", 3, s3fault.Reset(minPartSize / 2)},
		"part reset at its end":           {big, "Part", 2, s3fault.Reset(minPartSize)},
		"part answered 500":               {big, "Part", 4, s3fault.Status(500, "InternalError", "We encountered an internal error.")},
		"part answered 503":               {big, "Part", 5, s3fault.Status(503, "SlowDown", "Please reduce your request rate.")},
		"part kept, answer lost":          {big, "Part", 2, s3fault.LoseAnswer},
		"part damaged on its way":         {big, "Part", 2, s3fault.Damage},
		"create answered 503":             {big, "Create", 2, s3fault.Status(503, "SlowDown", "")},
		"complete answered 500":           {big, "Complete", 3, s3fault.Status(500, "InternalError", "")},
		"complete failed under a 200":     {big, "Complete", 2, s3fault.Status(200, "InternalError", "We encountered an internal error. Please try again.")},
		"complete done, answer lost":      {big, "Complete", 1, s3fault.LoseAnswer},
		"complete reset":                  {big, "Complete", 2, s3fault.Reset(0)},
		"complete met a conflict":         {big, "Complete", 1, s3fault.Status(409, "ConditionalRequestConflict", "")},
		"conditional complete unknown":    {big, "Complete", 1, s3fault.Status(501, "NotImplemented", "A header you provided implies functionality that is not implemented.")},
		"confirm answered 503":            {big, "Head", 2, s3fault.Status(503, "SlowDown", "")},
		"small: reset":                    {1000, "Put", 3, s3fault.Reset(10)},
		"small: answered 500":             {1000, "Put", 3, s3fault.Status(500, "InternalError", "")},
		"small: done, answer lost":        {1000, "Put", 1, s3fault.LoseAnswer},
		"small: met a conflict":           {1000, "Put", 2, s3fault.Status(409, "ConditionalRequestConflict", "")},
		"small: conditional unknown":      {1000, "Put", 1, s3fault.Status(501, "NotImplemented", "")},
		"whoever may not look may upload": {big, "Head", 1, s3fault.Status(403, "", "")},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			r := b.proxy.On(c.kind, 0, c.times, c.fault)
			body := random(c.size)
			rcpt, err := b.Upload(t.Context(), name, source(t, body))
			if err != nil {
				t.Fatal(err)
			}
			if rcpt.Size != int64(c.size) || rcpt.Evidence != store.BySHA256 {
				t.Errorf("receipt: %+v", rcpt)
			}
			if fired := b.proxy.Fired(r); fired != c.times {
				t.Errorf("%d faults were made, want %d", fired, c.times)
			}
			b.holds(t, body)
		})
	}
}

// TestUploadFails: faults that stay end the upload with an error that says
// what, where and what to do, and leave nothing behind.
func TestUploadFails(t *testing.T) {
	newBench := setUp(t)
	for what, c := range map[string]struct {
		kind  string
		fault s3fault.Fault
		want  []string
	}{
		"403 on a part": {
			"Part", s3fault.Status(403, "AccessDenied", "User: arn:aws:iam::1:user/backup is not authorized"),
			[]string{"upload part ", name, "AccessDenied (HTTP 403)", "is not authorized", "lack s3:PutObject on bucket"},
		},
		"403 at the beginning": {"Create", s3fault.Status(403, "AccessDenied", "no"), []string{"begin the upload of", "AccessDenied", "s3:PutObject"}},
		"wrong keys":           {"Create", s3fault.Status(403, "InvalidAccessKeyId", "no"), []string{"InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"}},
		"clock":                {"Create", s3fault.Status(403, "RequestTimeTooSkewed", "The difference is too large."), []string{"clock is wrong", "chrony"}},
		"expired":              {"Create", s3fault.Status(400, "ExpiredToken", "no"), []string{"ExpiredToken (HTTP 400)", "new credentials"}},
		"storage class":        {"Create", s3fault.Status(400, "InvalidStorageClass", "no"), []string{"STANDARD_IA", "s3.storage_class"}},
		"503 for ever":         {"Part", s3fault.Status(503, "SlowDown", "Reduce."), []string{"SlowDown (HTTP 503)", "tried 6 times", "s3.concurrency"}},
		"reset for ever":       {"Part", s3fault.Reset(10), []string{"upload part ", "connection", "tried 6 times", "check the network"}},
		"upload swept away":    {"Part", s3fault.Status(404, "NoSuchUpload", "no"), []string{"NoSuchUpload", "aborted meanwhile"}},
		"complete fails":       {"Complete", s3fault.Status(500, "InternalError", "no"), []string{"complete the upload of", "InternalError (HTTP 500)"}},
		"complete refused":     {"Complete", s3fault.Status(400, "InvalidPart", "no such part"), []string{"InvalidPart (HTTP 400): no such part"}},
		"a web page":           {"Create", s3fault.Status(502, "html", "no"), []string{"HTTP 502", "the store failed"}},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t, func(o *Options) { o.StorageClass = "STANDARD_IA" })
			b.proxy.On(c.kind, 0, -1, c.fault)
			_, err := b.Upload(t.Context(), name, source(t, random(big)))
			if err == nil {
				t.Fatal("it succeeded")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "\n") || errors.Is(err, context.Canceled) || errors.Is(err, store.ErrNotExist) || errors.Is(err, store.ErrExist) {
				t.Errorf("%q leads callers astray", err)
			}
			b.empty(t)
		})
	}
}

// TestUploadUnproven: an object that cannot be shown to be what was sent is not
// left under its name.
func TestUploadUnproven(t *testing.T) {
	newBench := setUp(t)
	for what, c := range map[string]struct {
		change func(http.Header)
		want   string
	}{
		"checksum": {func(h http.Header) {
			h.Set("X-Amz-Checksum-Sha256", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=-3")
		}, "its SHA-256 is 47DEQ"},
		"count of parts": {func(h http.Header) {
			h.Set("X-Amz-Checksum-Sha256", strings.TrimSuffix(h.Get("X-Amz-Checksum-Sha256"), "-3")+"-2")
		}, "its SHA-256 is"},
		"size": {func(h http.Header) { h.Set("Content-Length", "17") }, "it holds 17 bytes, 10498105 were sent"},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			b.proxy.On("Head", 2, -1, s3fault.Edit(c.change)) // after the looks for the object and the bucket
			_, err := b.Upload(t.Context(), name, source(t, random(big)))
			if !errors.Is(err, store.ErrMismatch) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Upload: %v", err)
			}
			b.empty(t)
		})
	}
	t.Run("small", func(t *testing.T) {
		b := newBench(t)
		b.proxy.On("Head", 2, -1, s3fault.Edit(func(h http.Header) { h.Set("X-Amz-Checksum-Sha256", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=") }))
		if _, err := b.Upload(t.Context(), name, source(t, random(1000))); !errors.Is(err, store.ErrMismatch) {
			t.Errorf("Upload: %v", err)
		}
		b.empty(t)
	})
	t.Run("cannot be asked", func(t *testing.T) {
		b := newBench(t)
		b.proxy.On("Head", 2, -1, s3fault.Status(403, "", ""))
		if _, err := b.Upload(t.Context(), name, source(t, random(big))); err == nil || !strings.Contains(err.Error(), "confirm the upload of") || !strings.Contains(err.Error(), "s3:GetObject") {
			t.Errorf("Upload: %v", err)
		}
		b.empty(t)
	})
	t.Run("neither confirmed nor deleted", func(t *testing.T) {
		b := newBench(t)
		b.proxy.On("Head", 2, -1, s3fault.Edit(func(h http.Header) { h.Set("Content-Length", "17") }))
		b.proxy.On("Delete", 0, -1, s3fault.Status(403, "AccessDenied", "no"))
		if _, err := b.Upload(t.Context(), name, source(t, random(1000))); !errors.Is(err, store.ErrMismatch) || !strings.Contains(err.Error(), "still there") {
			t.Errorf("Upload: %v", err)
		}
	})
}

// TestEvidence: where the store keeps no SHA-256, its ETag must do, and where
// that is not an MD5, the length.
func TestEvidence(t *testing.T) {
	newBench := setUp(t)
	without := func(h http.Header) { h.Del("X-Amz-Checksum-Sha256") }
	for what, c := range map[string]struct {
		off    bool
		change func(http.Header)
		want   store.Evidence
	}{
		"checksums":         {false, func(http.Header) {}, store.BySHA256},
		"checksums dropped": {false, without, store.ByETag},
		"checksums off":     {true, func(http.Header) {}, store.ByETag},
		"encrypted":         {false, func(h http.Header) { without(h); h.Set("Etag", `"00000000000000000000000000000000-3"`) }, store.BySize},
		"odd ETag":          {false, func(h http.Header) { without(h); h.Set("Etag", `"abc"`) }, store.BySize},
		"no ETag":           {false, func(h http.Header) { without(h); h.Del("Etag") }, store.BySize},
	} {
		t.Run(what, func(t *testing.T) {
			for _, size := range []int{0, 1000, big} {
				b := newBench(t, func(o *Options) { o.NoChecksum = c.off })
				b.proxy.On("Head", 2, -1, s3fault.Edit(c.change))
				body := random(size)
				rcpt, err := b.Upload(t.Context(), name, source(t, body))
				if err != nil {
					t.Fatal(err)
				}
				if rcpt.Evidence != c.want {
					t.Errorf("%d bytes: evidence %s, want %s", size, rcpt.Evidence, c.want)
				}
				b.holds(t, body)
				seen, heads := b.proxy.Seen()
				for i, h := range heads {
					if c.off && (h.Get("X-Amz-Checksum-Sha256") != "" || h.Get("X-Amz-Checksum-Algorithm") != "") {
						t.Errorf("%s carried a checksum", seen[i])
					}
				}
			}
		})
	}
}

// TestHeaders: checksums are headers and no trailers, and are what is signed.
func TestHeaders(t *testing.T) {
	b := setUp(t)(t)
	if _, err := b.Upload(t.Context(), name, source(t, random(big))); err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), "manifest.json", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	bodies := 0
	seen, heads := b.proxy.Seen()
	for i, h := range heads {
		kind := seen[i]
		if h.Get("X-Amz-Trailer") != "" || strings.Contains(h.Get("Content-Encoding"), "aws-chunked") {
			t.Errorf("%s has a trailer: %v", kind, h)
		}
		if kind != "Part" && kind != "Put" {
			continue
		}
		bodies++
		if h.Get("X-Amz-Checksum-Sha256") == "" || len(h.Get("X-Amz-Content-Sha256")) != 64 {
			t.Errorf("%s is without checksum or signed hash: %v", kind, h)
		}
		if kind == "Put" && h.Get("If-None-Match") != "*" {
			t.Errorf("%s is not conditional", kind)
		}
	}
	if bodies != 4 {
		t.Errorf("%d requests with a body, want 4", bodies)
	}
}

// counting counts the bytes read of a source.
type counting struct {
	store.Source
	n atomic.Int64
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.Source.ReadAt(p, off)
	c.n.Add(int64(n))
	return n, err
}

// TestReadsTwice: once for the hash, once to send, though the SDK signs a hash
// of the payload too; and one more time for a retry.
func TestReadsTwice(t *testing.T) {
	newBench := setUp(t)
	for what, retries := range map[string]int{"smooth": 0, "one part again": 1} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			b.proxy.On("Part", 0, retries, s3fault.Status(500, "InternalError", ""))
			src := &counting{Source: source(t, random(4*minPartSize))}
			if _, err := b.Upload(t.Context(), name, src); err != nil {
				t.Fatal(err)
			}
			if got, want := src.n.Load(), int64((8+retries)*minPartSize); got != want {
				t.Errorf("%d bytes were read, want %d", got, want)
			}
		})
	}
}

// TestDamage: a way that changes a byte every time ends the upload.
func TestDamage(t *testing.T) {
	b := setUp(t)(t)
	b.proxy.On("Part", 0, -1, s3fault.Damage)
	if _, err := b.Upload(t.Context(), name, source(t, random(big))); err == nil || !strings.Contains(err.Error(), "changed between the disk and the store") {
		t.Errorf("Upload: %v", err)
	}
	b.empty(t)
}
