package postgres

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestToolErrorText(t *testing.T) {
	tests := []struct{ stderr, want string }{
		{"", "pg_dump: exit status 1"},
		{
			"pg_dump: warning: there are circular foreign keys\npg_dump: error: query failed: ERROR:  permission denied for table t\npg_dump: detail: Query was: LOCK TABLE t\n",
			"pg_dump: exit status 1: error: query failed: ERROR:  permission denied for table t; detail: Query was: LOCK TABLE t; " +
				"warning: there are circular foreign keys: dump as the database's owner or a superuser, or GRANT pg_read_all_data",
		},
	}
	for _, tt := range tests {
		err := error(&ToolError{Tool: "pg_dump", ExitCode: 1, Stderr: tt.stderr})
		if err.Error() != tt.want {
			t.Errorf("%s\nwant %s", err, tt.want)
		}
		if tool := (*ToolError)(nil); !errors.As(err, &tool) {
			t.Error("not a *ToolError")
		}
	}
}

func TestStderrBuffer(t *testing.T) {
	var b stderrBuffer
	const secret = "hush-hush"
	for range 1000 {
		_, _ = b.Write([]byte("noise noise " + secret + "\n"))
	}
	_, _ = b.Write([]byte("pg_dump: error: password " + secret + " is wrong\n"))
	got := b.text(secret)
	if len(got) > stderrTail || !strings.HasSuffix(got, "password xxxxx is wrong") || strings.Contains(got, "hush") {
		t.Errorf("%d bytes, ending in %q", len(got), got[max(0, len(got)-60):])
	}
	// The place of the cut is moved through the secret.
	for i := range 30 {
		var b stderrBuffer
		_, _ = b.Write([]byte(secret + strings.Repeat("x", stderrTail-i) + "\nend\n"))
		if got := b.text(secret); strings.Contains(got, "ush") {
			t.Errorf("cut %d: part of the secret is left: %.20q", i, got)
		}
	}
}

func TestArgs(t *testing.T) {
	o := DumpOptions{LockTimeout: 90 * time.Second}
	if got, want := o.dumpArgs("0000-1"), []string{"--format=plain", "--no-password", "--lock-wait-timeout=90000", "--snapshot=0000-1"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got, want := (DumpOptions{}).dumpArgs(""), []string{"--format=plain", "--no-password"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := o.globalsArgs("stellar_escrow"); !slices.Contains(got, "--database=stellar_escrow") || !slices.Contains(got, "--no-role-passwords") {
		t.Errorf("%q", got)
	}
	if got := o.globalsArgs("host=evil"); slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "evil") }) {
		t.Errorf("%q", got)
	}
}
