package postgres

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// clearEnv takes away what the machine's environment would add.
func clearEnv(t *testing.T) {
	t.Helper()
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "PG") {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
	t.Setenv("HOME", t.TempDir())
}

func TestParse(t *testing.T) {
	passfile := filepath.Join(t.TempDir(), "pgpass")
	if err := os.WriteFile(passfile, []byte("db:*:*:*:from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, url string
		environ   map[string]string
		display   string
		env       []string // besides PGAPPNAME
	}{
		{
			name: "url", url: "postgres://indexer:p%40ss%2Fw@postgres:5432/stellar_escrow",
			display: "postgres:5432/stellar_escrow",
			env:     []string{"PGDATABASE=stellar_escrow", "PGHOST=postgres", "PGPASSWORD=p@ss/w", "PGPORT=5432", "PGSSLMODE=prefer", "PGUSER=indexer"},
		},
		{
			name: "keyword form", url: `host=db user=me password='it''s' dbname=x sslmode=disable`,
			display: "", // '' is not libpq's way to quote a quote
		},
		{
			name: "keyword form quoted", url: `host=db port=5433 user=me password='it\'s a\\b' dbname=x sslmode = disable`,
			display: "db:5433/x",
			env:     []string{"PGDATABASE=x", "PGHOST=db", `PGPASSWORD=it's a\b`, "PGPORT=5433", "PGSSLMODE=disable", "PGUSER=me"},
		},
		{
			name: "socket", url: "postgres://me@/x?host=/var/run/postgresql&port=5433",
			display: "/var/run/postgresql:5433/x",
			env:     []string{"PGDATABASE=x", "PGHOST=/var/run/postgresql", "PGPORT=5433", "PGSSLMODE=disable", "PGUSER=me"},
		},
		{
			name: "tls", url: "postgres://me:pw@db/x?sslmode=require&target_session_attrs=read-write&connect_timeout=7&channel_binding=prefer",
			display: "db:5432/x",
			env: []string{
				"PGCHANNELBINDING=prefer", "PGCONNECT_TIMEOUT=7", "PGDATABASE=x", "PGHOST=db", "PGPASSWORD=pw", "PGPORT=5432",
				"PGSSLMODE=require", "PGTARGETSESSIONATTRS=read-write", "PGUSER=me",
			},
		},
		{
			name: "environment fills in", url: "postgres://db/x",
			environ: map[string]string{
				"PGUSER": "env-user", "PGPASSWORD": "env-pw", "PGPORT": "6000", "PGSSLMODE": "allow",
				"PGOPTIONS": "-c statement_timeout=1", "PGHOST": "not-this",
			},
			display: "db:6000/x",
			env:     []string{"PGDATABASE=x", "PGHOST=db", "PGPASSWORD=env-pw", "PGPORT=6000", "PGSSLMODE=allow", "PGUSER=env-user"},
		},
		{
			name: "all from the environment", url: "",
			environ: map[string]string{"PGHOST": "db", "PGUSER": "u", "PGDATABASE": "d"},
			display: "db:5432/d",
			env:     []string{"PGDATABASE=d", "PGHOST=db", "PGPORT=5432", "PGSSLMODE=prefer", "PGUSER=u"},
		},
		{
			name: "options of the url are kept", url: "postgres://me@db/x?options=endpoint%3Da&sslmode=disable",
			environ: map[string]string{"PGOPTIONS": "-c x=y"},
			display: "db:5432/x",
			env:     []string{"PGDATABASE=x", "PGHOST=db", "PGOPTIONS=endpoint=a", "PGPORT=5432", "PGSSLMODE=disable", "PGUSER=me"},
		},
		{
			name: "password file", url: "postgres://me@db/x?sslmode=disable", environ: map[string]string{"PGPASSFILE": passfile},
			display: "db:5432/x",
			env:     []string{"PGDATABASE=x", "PGHOST=db", "PGPASSWORD=from-file", "PGPORT=5432", "PGSSLMODE=disable", "PGUSER=me"},
		},
		{
			name: "several hosts", url: "postgres://me@a:1,b:2/x?sslmode=prefer",
			display: "a:1,b:2/x",
			env:     []string{"PGDATABASE=x", "PGHOST=a,b", "PGPORT=1,2", "PGSSLMODE=prefer", "PGUSER=me"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			clearEnv(t)
			for k, v := range tt.environ {
				t.Setenv(k, v)
			}
			target, err := Parse(tt.url)
			if tt.display == "" {
				if err == nil {
					t.Fatalf("taken as %s", target.Display())
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := target.Display(); got != tt.display {
				t.Errorf("display %q, want %q", got, tt.display)
			}
			want := append(slices.Clone(tt.env), "PGAPPNAME=escrowctl")
			slices.Sort(want)
			if diff := cmp.Diff(want, target.Env()); diff != "" {
				t.Errorf("env: %s", diff)
			}
			if _, ok := target.config.RuntimeParams["options"]; ok != slices.ContainsFunc(want, func(s string) bool { return strings.HasPrefix(s, "PGOPTIONS") }) {
				t.Errorf("session options %q", target.config.RuntimeParams["options"])
			}
		})
	}
}

// TestSSLModeIsKept: every mode survives, also when only pgx's configuration
// tells it (a service file).
func TestSSLModeIsKept(t *testing.T) {
	for _, mode := range []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"} {
		t.Run(mode, func(t *testing.T) {
			clearEnv(t)
			file := filepath.Join(t.TempDir(), "service")
			if err := os.WriteFile(file, []byte("[s]\nhost=db\nuser=u\ndbname=d\nsslmode="+mode+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PGSERVICEFILE", file)
			for _, url := range []string{"postgres://db/d?sslmode=" + mode, "service=s"} {
				target, err := Parse(url)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Contains(target.Env(), "PGSSLMODE="+mode) {
					t.Errorf("%s: %q", url, target.Env())
				}
			}
		})
	}
}

// TestParseErrorsKeepSecrets: whatever is wrong, no part of the password shows.
func TestParseErrorsKeepSecrets(t *testing.T) {
	clearEnv(t)
	const half1, half2 = "Zx91secret", "Qw82hidden"
	for _, sep := range []string{"", "@", "/", ":", "#", "?", "%", "%zz", " ", "[", "]", "\\", "'", "`: ", "&", "=", "\n", "\x00", "%00", ",", "@@", "://"} {
		password := half1 + sep + half2
		for _, form := range []string{
			"postgres://me:PW@db:5432/x", "postgres://me:PW@db:port/x", "postgres://me:PW@db:99999/x", "postgres://PW", "postgres://me@PW:x/x",
			"postgres://me:PW@db/x?sslmode=PW", "postgres://me:PW@db/x?connect_timeout=PW", "postgres://me:PW@db/x?target_session_attrs=PW",
			"postgres://me:PW@db/x?sslrootcert=/PW&sslmode=verify-full", "postgres://me:PW@a,b:1,2,3/x", "postgres://me:PW@db/x?service=PW",
			"host=db password=PW port=x", "host=db password='PW port=1", "password=PW sslmode=PW", "PW", "mysql://me:PW@db/x", "host=db PW",
			"postgres://me:PW@db/x?password=PW&port=PW", "host=db passwort = PW port = z",
		} {
			url := strings.ReplaceAll(form, "PW", password)
			_, err := Parse(url)
			if err == nil {
				continue // it can be read after all
			}
			for _, secret := range []string{half1, half2, half1[:5], half2[:5]} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%q: the error shows %q: %v", url, secret, err)
				}
			}
		}
	}
	_, err := Parse("postgres://me:a/b@db/x")
	if err == nil || !strings.Contains(err.Error(), "percent-encoded") {
		t.Errorf("no way out in %v", err)
	}
	if _, err := Parse(" "); err == nil || !strings.Contains(err.Error(), "set DATABASE_URL") {
		t.Errorf("no way out in %v", err)
	}
}

func TestWith(t *testing.T) {
	clearEnv(t)
	a, err := Parse("postgres://me:pw@db/one")
	if err != nil {
		t.Fatal(err)
	}
	b := a.With("two")
	if a.Database() != "one" || b.Database() != "two" || b.Display() != "db:5432/two" || !slices.Contains(b.Env(), "PGDATABASE=two") {
		t.Errorf("%s, %s", a.Display(), b.Display())
	}
}

func TestEnvInside(t *testing.T) {
	clearEnv(t)
	target, err := Parse("postgres://me:pw@postgres:5433/x?sslmode=require&sslcert=&sslcrl=/c.pem")
	if err != nil {
		t.Fatal(err)
	}
	for host, mode := range map[string]string{"127.0.0.1": "prefer", "/run/postgresql": "prefer", "db.example.org": "require"} {
		env := target.envInside(host)
		for _, want := range []string{"PGHOST=" + host, "PGPORT=5433", "PGSSLMODE=" + mode, "PGPASSWORD=pw"} {
			if !slices.Contains(env, want) {
				t.Errorf("%s: no %s in %q", host, want, env)
			}
		}
		if slices.Contains(env, "PGSSLCRL=/c.pem") {
			t.Errorf("%s: a file of the host in %q", host, env)
		}
	}
}

func TestCleanEnv(t *testing.T) {
	got := CleanEnv([]string{"PATH=/bin", "PGHOST=x", "PGOPTIONS=-c a=b", "DATABASE_URL=postgres://a:b@c/d", "LANG=C"})
	if want := []string{"PATH=/bin", "LANG=C"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
