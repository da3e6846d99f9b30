package cli

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/stellarescrow/escrowctl/internal/keys"
	"github.com/stellarescrow/escrowctl/internal/secret"
)

// TestHandOut encrypts keys to their consumers, notes nobody as told who was
// not, and says what else Compose would change.
func TestHandOut(t *testing.T) {
	t.Parallel()
	b := newRotationBed(t)
	web, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	mobile, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	handed := t.TempDir()
	out := b.must(t, 0, "rotate-keys", "start", "API_KEYS", "--per-consumer", "web,mobile", "--out", handed,
		"--recipient", "web="+web.Recipient().String(), "--recipient", "mobile="+mobile.Recipient().String())
	var rot keys.Rotation
	loadDocument(t, b.state, "rotation-api_keys", &rot)
	for i, c := range []struct {
		name     string
		own, not age.Identity
	}{{"web", web, mobile}, {"mobile", mobile, web}} {
		path := filepath.Join(handed, c.name+".key.age")
		if _, err := age.Decrypt(armor.NewReader(strings.NewReader(read(t, path))), c.not); err == nil {
			t.Errorf("%s's key can be read by the other one", c.name)
		}
		r, err := age.Decrypt(armor.NewReader(strings.NewReader(read(t, path))), c.own)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		key := strings.TrimSpace(string(text))
		if err != nil || len(key) != 64 || secret.Fingerprint(key) != rot.New[i] || !strings.Contains(out, c.name+" ("+rot.New[i]+") is in "+path) {
			t.Errorf("%s got %d characters, %v; it said %s", c.name, len(key), err, out)
		}
		b.noSecrets(t, key, oldKey)
	}
	if left, _ := filepath.Glob(filepath.Join(handed, "*")); len(left) != 2 {
		t.Errorf("handed out: %q", left)
	}

	b.sink.SetStatus("webhook", 404)
	if out := b.must(t, 2, "rotate-keys", "notify", "API_KEYS"); !strings.Contains(out, "the consumers are not told") || !strings.Contains(out, "--manual") {
		t.Errorf("it says %s", out)
	}
	b.must(t, 3, "rotate-keys", "activate", "API_KEYS")
	b.sink.SetStatus("webhook", 200)
	b.must(t, 0, "rotate-keys", "notify", "API_KEYS")

	file := filepath.Join(b.project.Dir, "docker-compose.yml")
	if err := os.WriteFile(file, []byte(strings.Replace(read(t, file), "      ADMIN_KEYS:", "      EXTRA: one\n      ADMIN_KEYS:", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"activate", "API_KEYS", "--dry-run"}, {"activate", "API_KEYS"}} {
		if out := b.must(t, 0, append([]string{"rotate-keys"}, args...)...); !strings.Contains(out, "Compose would recreate api even without new keys, because of: variable EXTRA") {
			t.Errorf("%q says %s", args, out)
		}
	}
	if out := b.must(t, 0, "rotate-keys", "rollback", "API_KEYS", "--dry-run"); strings.Contains(out, "even without") {
		t.Errorf("nothing else would change now, it says %s", out)
	}
}
