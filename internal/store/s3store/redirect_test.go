package s3store

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// TestRedirects: a store that points elsewhere is told, and nothing goes there:
// neither a part of a backup, nor a signature or session token.
func TestRedirects(t *testing.T) {
	for _, code := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		var followed, asked atomic.Int64
		elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			followed.Add(1)
			_, _ = io.Copy(io.Discard, r.Body)
		}))
		here := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			_, _ = io.Copy(io.Discard, r.Body)
			http.Redirect(w, r, elsewhere.URL+r.URL.String(), code)
		}))
		s, err := New(t.Context(), Options{Bucket: "b", Endpoint: here.URL, Region: "us-east-1", AccessKeyID: "id", SecretAccessKey: "key", SessionToken: "token", Attempts: 1})
		if err != nil {
			t.Fatal(err)
		}
		_, listed := s.List(t.Context())
		_, stated := s.Stat(t.Context(), "x.sql.gz")
		_, uploaded := s.Upload(t.Context(), "x.sql.gz", source(t, bytes.Repeat([]byte("secret data"), 1000)))
		for what, err := range map[string]error{"list": listed, "stat": stated, "put": s.Put(t.Context(), "x.json", []byte("{}")), "upload": uploaded, "delete": s.Delete(t.Context(), "x.sql.gz")} {
			if err == nil || !strings.Contains(err.Error(), "it points to "+elsewhere.URL+", which is not followed") {
				t.Errorf("%d: %s: %v", code, what, err)
			}
		}
		if followed.Load() > 0 || asked.Load() < 5 {
			t.Errorf("%d: %d of %d requests went elsewhere", code, followed.Load(), asked.Load())
		}
		here.Close()
		elsewhere.Close()
	}
}
