package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/httpx"
	"github.com/stellarescrow/escrowctl/internal/store"
	"github.com/stellarescrow/escrowctl/internal/store/s3store"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

func TestHTTP(t *testing.T) {
	t.Parallel()
	body, status := "", 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	defer srv.Close()
	ask := func(address string) check.Result {
		return run(t, HTTP(HTTPOptions{ID: "x", URL: address, Path: "/health", Field: "data.version", Bad: check.Critical, Fix: "the fix", Client: httpx.New()}))
	}
	for _, tt := range []struct {
		code      int
		body      string
		status    check.Status
		says, fix string
	}{
		{200, `{"data":{"version":"2.1"}}`, check.OK, "answers: data.version 2.1", ""},
		{200, `{"data":{"version":7}}`, check.OK, "data.version 7", ""},
		{503, `{"data":{"version":"2.1"}}`, check.Warning, "HTTP 503", "escrowctl shift-check"},
		{200, `{"data":{"version":""}}`, check.Critical, "something else answers", "the fix"},
		{200, `{"status":"ok"}`, check.Critical, "no data.version: something else answers", "the fix"},
		{200, `<html>sign in</html>`, check.Critical, "/health", "the fix"},
		{404, `{"data":{"version":"2.1"}}`, check.Critical, "404", "the fix"},
	} {
		status, body = tt.code, tt.body
		expect(t, ask(srv.URL), tt.status, tt.says, tt.fix)
	}
	expect(t, ask("http://127.0.0.1:9"), check.Critical, "connection refused", "the fix")
}

func TestDial(t *testing.T) {
	t.Parallel()
	asked := 0
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ })
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	secure.Config.ErrorLog = nil
	roots := secure.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	none := func(*http.Request) (*url.URL, error) { return nil, nil }
	through := func(address string) func(*http.Request) (*url.URL, error) {
		return func(*http.Request) (*url.URL, error) { return url.Parse(address) }
	}
	const path = "/services/T0/hunter2"
	for _, tt := range []struct {
		o      DialOptions
		status check.Status
		says   string
	}{
		{DialOptions{URL: plain.URL + path, Proxy: none}, check.OK, "can be reached; nothing was posted"},
		{DialOptions{URL: secure.URL + path, Proxy: none, TLS: &tls.Config{RootCAs: roots}}, check.OK, "certificate is good; nothing was posted"},
		{DialOptions{URL: secure.URL + path, Proxy: none}, check.Critical, "certificate signed by unknown authority"},
		{DialOptions{URL: "https://127.0.0.1:9" + path, Proxy: none}, check.Critical, "127.0.0.1:9 cannot be reached: connect: connection refused"},
		{DialOptions{URL: "https://hooks.invalid" + path, Proxy: none}, check.Critical, "hooks.invalid:443 cannot be reached"},
		{DialOptions{URL: "https://hooks.invalid" + path, Proxy: through(plain.URL)}, check.OK, "through the proxy"},
		{DialOptions{URL: "https://hooks.invalid" + path, Proxy: through("http://127.0.0.1:9")}, check.Critical, "the proxy 127.0.0.1:9 cannot be reached"},
		{DialOptions{URL: "hunter2"}, check.Critical, "report.webhook is no URL"},
	} {
		tt.o.ID, tt.o.Key = "webhook", "report.webhook"
		r := run(t, Dial(tt.o))
		expect(t, r, tt.status, tt.says, map[bool]string{true: "report.webhook"}[tt.status != check.OK])
		if strings.Contains(r.Summary+r.Action, "hunter2") {
			t.Errorf("the secret path is told: %s", r.Summary)
		}
	}
	if asked > 0 {
		t.Errorf("%d requests were sent", asked)
	}
}

// faulty is a bucket of which one call fails.
type faulty struct {
	Bucket
	put, get, del error
	lie           bool
}

func (b faulty) Put(ctx context.Context, name string, body []byte) error {
	if b.put != nil {
		return b.put
	}
	return b.Bucket.Put(ctx, name, body)
}

func (b faulty) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if b.get != nil {
		return nil, b.get
	}
	if b.lie {
		return io.NopCloser(strings.NewReader("something else")), nil
	}
	return b.Bucket.Open(ctx, name, offset, length)
}

func (b faulty) Delete(ctx context.Context, name string) error {
	if b.del != nil {
		return b.del
	}
	if b.lie {
		return nil
	}
	return b.Bucket.Delete(ctx, name)
}

func TestBucketFaults(t *testing.T) {
	t.Parallel()
	denied := errors.New("AccessDenied")
	for name, tt := range map[string]struct {
		fault faulty
		says  string
		left  int
	}{
		"put":    {faulty{put: denied}, "writing an object: AccessDenied", 0},
		"get":    {faulty{get: denied}, "reading back an object: AccessDenied", 0},
		"delete": {faulty{del: denied}, "is left in ", 1},
		"lie":    {faulty{lie: true}, "holds something else than was written", 1},
	} {
		dir := t.TempDir()
		tt.fault.Bucket = store.NewDir(dir)
		r := run(t, Store(BucketOptions{Write: true, Open: func(context.Context) (Bucket, error) { return tt.fault, nil }}))
		expect(t, r, check.Critical, tt.says, "allow these credentials")
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != tt.left {
			t.Errorf("%s: left %q", name, left)
		}
	}
	r := run(t, Store(BucketOptions{Open: func(context.Context) (Bucket, error) { return nil, denied }}))
	expect(t, r, check.Critical, "AccessDenied", "s3.endpoint")
}

// TestBucketReal asks a real S3 server.
func TestBucketReal(t *testing.T) {
	server := testenv.S3(t)
	server.Setenv(t)
	bucket := server.Bucket(t)
	ask := func(name string, write bool) check.Result {
		return run(t, Store(BucketOptions{Write: write, Open: func(ctx context.Context) (Bucket, error) {
			return s3store.New(ctx, s3store.Options{Bucket: name, Region: "us-east-1", Endpoint: os.Getenv("AWS_ENDPOINT_URL_S3"), PathStyle: true})
		}}))
	}
	expect(t, ask(bucket, false), check.OK, "0 objects; writing was not tried (--write-bucket)", "")
	expect(t, ask(bucket, true), check.OK, "written, read back and deleted", "")
	expect(t, ask(bucket, false), check.OK, "0 objects", "")
	expect(t, ask("no-such-bucket", false), check.Critical, "no-such-bucket", "s3.bucket")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	expect(t, ask(bucket, true), check.Critical, bucket, "the credentials")
	server.Stop(t)
	expect(t, ask(bucket, false), check.Critical, bucket, "s3.endpoint")
}
