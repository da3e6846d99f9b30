package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

const (
	markerDB      = "m4rk3r-database-pass"
	markerS3      = "m4rk3r-s3-secret"
	markerWebhook = "m4rk3r-webhook-token"
	markerPush    = "m4rk3r-push-pass"
)

// argvWatch reads the command lines of all processes over and over.
type argvWatch struct {
	stop chan struct{}
	done sync.WaitGroup
	mu   sync.Mutex
	hits []string
}

func watchArgv(needles ...string) *argvWatch {
	w := &argvWatch{stop: make(chan struct{})}
	w.done.Go(func() {
		for {
			select {
			case <-w.stop:
				return
			default:
				w.look(needles)
			}
		}
	})
	return w
}

func (w *argvWatch) look(needles []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		b, _ := os.ReadFile(f) // the process may be gone
		for _, n := range needles {
			if strings.Contains(string(b), n) {
				w.mu.Lock()
				w.hits = append(w.hits, strings.ReplaceAll(string(b), "\x00", " "))
				w.mu.Unlock()
			}
		}
	}
}

func (w *argvWatch) end() []string {
	close(w.stop)
	w.done.Wait()
	return w.hits
}

// TestSecrets runs everything with marker secrets and looks for them wherever
// they could come out.
func TestSecrets(t *testing.T) {
	control := watchArgv("m4rk3r-control")
	if err := exec.Command("sh", "-c", "sleep 0.3; : m4rk3r-control").Run(); err != nil {
		t.Fatal(err)
	}
	if len(control.end()) == 0 {
		t.Fatal("the watch sees no command lines: the test would prove nothing")
	}

	s := newSandbox(t)
	sink := testenv.NewSink(t)
	s.pg.Psql(t, "app", "CREATE ROLE keeper SUPERUSER LOGIN PASSWORD '"+markerDB+"'; CREATE TABLE trades (id int, v text); INSERT INTO trades SELECT g, 'v' FROM generate_series(1, 2000) g")
	textfile := t.TempDir()
	set := func(name, value string) { s.env = append(s.env, name+"="+value) }
	good := s.pg.URLAs("keeper", markerDB, "app")
	set("DATABASE_URL", good)
	set("RESTORE_URL", s.pg.URLAs("keeper", markerDB, "restored"))
	set("BACKUP_ALERT_WEBHOOK", sink.URL+"/webhook/"+markerWebhook)
	set("API_BASE_URL", sink.URL)
	set("ESCROWCTL_REPORT_API_METRICS", "on")
	set("ESCROWCTL_REPORT_TEXTFILE_DIR", textfile)
	set("ESCROWCTL_REPORT_PUSHGATEWAY", strings.Replace(sink.URL, "http://", "http://user:"+markerPush+"@", 1))
	base := s.env
	with := func(pairs ...string) []string { return append(append([]string(nil), base...), pairs...) }
	wrongPass := strings.Replace(good, markerDB, markerDB+"-wrong", 1)

	needles := []string{markerDB, markerS3, markerWebhook, markerPush}
	watch := watchArgv(needles...)
	var output strings.Builder
	for _, c := range []struct {
		env  []string
		code int // -1: any but 0
		args string
	}{
		{base, 0, "backup"},
		{base, 0, "backup list"},
		{base, 0, "backup list --json"},
		{base, 0, "backup verify latest --s3"},
		{base, 0, "backup restore latest --to env:RESTORE_URL"},
		{base, -1, "backup restore latest --to env:RESTORE_URL"},
		{base, 0, "backup prune --dry-run"},
		{base, 0, "backup upload"},
		{base, 0, "config show"},
		{base, 0, "config show --json"},
		{base, 0, "config check"},
		{with("DATABASE_URL=" + wrongPass), -1, "backup"},
		{with("DATABASE_URL=" + wrongPass), -1, "backup --json"},
		{with("DATABASE_URL=postgres://keeper:" + markerDB + "@127.0.0.1:1/app"), -1, "backup"},
		{with("DATABASE_URL=postgres://keeper:" + markerDB + "@[bad/app"), -1, "backup"},
		{with("RESTORE_URL=" + wrongPass), -1, "backup restore latest --to env:RESTORE_URL"},
		{with("AWS_SECRET_ACCESS_KEY=" + markerS3), -1, "backup"},
		{with("AWS_SECRET_ACCESS_KEY=" + markerS3), -1, "backup verify latest --s3"},
		{with("BACKUP_ALERT_WEBHOOK=http://127.0.0.1:1/" + markerWebhook), -1, "backup"},
		{with("BACKUP_ALERT_WEBHOOK=ftp://x/" + markerWebhook), -1, "config check"},
	} {
		s.env = c.env
		code, out, errs := s.run(t, strings.Fields(c.args)...)
		if c.code == 0 && code != 0 || c.code < 0 && code == 0 {
			t.Errorf("%s: exit %d: %s%s", c.args, code, out, errs)
		}
		output.WriteString("== " + c.args + "\n" + out + errs)
		time.Sleep(1100 * time.Millisecond / 2) // names go by the second
	}
	for _, hit := range watch.end() {
		t.Errorf("a secret in a command line: %s", hit)
	}
	find := func(where, text string) {
		for _, n := range needles {
			if i := strings.Index(text, n); i >= 0 {
				t.Errorf("a secret in %s: ...%s", where, text[max(0, i-100):min(len(text), i+len(n)+20)])
			}
		}
	}
	find("the output", output.String())
	for _, r := range sink.Requests() {
		body, _ := json.Marshal(r.Body)
		find("a request's body", string(body)+string(r.Body))
	}
	if len(sink.Requests()) < 5 {
		t.Errorf("only %d reports came", len(sink.Requests()))
	}
	state := ""
	for _, e := range base {
		if v, ok := strings.CutPrefix(e, "ESCROWCTL_STATE_DIR="); ok {
			state = v
		}
	}
	files := 0
	for _, dir := range []string{state, textfile, s.dir, s.s3.Root} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			files++
			b, err := os.ReadFile(path)
			find(path, string(b))
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if files < 8 {
		t.Errorf("only %d files were searched", files)
	}
}
