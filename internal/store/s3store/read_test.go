package s3store

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/store"
	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/testenv/s3fault"
)

// TestReadResumes: a read that breaks goes on where it was.
func TestReadResumes(t *testing.T) {
	newBench := setUp(t)
	body := random(3 << 20)
	for what, c := range map[string]struct {
		off, n int64
		times  int
		fault  s3fault.Fault
	}{
		"whole":              {0, -1, 4, s3fault.BreakAfter(500_000)},
		"to the end":         {1_000_000, -1, 3, s3fault.BreakAfter(500_000)},
		"a range":            {1_000_000, 1_500_000, 2, s3fault.BreakAfter(500_000)},
		"beyond the end":     {3_000_000, 10_000_000, 1, s3fault.BreakAfter(50_000)},
		"before a byte came": {0, -1, 2, s3fault.BreakAfter(0)},
		"at the very end":    {0, -1, 1, s3fault.BreakAfter(3<<20 - 1)},
		"frozen":             {0, -1, 2, s3fault.Freeze(1_000_000)},
		"refused at first":   {0, -1, 2, s3fault.Status(503, "SlowDown", "")},
		"reset at first":     {0, -1, 2, s3fault.Reset(0)},
		"not answered":       {0, -1, 1, s3fault.Hang},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t, impatient)
			if err := b.Put(t.Context(), name, body); err != nil {
				t.Fatal(err)
			}
			r := b.proxy.On("Get", 0, c.times, c.fault)
			rc, err := b.Open(t.Context(), name, c.off, c.n)
			if err != nil {
				t.Fatal(err)
			}
			defer rc.Close()
			got, err := io.ReadAll(rc)
			if err != nil {
				t.Fatal(err)
			}
			want := body[c.off:]
			if c.n >= 0 && c.n < int64(len(want)) {
				want = want[:c.n]
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes that are not the %d asked for", len(got), len(want))
			}
			if b.proxy.Fired(r) != c.times {
				t.Errorf("%d faults, want %d", b.proxy.Fired(r), c.times)
			}
		})
	}
}

