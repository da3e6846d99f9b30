package s3store

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/store"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// TestIdentity: AWS alone has an STS, so what it answers comes from a stand-in.
func TestIdentity(t *testing.T) {
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	opt := Options{AccessKeyID: "AKIAX", SecretAccessKey: "s3cr3t"}
	if _, err := Identity(t.Context(), Options{Endpoint: "http://127.0.0.1:9", AccessKeyID: "AKIAX", SecretAccessKey: "s3cr3t"}); !errors.Is(err, ErrNoSTS) {
		t.Errorf("an S3-compatible store: %v", err)
	}
	known := true
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(body), "Action=GetCallerIdentity") || !strings.Contains(r.Header.Get("Authorization"), "Credential=AKIAX/") {
			t.Errorf("asked %s %s", r.Header.Get("Authorization"), body)
		}
		if !known {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>InvalidClientTokenId</Code><Message>The security token included in the request is invalid.</Message></Error></ErrorResponse>`)
			return
		}
		_, _ = io.WriteString(w, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/backup</Arn><UserId>AIDA</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`)
	}))
	defer sts.Close()
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
	if arn, err := Identity(t.Context(), opt); err != nil || arn != "arn:aws:iam::123456789012:user/backup" {
		t.Errorf("%q, %v", arn, err)
	}
	known = false
	if _, err := Identity(t.Context(), opt); err == nil || err.Error() != "STS answers InvalidClientTokenId" {
		t.Errorf("a dead key: %v", err)
	}
}

// TestKeys: credentials of one's own go before the SDK's chain, and who is not
// known is told from who may not.
func TestKeys(t *testing.T) {
	server := testenv.S3Users(t)
	server.Setenv(t)
	bucket := server.Bucket(t)
	server.AddUser(t, "poor", "secret-of-poor", "user")
	for _, tt := range []struct {
		id, key        string
		works, refused bool
	}{
		{"", "", true, false},
		{server.AccessKey, server.SecretKey, true, false},
		{"nobody", "x", false, true},
		{server.AccessKey, "wrong", false, true},
		{"poor", "secret-of-poor", false, false},
	} {
		st, err := New(t.Context(), Options{Bucket: bucket, Endpoint: server.Endpoint, AccessKeyID: tt.id, SecretAccessKey: tt.key})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = st.List(t.Context()); (err == nil) != tt.works || errors.Is(err, store.ErrCredentials) != tt.refused {
			t.Errorf("%q: %v", tt.id, err)
		}
	}
	if id, source := Own(t.Context(), Options{Endpoint: server.Endpoint}); id != server.AccessKey || source == "" {
		t.Errorf("our own are %q of %q", id, source)
	}
}
