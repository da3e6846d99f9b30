package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/keys"
	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

const (
	oldKey      = "0ld-k3y-m4rk3r-of-the-web-client"
	oldAdminKey = "0ld-k3y-m4rk3r-of-the-admins"
	otherSecret = "m4rk3r-other-secret"
)

const apiProject = `services:
  api:
    image: escrowctl-sandbox/platform:latest
    command: ["api"]
    stop_grace_period: 2s
    environment:
      API_KEYS: ${API_KEYS}
      ADMIN_KEYS: ${ADMIN_KEYS}
    ports: ["127.0.0.1:PORT:4000"]
    labels: ["${TEST_LABEL}"]
    healthcheck:
      test: ["CMD", "serve", "get", "http://127.0.0.1:4000/health"]
      interval: 1s
  other:
    image: escrowctl-sandbox/platform:latest
    command: ["horizon"]
    environment:
      SECRET: ${OTHER}
    labels: ["${TEST_LABEL}"]
`

// rotationBed is a compose project with an API and a clock that can be moved.
type rotationBed struct {
	project *testenv.Project
	url     string
	state   string
	sink    *testenv.Sink
	offset  time.Duration
	env     []string
	all     bytes.Buffer // everything that was printed, but for the keys handed out
}

func newRotationBed(t *testing.T) *rotationBed {
	t.Helper()
	docker := testenv.Docker(t)
	testenv.PlatformImage(t)
	port := testenv.FreePort(t)
	b := &rotationBed{url: fmt.Sprintf("http://127.0.0.1:%d", port), state: filepath.Join(t.TempDir(), "state"), sink: testenv.NewSink(t)}
	b.project = docker.ComposeProject(t, map[string]string{
		"docker-compose.yml": strings.ReplaceAll(apiProject, "PORT", fmt.Sprint(port)),
		".env":               "# the platform\r\nOTHER='" + otherSecret + "'\nexport API_KEYS=\"" + oldKey + "\"  # web\n\nADMIN_KEYS=" + oldAdminKey,
	})
	b.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "ESCROWCTL_STATE_DIR=" + b.state, "COMPOSE_PROJECT_NAME=" + b.project.Name,
		"ESCROWCTL_API_URL=" + b.url, "BACKUP_ALERT_WEBHOOK=" + b.sink.WebhookURL(), "ESCROWCTL_REPORT_API_METRICS=off", "ESCROWCTL_KEYS_TIMEOUT=60s", testenv.ComposePatience,
	}
	b.wait(t, oldKey, 200)
	return b
}

// run runs escrowctl at the bed's time.
func (b *rotationBed) run(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	app := New(&ui.IO{In: strings.NewReader(""), Out: &stdout, Err: &stderr, Now: func() time.Time { return time.Now().Add(b.offset) }}, b.env, Build{Version: "test"})
	code = app.Run(context.Background(), args)
	b.all.WriteString(stdout.String() + stderr.String())
	return code, stdout.String(), stderr.String()
}

// must runs escrowctl, which has to end with the code.
func (b *rotationBed) must(t *testing.T, code int, args ...string) string {
	t.Helper()
	got, out, errs := b.run(t, args...)
	if got != code {
		t.Fatalf("%q: exit %d, want %d:\n%s%s", args, got, code, out, errs)
	}
	return out + errs
}

// ask returns the API's status for a key.
func (b *rotationBed) ask(key string) int { return askAt(b.url+"/api/trades", key) }

func askAt(url, key string) int { return testenv.Answer(url, key, 5*time.Second) }

