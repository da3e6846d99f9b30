package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMigrateCompare runs the old backup script and escrowctl on one server, by
// the crontab row of the runbook. One that loses rows must not pass.
func TestMigrateCompare(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.pg.Psql(t, "app", "CREATE TABLE trades (id int PRIMARY KEY, v text); INSERT INTO trades SELECT g, md5(g::text) FROM generate_series(1, 3000) g; CREATE TABLE events (id serial, note text); INSERT INTO events (note) VALUES ('a\\tb'), (NULL)")
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "scripts"), os.DirFS("../../internal/migrate/testdata/scripts")); err != nil {
		t.Fatal(err)
	}
	// As the platform has it: what the script needs is in the project's .env.
	env := "DATABASE_URL=" + s.pg.URL("app") + "\nBACKUP_DIR=" + s.dir + "\nAPI_BASE_URL=http://127.0.0.1:1\nPATH=" + filepath.Dir(s.pg.Tool("pg_dump")) + ":/usr/bin:/bin\n"
	if err := os.WriteFile(filepath.Join(dir, ".env"), []byte(env), 0o600); err != nil {
		t.Fatal(err)
	}
	crontab := filepath.Join(dir, "crontab")
	script := filepath.Join(dir, "scripts", "backup.sh")
	if err := os.WriteFile(crontab, []byte("0 2 * * * "+script+" >> "+filepath.Join(dir, "log")+" 2>&1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.expect(t, 0, "migrate compare --crontab "+crontab, "ok  the same: 2 tables equal", "escrowctl")

	sound, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, with string // in place of gzip
		code       int
		says       string
	}{
		{"rows lost", "grep -v '^17\t' | gzip", 2, "public.trades has 2999 rows in the script's dump and 3000"},
		{"a value changed", "sed 's/^17\t[0-9a-f]*$/17\tx/' | gzip", 2, "public.trades has 3000 rows in the script's dump and 3000"},
		{"a key lost", "sed 's/ADD CONSTRAINT trades_pkey PRIMARY KEY (id);/SET (fillfactor = 70);/' | gzip", 2, "ALTER TABLE ONLY public.trades"},
		{"cut short", "{ head -c 5000; cat >/dev/null; } | gzip", 2, "truncated"},
		{"fails", "false", 2, "the old script"},
		{"writes nothing", "cat >/dev/null; rm -f \"$BACKUP_FILE\"; true", 3, "left 0 new .sql.gz files"},
	} {
		broken := strings.Replace(string(sound), "| gzip > \"$BACKUP_FILE\"", "| "+tt.with+" > \"$BACKUP_FILE\"", 1)
		if tt.name == "writes nothing" {
			broken = strings.Replace(string(sound), "| gzip > \"$BACKUP_FILE\"", "> /dev/null", 1)
		}
		if broken == string(sound) {
			t.Fatalf("%s: the script is not what was expected", tt.name)
		}
		if err := os.WriteFile(script, []byte(broken), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Log(tt.name)
		time.Sleep(1100 * time.Millisecond) // names have the second
		s.expect(t, tt.code, "migrate compare --crontab "+crontab, tt.says)
	}
}

// TestCredentialsOfEnvFile: the bucket's credentials may stand in the .env that
// the scripts read, and nowhere else.
func TestCredentialsOfEnvFile(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	env := filepath.Join(t.TempDir(), ".env")
	for secret, code := range map[string]int{s.s3.SecretKey: 1, "another": 2} {
		if err := os.WriteFile(env, []byte("AWS_ACCESS_KEY_ID="+s.s3.AccessKey+"\nAWS_SECRET_ACCESS_KEY="+secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.set("AWS_ACCESS_KEY_ID=")
		s.set("AWS_SECRET_ACCESS_KEY=")
		s.set("ESCROWCTL_COMPOSE_ENV_FILE=" + env)
		s.expect(t, code, "backup list") // 1: there are no backups
	}
}
