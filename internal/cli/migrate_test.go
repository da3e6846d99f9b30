package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/config"
)

// oldPlatform lays out the scripts as the runbook has them, with the platform's
// .env, and a crontab; {dir} stands for the platform's directory. wd is the package's.
func oldPlatform(t *testing.T, inv *invocation, wd, env, crontab string) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "scripts"), os.DirFS(filepath.Join(wd, "../migrate/testdata/scripts"))); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{".env": env, "docker-compose.yml": "services: {}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, cronTree(t, inv, strings.ReplaceAll(crontab, "{dir}", dir))
}

const (
	oldEnv     = "POSTGRES_PASSWORD=hidden-pw\nDATABASE_URL=postgres://indexer:hidden-pw@postgres:5432/stellar_escrow\nS3_BUCKET=s3://stellarescrow-backups\nAWS_ACCESS_KEY_ID=AKIAX\nAWS_SECRET_ACCESS_KEY=hidden-key\nBACKUP_ALERT_WEBHOOK=https://hooks.slack.com/services/hidden-hook\n"
	oldCrontab = `MAILTO=ops@example.com
0 2 * * * {dir}/scripts/backup.sh >> /var/log/stellar-backup.log 2>&1
0 4 1 * * {dir}/scripts/dr-test.sh >> /var/log/stellar-dr-test.log 2>&1
0 0,12 * * * {dir}/scripts/renew-certs.sh >> /var/log/cert-renewal.log 2>&1
30 3 * * 0 {dir}/scripts/perf-analyze.sh >> /var/log/perf.log 2>&1
5 5 * * * true mine
`
)