func (b *rotationBed) wait(t *testing.T, key string, want int) {
	t.Helper()
	limit := time.Now().Add(patience)
	for b.ask(key) != want {
		if time.Now().After(limit) {
			t.Fatalf("the API answers %d, want %d", b.ask(key), want)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// newKey reads the key handed out to a consumer.
func newKey(t *testing.T, dir, consumer string) string {
	t.Helper()
	path := filepath.Join(dir, consumer+".key")
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %v", path, info.Mode())
	}
	return strings.TrimSpace(string(body))
}

// client sends requests all the time and counts what came back.
type client struct {
	mu       sync.Mutex
	key      string
	refused  int // 401 and 403
	answered int
	silent   int
	longest  time.Duration // between two answers
	stop     chan struct{}
	done     sync.WaitGroup
}

func startClient(url, key string) *client {
	c := &client{key: key, stop: make(chan struct{})}
	c.done.Go(func() {
		last := time.Now()
		for {
			select {
			case <-c.stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			c.mu.Lock()
			key := c.key
			c.mu.Unlock()
			code := askAt(url+"/api/trades", key)
			c.mu.Lock()
			switch code {
			case 0:
				c.silent++
			case 200:
				c.answered++
				c.longest = max(c.longest, time.Since(last))
				last = time.Now()
			default:
				c.refused++
			}
			c.mu.Unlock()
		}
	})
	return c
}

func (c *client) use(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.key = key
}

// more waits for further answers.
func (c *client) more(t *testing.T, n int) {
	t.Helper()
	before := c.count()
	for end := time.Now().Add(patience); c.count() < before+n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no answer any more")
		}
	}
}

func (c *client) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answered + c.refused
}

func (c *client) end() {
	close(c.stop)
	c.done.Wait()
}

// TestRotation carries a rotation from the first notice to the last old key
// gone, with a client on the old key, one that moves to the new one during the
// week, and one that only comes with it, sending requests all the time.
func TestRotation(t *testing.T) {
	t.Parallel()
	b := newRotationBed(t)
	original := read(t, b.project.EnvFile())
	handed := filepath.Join(t.TempDir(), "handed")

	if out := b.must(t, 0, "rotate-keys", "start", "API_KEYS", "--dry-run"); !strings.Contains(out, "would make 1 new key") {
		t.Errorf("dry run says %s", out)
	}
	b.must(t, 3, "rotate-keys", "start", "API_KEYS") // no terminal: the key would be in a log
	b.must(t, 3, "rotate-keys", "activate", "API_KEYS")
	b.must(t, 0, "rotate-keys", "start", "API_KEYS", "--per-consumer", "web,mobile", "--out", handed)
	web, mobile := newKey(t, handed, "web"), newKey(t, handed, "mobile")
	if len(web) != 64 || web == mobile {
		t.Errorf("the keys are %d characters long, or the same", len(web))
	}
	if out := b.must(t, 3, "rotate-keys", "start", "API_KEYS", "--out", handed); !strings.Contains(out, "a rotation is in progress") {
		t.Errorf("a second start says %s", out)
	}
	b.must(t, 3, "rotate-keys", "activate", "API_KEYS") // nobody was told
	if got := read(t, b.project.EnvFile()); got != original {
		t.Error(".env changed before activate")
	}
	b.must(t, 3, "rotate-keys", "notify", "API_KEYS", "--retire-on", time.Now().Add(5*24*time.Hour).Format(time.DateOnly))
	b.must(t, 0, "rotate-keys", "notify", "API_KEYS")
	if !strings.Contains(fmt.Sprint(webhookTexts(b.sink)), "The keys in API_KEYS are being rotated") {
		t.Error("the notice did not reach the webhook")
	}

	stays, moves := startClient(b.url, oldKey), startClient(b.url, oldKey)
	b.must(t, 0, "rotate-keys", "activate", "API_KEYS", "--dry-run")
	if got := read(t, b.project.EnvFile()); got != original {
		t.Error(".env changed in a dry run")
	}
	out := b.must(t, 0, "rotate-keys", "activate", "API_KEYS")
	if !strings.Contains(out, "API_KEYS is verified") {
		t.Errorf("activate says %s", out)
	}
	if want := strings.Replace(original, oldKey, oldKey+","+web+","+mobile, 1); read(t, b.project.EnvFile()) != want {
		t.Error("the bytes around the value changed")
	}
	for _, key := range []string{oldKey, web, mobile} {
		if code := b.ask(key); code != 200 {
			t.Errorf("a key is answered with %d", code)
		}
	}
	comes := startClient(b.url, mobile)
	b.must(t, 3, "rotate-keys", "retire", "API_KEYS") // the notice is not over
	b.offset = 4 * 24 * time.Hour
	moves.use(web) // during the week
	b.must(t, 3, "rotate-keys", "retire", "API_KEYS")
	stays.more(t, 20)
	stays.end()
	b.offset = 9 * 24 * time.Hour
	if out := b.must(t, 0, "rotate-keys", "retire", "API_KEYS", "--dry-run"); !strings.Contains(out, "cannot be known") {
		t.Errorf("a dry run says %s", out)
	}
	out = b.must(t, 0, "rotate-keys", "retire", "API_KEYS")
	if !strings.Contains(out, "API_KEYS is retired") || !strings.Contains(out, "cannot be known") {
		t.Errorf("retire says %s", out)
	}
	for _, c := range []*client{moves, comes} {
		c.more(t, 20)
		c.end()
	}
	for name, c := range map[string]*client{"stays": stays, "moves": moves, "comes": comes} {
		t.Logf("client that %s: %d answered, %d refused, %d without an answer; longest gap %s", name, c.answered, c.refused, c.silent, c.longest)
		if c.refused > 0 || c.answered < 20 {
			t.Errorf("the client that %s was refused %d times, answered %d times", name, c.refused, c.answered)
		}
	}
	if code := b.ask(oldKey); code != 401 {
		t.Errorf("the old key is answered with %d", code)
	}
	var rot keys.Rotation
	loadDocument(t, b.state, "rotation-api_keys", &rot)
	t.Logf("gap as escrowctl measured it when the old keys were retired: %.2f s", rot.GapSeconds)
	if rot.Stage != keys.Retired || rot.GapSeconds <= 0 || rot.GapSeconds > 60 || len(rot.Steps) != 5 {
		t.Errorf("the rotation is %+v", rot)
	}
	if left, _ := filepath.Glob(filepath.Join(b.project.Dir, ".env?*")); len(left) > 0 {
		t.Errorf("left beside .env: %q", left)
	}
	if want := strings.Replace(original, oldKey, web+","+mobile, 1); read(t, b.project.EnvFile()) != want {
		t.Error("the bytes around the value changed")
	}
	b.must(t, 3, "rotate-keys", "due") // nothing is known of the others
	if list := b.must(t, 0, "changes", "list"); strings.Count(list, "config") != 4 {
		t.Errorf("the journal has\n%s", list)
	}
	b.must(t, 0, "changes", "verify")
	b.noSecrets(t, oldKey, oldAdminKey, otherSecret, web, mobile)
}

