package year

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// leaks are where things may be left behind.
type leaks struct {
	mark    string // in the environment of every process of a run
	query   func(db, sql string) (string, error)
	backups string
	bucket  string
	state   string
	tmp     string
	metrics string
	project string
}

// withoutEnd is how long what is ending may take, on a busy machine.
const withoutEnd = 3 * time.Minute

// settled asks until there is nothing, and returns what there still is.
func settled(what func() []string) []string {
	for end := time.Now().Add(withoutEnd); ; time.Sleep(100 * time.Millisecond) {
		left := what()
		if len(left) == 0 || time.Now().After(end) {
			return left
		}
	}
}

// processes are those that a run started, or what it started.
func (l *leaks) processes() []string {
	var out []string
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		env, err := os.ReadFile(f)
		if err != nil || !strings.Contains("\x00"+string(env), "\x00"+l.mark+"\x00") {
			continue
		}
		line, err := os.ReadFile(filepath.Join(filepath.Dir(f), "cmdline"))
		if err == nil && len(line) > 0 { // none: it has ended
			out = append(out, "process "+filepath.Base(filepath.Dir(f))+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return out
}

// sessions are connections to the database that nobody uses any more, and locks
// that nobody holds any more.
func (l *leaks) sessions() []string {
	out, err := l.query("postgres", `SELECT 'session ' || application_name || ' ' || coalesce(left(query, 60), '') FROM pg_stat_activity WHERE backend_type = 'client backend' AND (application_name ~ 'escrowctl|pg_dump' OR datname = 'app');
SELECT 'lock ' || objid FROM pg_locks WHERE locktype = 'advisory';
SELECT 'slot ' || slot_name FROM pg_replication_slots; SELECT 'database ' || datname FROM pg_database WHERE datname NOT IN ('app', 'postgres', 'template0', 'template1', 'witness')`)
	if err != nil {
		return []string{err.Error()}
	}
	return lines(out)
}

func lines(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// files are what has no business in the directories. swept says that a backup
// came to its end, which takes away what killed ones left.
func (l *leaks) files(swept bool, now time.Time) []string {
	var out []string
	for _, dir := range []string{l.backups, l.bucket} {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			switch name := e.Name(); {
			case strings.HasPrefix(name, "stellar_escrow_") && !strings.HasSuffix(name, ".tmp"):
			case name == ".sgwtmp": // the server's own; see uploads
			case swept:
				out = append(out, "file "+filepath.Join(dir, name))
			}
		}
		if swept {
			out = append(out, loose(dir)...)
		}
	}
	for _, dir := range []string{l.state, l.metrics} {
		_ = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasPrefix(e.Name(), ".") || strings.HasSuffix(e.Name(), ".lock") {
				return nil //nolint:nilerr // gone meanwhile
			}
			if info, err := e.Info(); err == nil && now.Sub(info.ModTime()) > 36*time.Hour {
				out = append(out, "file "+path)
			}
			return nil
		})
	}
	entries, _ := os.ReadDir(l.tmp)
	for _, e := range entries {
		// An interrupted certbot tells why in a file that it leaves to the host.
		if !strings.HasPrefix(e.Name(), "certbot-log-") {
			out = append(out, "file "+filepath.Join(l.tmp, e.Name()))
		}
	}
	return out
}

// loose are manifests and roles without their dump.
func loose(dir string) []string {
	var out []string
	files, _ := filepath.Glob(filepath.Join(dir, "stellar_escrow_*"))
	for _, f := range files {
		dump := filepath.Base(f)
		dump = dump[:min(len(dump), len("stellar_escrow_20060102T150405Z"))] + ".sql.gz"
		if _, err := os.Stat(filepath.Join(dir, dump)); err != nil {
			out = append(out, "file "+f+" without its dump")
		}
	}
	return out
}

// uploads are multipart uploads that nobody ended, where the server keeps them.
func (l *leaks) uploads() []string {
	var out []string
	dirs, _ := filepath.Glob(filepath.Join(l.bucket, ".sgwtmp", "multipart", "*", "*"))
	for _, d := range dirs {
		if info, err := os.Stat(d); err == nil && info.IsDir() {
			out = append(out, "upload "+filepath.Base(d))
		}
	}
	return out
}

// containers are those of the project, and what belongs to them, that should not
// be there: it has one container, in one network, without a volume.
func (l *leaks) containers() []string {
	type item struct{ ID, Name, State string }
	var containers, networks []item
	var volumes struct{ Volumes []item }
	err := errors.Join(l.engine("/containers/json?all=1", &containers), l.engine("/networks?", &networks), l.engine("/volumes?", &volumes))
	if err != nil {
		return []string{err.Error()}
	}
	if len(containers) != 1 || containers[0].State != "running" || len(networks) != 1 || len(volumes.Volumes) > 0 {
		return []string{fmt.Sprintf("containers %v, networks %v, volumes %v", containers, networks, volumes.Volumes)}
	}
	return nil
}

// engine asks the Docker engine for what is labelled as the project's.
func (l *leaks) engine(path string, into any) error {
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", "/var/run/docker.sock")
	}}}
	resp, err := client.Get("http://docker" + path + "&filters=" + url.QueryEscape(`{"label":["com.docker.compose.project=`+l.project+`"]}`))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("docker: %s: %s", path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// size is how many files a directory holds, and how many bytes.
func size(dir string) (files int, bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil //nolint:nilerr // gone meanwhile
		}
		if info, err := e.Info(); err == nil {
			files++
			bytes += info.Size()
		}
		return nil
	})
	return files, bytes
}
