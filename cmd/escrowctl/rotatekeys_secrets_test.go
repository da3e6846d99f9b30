package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var hexKey = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

// TestRotationSecrets runs every command of rotate-keys and changes, on a whole
// platform, and looks for its secrets, old and new, wherever they could come
// out. The S3 credentials are replaced along the way, step by step. It is not
// parallel: it reads all command lines, and other tests have the same secrets.
func TestRotationSecrets(t *testing.T) {
	p := newPlatform(t)
	handed := t.TempDir()
	fresh, unknown := credentials(t, newS3ID, markerNewS3), credentials(t, "AKIANOBODY0000000003", markerNewS3)
	p.s3.AddUser(t, "AKIAPOOR000000000004", markerNewS3, "user") // may do nothing in the bucket
	poor := credentials(t, "AKIAPOOR000000000004", markerNewS3)
	before := p.envFile(t)
	needles := []string{markerAPIKey, markerAdminKey, markerPostgres, markerRedis, markerGrafana, markerOldS3, markerNewS3, "s3cretW3bh00k"}
	watch := watchArgv(needles...)
	var output strings.Builder
	do := func(code int, args string, want ...string) {
		t.Helper()
		got, out, errs := p.run(t, strings.Fields(args)...)
		output.WriteString("== " + args + "\n" + out + errs)
		if got != code {
			t.Fatalf("%s: exit %d, want %d\n%s%s", args, got, code, out, errs)
		}
		for _, w := range want {
			if !strings.Contains(out+errs, w) {
				t.Errorf("%s: no %q in\n%s%s", args, w, out, errs)
			}
		}
	}
	do(0, "rotate-keys", "no rotation has been begun")
	do(3, "rotate-keys due")
	do(0, "rotate-keys start API_KEYS --dry-run")
	do(3, "rotate-keys start API_KEYS")
	do(0, "rotate-keys start API_KEYS --per-consumer web,mobile --out "+handed)
	do(0, "rotate-keys notify API_KEYS --dry-run")
	do(0, "rotate-keys notify API_KEYS")
	do(0, "rotate-keys activate API_KEYS --dry-run")
	do(0, "rotate-keys activate API_KEYS --why quarterly")
	do(3, "rotate-keys retire API_KEYS", "not yet")
	do(0, "rotate-keys rollback API_KEYS --dry-run")
	do(0, "rotate-keys rollback API_KEYS")
	do(0, "rotate-keys start API_KEYS --out "+t.TempDir())
	do(0, "rotate-keys cancel API_KEYS --why postponed")
	do(0, "rotate-keys start ADMIN_KEYS --emergency --yes --why leaked --out "+t.TempDir(), "ADMIN_KEYS is retired")
	for _, name := range []string{"POSTGRES_PASSWORD", "REDIS_PASSWORD", "GRAFANA_ADMIN_PASSWORD"} {
		do(0, "rotate-keys "+name+" --dry-run", "would change")
		do(0, "rotate-keys "+name, name+" is rotated")
		do(3, "rotate-keys rollback "+name, "no rotation")
	}

	do(3, "rotate-keys S3", "--new")
	do(3, "rotate-keys S3 --new "+unknown, "InvalidAccessKeyId", "nothing is changed")
	do(3, "rotate-keys S3 --new "+poor, "AccessDenied", "nothing is changed")
	do(0, "rotate-keys S3 --dry-run --new "+fresh, "no STS", "would recreate backup")
	do(3, "rotate-keys retire S3", "no rotation")
	if !strings.Contains(p.envFile(t), markerOldS3) {
		t.Error("the S3 credentials changed before they were proven")
	}
	do(0, "rotate-keys S3 --new "+fresh, "they list, write, read and delete", "made anew: backup", "deactivate the old access key")
	if got := p.envFile(t); !strings.Contains(got, "export AWS_ACCESS_KEY_ID="+newS3ID+"\nAWS_SECRET_ACCESS_KEY="+markerNewS3+"\n") {
		t.Errorf("the S3 credentials are not in .env")
	}
	do(3, "rotate-keys S3 --new "+fresh, "a rotation is in progress")
	do(3, "rotate-keys retire S3", oldS3ID, "are good still")
	do(0, "rotate-keys rollback S3", "made anew: backup")
	do(0, "rotate-keys S3 --new "+fresh)
	p.s3.DeleteUser(t, oldS3ID)
	do(3, "rotate-keys rollback S3", "are not good", "nothing is changed")
	do(0, "rotate-keys retire S3 --dry-run")
	do(0, "rotate-keys retire S3", "refuses the old ones")

	do(0, "rotate-keys status --json")
	do(0, "rotate-keys record S3 --on 2026-01-02")
	do(3, "rotate-keys due --json --ics "+filepath.Join(p.files, "due.ics"))
	do(1, "changes add --type config --summary x --incomplete")
	do(0, "changes list --limit 0")
	do(0, "changes show 1 --json")
	do(0, "changes verify")
	do(0, "changes export --format csv")
	do(0, "changes export")
	for _, hit := range watch.end() {
		t.Errorf("a secret in a command line: %s", hit)
	}

	// The new ones, which nobody knew before.
	keys := hexKey.FindAllString(p.envFile(t), -1)
	files, _ := filepath.Glob(filepath.Join(handed, "*.key"))
	for _, f := range files {
		body, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, strings.TrimSpace(string(body)))
	}
	if len(keys) < 6 {
		t.Errorf("only %d new secrets to look for", len(keys))
	}
	p.nowhere(t, append(needles, keys...), output.String())
	if left, _ := filepath.Glob(filepath.Join(p.project.Dir, ".env?*")); len(left) > 0 {
		t.Errorf("left beside .env: %q", left)
	}
	if strings.Count(p.envFile(t), "\n") != strings.Count(before, "\n") || strings.Contains(p.envFile(t), markerPostgres) {
		t.Error(".env has other lines than before, or an old password")
	}
}

// nowhere looks for secrets in the output, what was sent, the state directory
// with its journal, the textfiles and the bucket with the journal's mirror.
func (p *platform) nowhere(t *testing.T, needles []string, output string) {
	t.Helper()
	find := func(where, text string) {
		for _, n := range needles {
			if i := strings.Index(text, n); i >= 0 {
				t.Errorf("a secret in %s: ...%s", where, text[max(0, i-100):i])
			}
		}
	}
	find("the output", output)
	for _, r := range p.sink.Requests() {
		body, _ := json.Marshal(r.Body)
		find("a request's body", string(body)+string(r.Body))
	}
	if n := len(p.sink.Requests()); n < 5 {
		t.Errorf("only %d reports came", n)
	}
	files := map[string]int{}
	for _, dir := range []string{p.state, p.files, p.s3.Root} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			files[dir]++
			body, err := os.ReadFile(path)
			find(path, string(body))
			return err
		})
		if err != nil || files[dir] == 0 {
			t.Errorf("%d files in %s, %v", files[dir], dir, err)
		}
	}
}