// noSecrets looks for secrets in all that was printed, sent and remembered.
func (b *rotationBed) noSecrets(t *testing.T, secrets ...string) {
	t.Helper()
	look := func(where, text string) {
		for _, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("a secret in %s", where)
			}
		}
	}
	look("the output", b.all.String())
	look("the webhook", fmt.Sprint(webhookTexts(b.sink)))
	files := 0
	err := filepath.Walk(b.state, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			files++
			look(path, read(t, path))
		}
		return err
	})
	if err != nil || files < 4 {
		t.Errorf("%d files searched, %v", files, err)
	}
}

// TestRunbookStepsFail does what the page says, on the same project: the new key
// is dead and the old one alive.
func TestRunbookStepsFail(t *testing.T) {
	t.Parallel()
	b := newRotationBed(t)
	edit := func(from, to string) {
		text := strings.Replace(read(t, b.project.EnvFile()), from, to, 1)
		if err := os.WriteFile(b.project.EnvFile(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := b.project.Run("restart", "-t", "1", "api"); err != nil {
			t.Fatal(out, err)
		}
		b.wait(t, oldKey, 200)
	}
	edit(oldKey, oldKey+",new-key") // steps 3 and 4
	if code := b.ask("new-key"); code != 401 {
		t.Errorf("after restart the new key is answered with %d: the trap is gone", code)
	}
	edit(oldKey+",new-key", "new-key") // step 5
	if code := b.ask(oldKey); code != 200 {
		t.Errorf("after restart the retired key is answered with %d: the trap is gone", code)
	}
}

// TestRotationRollsBack: a service that does not come up, and one that takes no
// key, put the old keys back.
func TestRotationRollsBack(t *testing.T) {
	t.Parallel()
	b := newRotationBed(t)
	b.env = append(b.env, "ESCROWCTL_KEYS_TIMEOUT=20s") // for which the rollback must do, too
	original := read(t, b.project.EnvFile())
	handed := t.TempDir()
	b.must(t, 0, "rotate-keys", "start", "API_KEYS", "--out", handed)
	b.must(t, 0, "rotate-keys", "notify", "API_KEYS", "--manual")

	// The compose file goes wrong between: the variable no longer reaches it.
	file := filepath.Join(b.project.Dir, "docker-compose.yml")
	good := read(t, file)
	if err := os.WriteFile(file, []byte(strings.Replace(good, "${API_KEYS}", oldKey, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	out := b.must(t, 2, "rotate-keys", "activate", "API_KEYS")
	if !strings.Contains(out, "rolled back, what was in force before is proven") {
		t.Errorf("activate says %s", out)
	}
	if read(t, b.project.EnvFile()) != original || b.ask(oldKey) != 200 {
		t.Errorf("not as before: %d", b.ask(oldKey))
	}
	if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	b.env[len(b.env)-1] = "ESCROWCTL_KEYS_TIMEOUT=60s"
	b.must(t, 0, "rotate-keys", "activate", "API_KEYS")
	fresh := newKey(t, handed, "API_KEYS-1")
	if b.ask(fresh) != 200 {
		t.Error("the new key is refused")
	}
	b.must(t, 0, "rotate-keys", "rollback", "API_KEYS", "--why", "a consumer fails")
	if read(t, b.project.EnvFile()) != original || b.ask(oldKey) != 200 || b.ask(fresh) != 401 {
		t.Errorf("not as before: old %d, new %d", b.ask(oldKey), b.ask(fresh))
	}
	b.must(t, 3, "rotate-keys", "rollback", "API_KEYS")
	b.noSecrets(t, oldKey, fresh, oldAdminKey)
}

// TestEmergency: a leaked admin key is dead at once.
func TestEmergency(t *testing.T) {
	t.Parallel()
	b := newRotationBed(t)
	handed := t.TempDir()
	b.must(t, 3, "rotate-keys", "start", "ADMIN_KEYS", "--emergency", "--out", handed)                    // no reason
	b.must(t, 3, "rotate-keys", "start", "ADMIN_KEYS", "--emergency", "--why", "leaked", "--out", handed) // nobody to ask
	out := b.must(t, 0, "rotate-keys", "start", "ADMIN_KEYS", "--emergency", "--yes", "--why", "leaked", "--out", handed)
	if !strings.Contains(out, "ADMIN_KEYS is retired") {
		t.Errorf("it says %s", out)
	}
	if b.ask(oldAdminKey) != 401 || b.ask(newKey(t, handed, "ADMIN_KEYS-1")) != 200 || b.ask(oldKey) != 200 {
		t.Error("not the right keys are accepted")
	}
	if list := b.must(t, 0, "changes", "list", "--json"); !strings.Contains(list, `"why": "leaked"`) {
		t.Errorf("the journal does not say why: %s", list)
	}
	b.noSecrets(t, oldAdminKey, newKey(t, handed, "ADMIN_KEYS-1"))
}

func read(t *testing.T, path string) string {
	t.Helper()
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func loadDocument(t *testing.T, state, name string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(read(t, filepath.Join(state, "documents", name+".json"))), v); err != nil {
		t.Fatal(err)
	}
}

func webhookTexts(s *testenv.Sink) []string {
	var out []string
	for _, r := range s.Requests() {
		out = append(out, string(r.Body))
	}
	return out
}
