package prometheus_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"
)

// secureServer is an HTTPS server with a certificate of its own.
func secureServer(t *testing.T) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}