// TestReadFails: an end that comes early is never taken for the end, nor
// another object or place for the one asked for.
func TestReadFails(t *testing.T) {
	newBench := setUp(t)
	body := random(2 << 20)
	for what, c := range map[string]struct {
		skip  int
		fault s3fault.Fault
		off   int64
		want  []string
		is    error
	}{
		"breaks for ever":    {0, s3fault.BreakAfter(0), 0, []string{"broke off 3 times at byte 0", "reset by peer", "check the network"}, nil},
		"gone in mid-stream": {1, s3fault.Status(404, "NoSuchKey", "no"), 0, []string{"NoSuchKey (HTTP 404)"}, store.ErrNotExist},
		"forbidden":          {0, s3fault.Status(403, "AccessDenied", "no"), 0, []string{"read s3://", "lack s3:GetObject on"}, nil},
		"archived":           {0, s3fault.Status(403, "InvalidObjectState", "no"), 0, []string{"restore-object"}, nil},
		"range ignored": {0, func(p *s3fault.Proxy, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "4")
			_, _ = w.Write([]byte("junk"))
		}, 1000, []string{"begins at byte 0, not at 1000"}, nil},
		"wrong range":       {0, s3fault.Edit(func(h http.Header) { h.Set("Content-Range", "bytes 0-2096151/2097152") }), 1000, []string{"begins at byte 0, not at 1000"}, nil},
		"another's answer":  {1, s3fault.Edit(func(h http.Header) { h.Set("Etag", `"other"`) }), 0, []string{"replaced while being read"}, store.ErrChanged},
		"shorter than said": {0, s3fault.Edit(func(h http.Header) { h.Set("Content-Range", "bytes 1000-2097151/9999999") }), 1000, []string{"2096152 bytes of 9998999"}, store.ErrChanged},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			if err := b.Put(t.Context(), name, body); err != nil {
				t.Fatal(err)
			}
			if c.skip > 0 {
				b.proxy.On("Get", 0, c.skip, s3fault.BreakAfter(1_000_000))
			}
			b.proxy.On("Get", 0, -1, c.fault)
			rc, err := b.Open(t.Context(), name, c.off, -1)
			if err == nil {
				defer rc.Close()
				var n int64
				if n, err = io.Copy(io.Discard, rc); err == nil {
					t.Fatalf("%d bytes were read as if they were all", n)
				}
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v is not %v", err, c.is)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

// TestReadReplaced: an object that is replaced while it is read is not mixed of
// both.
func TestReadReplaced(t *testing.T) {
	b := setUp(t)(t)
	if err := b.Put(t.Context(), name, random(2<<20)); err != nil {
		t.Fatal(err)
	}
	b.proxy.On("Get", 0, 1, func(p *s3fault.Proxy, w http.ResponseWriter, r *http.Request) {
		s3fault.BreakAfter(1000)(p, w, r)
		if err := errors.Join(b.Delete(t.Context(), name), b.Put(t.Context(), name, random(2<<20))); err != nil {
			t.Error(err)
		}
	})
	// The next request waits for the replacement.
	b.proxy.On("Get", 0, 1, func(p *s3fault.Proxy, w http.ResponseWriter, r *http.Request) {
		time.Sleep(300 * time.Millisecond)
		p.Pass(w, r)
	})
	rc, err := b.Open(t.Context(), name, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if n, err := io.Copy(io.Discard, rc); !errors.Is(err, store.ErrChanged) || errors.Is(err, store.ErrExist) || n != 1000 {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

// TestListControls: an object with a control character in its name is one that
// XML cannot write. The store is asked for names that it can, as AWS answers, and
// all others are listed; so they are from a store that does not know the wish.
func TestListControls(t *testing.T) {
	b := setUp(t)(t)
	b.proxy.On("List", 0, 1, func(_ *s3fault.Proxy, w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("encoding-type") != "url" {
			_, _ = io.WriteString(w, `<?xml version="1.0"?><ListBucketResult><Contents><Key>backups/&#x1B;[2J</Key></Contents><Contents><Key>backups/x</Key></Contents></ListBucketResult>`)
			return
		}
		_, _ = io.WriteString(w, `<?xml version="1.0"?><ListBucketResult><EncodingType>url</EncodingType><Contents><Key>backups/%1B%5B2J</Key></Contents><Contents><Key>backups/a+b%2Bc.json</Key></Contents></ListBucketResult>`)
	})
	got, err := b.List(t.Context())
	if err != nil || !slices.ContainsFunc(got, func(o store.Object) bool { return o.Name == "a b+c.json" }) {
		t.Errorf("%v, %v", got, err)
	}
	b.proxy.On("List", 0, 1, func(_ *s3fault.Proxy, w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `<?xml version="1.0"?><ListBucketResult><Contents><Key>backups/a+b%2Bc</Key></Contents></ListBucketResult>`)
	})
	if got, err := b.List(t.Context()); err != nil || len(got) != 1 || got[0].Name != "a+b%2Bc" {
		t.Errorf("not encoded: %v, %v", got, err)
	}
}

// TestList: a list that was cut short is no list.
func TestList(t *testing.T) {
	b := setUp(t)(t)
	if err := b.Put(t.Context(), name, nil); err != nil {
		t.Fatal(err)
	}
	const half = `<?xml version="1.0"?><ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>backups/x</Key><Size>1</Size></Contents></ListBucketResult>`
	b.proxy.On("List", 0, 1, func(_ *s3fault.Proxy, w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, half) })
	if got, err := b.List(t.Context()); err == nil || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("List: %v, %v", got, err)
	}
	round := strings.Replace(half, "<Contents>", "<NextContinuationToken>x</NextContinuationToken><Contents>", 1)
	circle := b.proxy.On("List", 0, 1000, func(_ *s3fault.Proxy, w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, round) })
	if got, err := b.List(t.Context()); err == nil || !strings.Contains(err.Error(), "in a circle") {
		t.Errorf("List: %d objects, %v, after %d pages", len(got), err, b.proxy.Fired(circle))
	}
	b.proxy.Clear()
	b.proxy.On("List", 0, 2, s3fault.Status(503, "SlowDown", "no"))
	if got, err := b.List(t.Context()); err != nil || len(got) != 1 || got[0].Name != name {
		t.Errorf("List: %v, %v", got, err)
	}
}

// TestNoBucket: a missing bucket is told as such by every operation, and not
// taken for a missing object.
func TestNoBucket(t *testing.T) {
	server := testenv.S3(t)
	server.Setenv(t)
	s, err := New(t.Context(), Options{Bucket: "nowhere", Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, listErr := s.List(t.Context())
	_, statErr := s.Stat(t.Context(), name)
	_, openErr := s.Open(t.Context(), name, 0, -1)
	_, uploadErr := s.Upload(t.Context(), name, source(t, random(10)))
	_, sweepErr := s.Sweep(t.Context(), time.Now(), func(string) bool { return true })
	for what, err := range map[string]error{
		"List": listErr, "Stat": statErr, "Open": openErr, "Upload": uploadErr, "Sweep": sweepErr,
		"Put": s.Put(t.Context(), name, nil), "CheckWritable": s.CheckWritable(t.Context()),
	} {
		if err == nil || errors.Is(err, store.ErrNotExist) || !strings.Contains(err.Error(), `NoSuchBucket (HTTP 404)`) ||
			!strings.Contains(err.Error(), `there is no bucket "nowhere"`) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestUnreachable: what a person needs to know when nothing answers.
func TestUnreachable(t *testing.T) {
	server := testenv.S3(t)
	server.Setenv(t)
	idle, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := idle.Addr().String()
	_ = idle.Close()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	defer untrusted.Close()
	for what, c := range map[string]struct {
		env  map[string]string
		opt  Options
		want []string
	}{
		"refused":     {nil, Options{Endpoint: "http://" + closed}, []string{"dial tcp " + closed, "connection refused", "tried 2 times", "nothing listens there"}},
		"wrong keys":  {map[string]string{"AWS_SECRET_ACCESS_KEY": "wrong/hunter2"}, Options{}, []string{"SignatureDoesNotMatch (HTTP 403)", "AWS_SECRET_ACCESS_KEY"}},
		"unknown key": {map[string]string{"AWS_ACCESS_KEY_ID": "AKIAWRONG"}, Options{}, []string{"XAdminUserNotFound (HTTP 404)", "AWS_ACCESS_KEY_ID"}},
		"no keys": {map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, Options{},
			[]string{"no AWS credentials were found", "AWS_PROFILE"}},
		"untrusted": {nil, Options{Endpoint: untrusted.URL}, []string{"certificate", "AWS_CA_BUNDLE"}},
	} {
		t.Run(what, func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			c.opt.Bucket, c.opt.Attempts, c.opt.Pause = "b-1", 2, time.Millisecond
			s, err := New(t.Context(), c.opt)
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.List(t.Context())
			if err == nil {
				t.Fatal("it succeeded")
			}
			for _, want := range append(c.want, "list s3://b-1: ") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q", err)
			}
		})
	}
}

// TestRegion: the answer of a bucket elsewhere names its region.
func TestRegion(t *testing.T) {
	b := setUp(t)(t)
	b.proxy.On("List", 0, -1, s3fault.Status(301, "PermanentRedirect", "The bucket must be addressed elsewhere.", "x-amz-bucket-region", "eu-central-1"))
	if _, err := b.List(t.Context()); err == nil || !strings.Contains(err.Error(), "region eu-central-1: set AWS_REGION") {
		t.Errorf("List: %v", err)
	}
}
