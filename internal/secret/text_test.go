package secret

import (
	"strings"
	"testing"
)

func TestRedactText(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"cannot reach postgres://indexer:m4rk3r@db:5432/x: refused", "cannot reach postgres://indexer:xxxxx@db:5432/x: refused"},
		{"see http://localhost:9093/#/alerts?x=1", "see http://localhost:9093/#/alerts?x=1"},
		{`PGPASSWORD=m4rk3r psql; {"api_key": "m4rk3r"} API_KEYS='m4rk3r,two'`, `PGPASSWORD=xxxxx psql; {"api_key": "xxxxx"} API_KEYS='xxxxx,two'`},
		{"Authorization: Bearer m4rk3r-m4rk3r", "Authorization: Bearer xxxxx"},
		{"password authentication failed for user \"x\"", "password authentication failed for user \"x\""},
		{"API_KEYS was rotated by hand on 2026-01-02", "API_KEYS was rotated by hand on 2026-01-02"},
		{"https://h/x?token=m4rk3r&y=1", "https://h/x?token=xxxxx&y=1"},
	} {
		if got := RedactText(tt.text); got != tt.want {
			t.Errorf("%s\nbecomes %s\nwant    %s", tt.text, got, tt.want)
		}
		if strings.Contains(RedactText(tt.text), "m4rk3r") {
			t.Errorf("a secret is left in %s", RedactText(tt.text))
		}
	}
}