func migrateArgs(dir string, more ...string) []string {
	return append([]string{"migrate", "scripts", "--program", "/usr/local/bin/escrowctl", "--write", filepath.Join(dir, "etc", "escrowctl.yaml")}, more...)
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestMigrateScripts: shown first, then done, then a no-op; no secret is copied
// or shown, and what stood in the crontab is all there.
func TestMigrateScripts(t *testing.T) {
	wd := mustGetwd(t)
	inv := invoke(t)
	dir, file := oldPlatform(t, inv, wd, oldEnv, oldCrontab)
	before := readFile(t, file)
	run := func(args ...string) (int, string) {
		t.Helper()
		next := invoke(t)
		next.cron = inv.cron
		next.io.In = strings.NewReader("") // no terminal
		code := next.run(t, args...)
		said := next.out.String() + next.errs.String()
		if strings.Contains(said, "hidden-") {
			t.Errorf("a secret is shown: %s", said)
		}
		return code, said
	}
	target := filepath.Join(dir, "etc", "escrowctl.yaml")
	code, said := run(migrateArgs(dir, "--dry-run")...)
	if code != 0 || readFile(t, file) != before || exists(target) || !strings.Contains(said, "+  env_file: "+dir+"/.env") || !strings.Contains(said, "\n-0 2 * * * ") {
		t.Fatalf("dry run: exit %d: %s", code, said)
	}
	if code, said = run(migrateArgs(dir)...); code != 3 || readFile(t, file) != before || !strings.Contains(said, "add --yes") {
		t.Errorf("without a terminal: exit %d: %s", code, said)
	}
	if code, said = run(migrateArgs(dir, "--yes")...); code != 0 {
		t.Fatalf("exit %d: %s", code, said)
	}
	after := readFile(t, file)
	for _, want := range []string{
		"MAILTO=ops@example.com\n# replaced by escrowctl: 0 2 * * * " + dir + "/scripts/backup.sh >> /var/log/stellar-backup.log 2>&1\n",
		"5 5 * * * true mine\n# BEGIN escrowctl",
		"\n0 2 * * * /usr/local/bin/escrowctl --config " + target + " backup >> /var/log/stellar-backup.log 2>&1\n",
		"\n0 4 1 * * /usr/local/bin/escrowctl --config " + target + " dr-test >> ",
		"\n30 3 * * 0 /usr/local/bin/escrowctl --config " + target + " perf analyze >> /var/log/perf.log 2>&1\n",
		" backup verify latest --s3 >> ",
	} {
		if !strings.Contains(after, want) {
			t.Errorf("no %q in\n%s", want, after)
		}
	}
	if strings.Contains(readFile(t, target), "hidden-") {
		t.Error("a secret is copied")
	}
	cfg, err := config.Load(config.Options{Path: target, Dir: dir})
	if err != nil || cfg.S3.Bucket != "s3://stellarescrow-backups" || cfg.Credentials.SecretAccessKey.Reveal() != "hidden-key" || cfg.Compose.Dir != dir || !strings.Contains(cfg.Database.URL.Reveal(), "hidden-pw") {
		t.Errorf("the file gives %v, %+v", err, cfg.Config)
	}
	if code, said = run(migrateArgs(dir, "--yes")...); code != 0 || readFile(t, file) != after || !strings.Contains(said, "nothing to migrate") {
		t.Errorf("again: exit %d: %s", code, said)
	}
}

// TestMigrateSideBySide: one row runs both, and the migration can be finished
// from there.
func TestMigrateSideBySide(t *testing.T) {
	wd := mustGetwd(t)
	inv := invoke(t)
	dir, file := oldPlatform(t, inv, wd, oldEnv, oldCrontab)
	next := invoke(t)
	next.cron = inv.cron
	if code := next.run(t, migrateArgs(dir, "--side-by-side", "--yes")...); code != 0 {
		t.Fatalf("exit %d: %s%s", code, &next.out, &next.errs)
	}
	night := readFile(t, file)
	if !strings.Contains(night, "\n"+rowAside+"0 2 * * * "+dir+"/scripts/backup.sh") || !strings.Contains(night, "\n0 4 1 * * "+dir+"/scripts/dr-test.sh") || !strings.Contains(night, " migrate compare >> /var/log/stellar-backup.log") {
		t.Errorf("the crontab is\n%s", night)
	}
	next = invoke(t)
	next.cron = inv.cron
	if code := next.run(t, migrateArgs(dir, "--yes")...); code != 0 {
		t.Fatalf("exit %d: %s%s", code, &next.out, &next.errs)
	}
	if done := readFile(t, file); strings.Contains(done, rowAside) || strings.Contains(done, "migrate compare") || !strings.Contains(done, "\n"+rowReplaced+"0 2 * * * ") {
		t.Errorf("the crontab is\n%s", done)
	}
}

// TestMigrateRefuses: what escrowctl would not see as the scripts do changes
// nothing.
func TestMigrateRefuses(t *testing.T) {
	wd := mustGetwd(t)
	for _, tt := range []struct{ name, env, crontab, script, says string }{
		{"no database", "S3_BUCKET=s3://bucket\n", oldCrontab, "", "DATABASE_URL: neither the rows"},
		{"secret in the script", "S3_BUCKET=s3://bucket\n", oldCrontab, "export DATABASE_URL=postgres://u:hidden-pw@host/db\n", "scripts/backup.sh, line 1): escrowctl would not see it so"},
		{"the .env weighs more", oldEnv + "RETENTION_DAYS=30\n", oldCrontab, "RETENTION_DAYS=7\n. " + "{dir}/none.env\n", "RETENTION_DAYS"},
		{"credentials in the script", "DATABASE_URL=postgres://u@host/db\nS3_BUCKET=s3://bucket\n", oldCrontab, "export AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=hidden-key\n", "AWS_SECRET_ACCESS_KEY"},
		{"a value that cannot be", "DATABASE_URL=postgres://u@host/db\nS3_BUCKET=bucket\n", oldCrontab, "", "s3://bucket"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv := invoke(t)
			dir, file := oldPlatform(t, inv, wd, tt.env, tt.crontab)
			if tt.script != "" {
				name := filepath.Join(dir, "scripts", "backup.sh")
				if err := os.WriteFile(name, []byte(strings.ReplaceAll(tt.script, "{dir}", dir)), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			before := readFile(t, file)
			code := inv.run(t, migrateArgs(dir, "--yes")...)
			said := inv.out.String() + inv.errs.String()
			if code != 3 || !strings.Contains(said, tt.says) || !strings.Contains(said, "nothing is changed") {
				t.Errorf("exit %d, no %q in %s", code, tt.says, said)
			}
			if readFile(t, file) != before || exists(filepath.Join(dir, "etc")) || strings.Contains(said, "hidden-") {
				t.Errorf("something was changed or shown: %s", said)
			}
		})
	}
}

// TestMigrateOverPackage: the file that the package brings sets nothing and is
// replaced; one that sets something stays as it is.
func TestMigrateOverPackage(t *testing.T) {
	wd := mustGetwd(t)
	packaged := readFile(t, filepath.Join(wd, "../../deploy/debian/escrowctl.yaml"))
	for text, says := range map[string]string{
		packaged:                    "\n-#  bucket: s3://stellarescrow-backups\n",
		"":                          "\n+++ ",
		packaged + "env: staging\n": "set it in ",
		"env: [\n":                  "cannot go on: ",
	} {
		inv := invoke(t)
		dir, file := oldPlatform(t, inv, wd, oldEnv, oldCrontab)
		target := filepath.Join(dir, "etc", "escrowctl.yaml")
		if err := errors.Join(os.Mkdir(filepath.Dir(target), 0o755), os.WriteFile(target, []byte(text), 0o640)); err != nil {
			t.Fatal(err)
		}
		before, keeps := readFile(t, file), strings.HasPrefix(text, "env:") || strings.HasSuffix(text, "staging\n")
		code := inv.run(t, migrateArgs(dir, "--yes")...)
		said := inv.out.String() + inv.errs.String()
		if !strings.Contains(said, says) || (code == 3) != keeps || (code == 0) == keeps {
			t.Errorf("exit %d, no %q in %s", code, says, said)
		}
		if (readFile(t, target) == text) != keeps || (readFile(t, file) == before) != keeps {
			t.Errorf("the file is\n%s\nand the crontab\n%s", readFile(t, target), readFile(t, file))
		}
		if info, err := os.Stat(target); err != nil || !keeps && info.Mode() != 0o644 {
			t.Errorf("whoever runs a row must read it: %v, %v", info.Mode(), err)
		}
	}
}
