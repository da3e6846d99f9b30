package state

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A crash can leave any part of the last line. Whatever it left, the records
// before it are there, and so is the next one.
func TestTornLastLine(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	first := finish(t, s, "backup", "ok", nil)
	path := filepath.Join(dir, "runs/backup.jsonl")
	before, err := os.ReadFile(path)
	must(t, err)
	second := finish(t, s, "backup", "warning", map[string]any{"n": 1})
	after, err := os.ReadFile(path)
	must(t, err)
	for cut := len(before); cut < len(after); cut++ {
		must(t, os.WriteFile(path, after[:cut], 0o600))
		got := runs(t, s, "backup")
		if oldest := got[len(got)-1]; oldest.ID != first.ID || oldest.Outcome != OK {
			t.Fatalf("cut at %d: the older record reads %+v", cut, oldest)
		}
		third, err := s.Begin("backup")
		must(t, err)
		if got := runs(t, s, "backup"); got[0].ID != third.ID() || got[0].Outcome != Running {
			t.Fatalf("cut at %d: the next run's beginning is lost: %+v", cut, got)
		}
		must(t, third.Finish("ok", 0, nil, nil))
		got = runs(t, s, "backup")
		if got[0].ID != third.ID() || got[0].Outcome != OK || got[len(got)-1].ID != first.ID {
			t.Fatalf("cut at %d: after one more run: %+v", cut, got)
		}
		for _, r := range got {
			if r.ID != first.ID && r.ID != second.ID && r.ID != third.ID() {
				t.Fatalf("cut at %d: a record of nobody: %+v", cut, r)
			}
		}
	}
}

// A power cut can leave zeros where data was to be.
func TestDamagedLines(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	first := finish(t, s, "backup", "ok", nil)
	path := filepath.Join(dir, "runs/backup.jsonl")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.Write(append([]byte("\n[]\n{}\nnull\n{\"id\":5}\n\xff\xfe\n"), make([]byte, 512)...))
	must(t, err)
	must(t, f.Close())
	last := finish(t, s, "backup", "warning", nil)
	got := runs(t, s, "backup")
	if len(got) != 2 || got[0].ID != last.ID || got[1].ID != first.ID {
		t.Errorf("%+v", got)
	}
}

// Several processes and several goroutines write at once, while compaction and
// readers go on; no record is lost or mixed.
func TestConcurrentWriters(t *testing.T) {
	const processes, each = 5, 30
	dir := t.TempDir()
	s := open(t, dir, Options{})
	stop := make(chan struct{})
	var readers sync.WaitGroup
	readers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			r, err := s.Runs("backup", 0)
			if err != nil {
				t.Errorf("reading meanwhile: %v", err)
				return
			}
			for _, r := range r {
				if r.Outcome != OK && r.Outcome != Running {
					t.Errorf("reading meanwhile: %+v", r)
				}
			}
		}
	})
	var writers sync.WaitGroup
	var kids []*child
	for p := range processes {
		kids = append(kids, launch(t, "write", dir, fmt.Sprint("p", p), fmt.Sprint(each)))
	}
	for g := range 2 {
		writers.Go(func() {
			if err := writeRuns(s, fmt.Sprint("g", g), fmt.Sprint(each)); err != nil {
				t.Error(err)
			}
		})
	}
	for _, kid := range kids {
		kid.awaitReady()
	}
	writers.Wait()
	close(stop)
	readers.Wait()

	seen := map[string]int{}
	for _, r := range runs(t, s, "backup") {
		if r.Outcome != OK {
			t.Errorf("%+v", r)
		}
		seen[fmt.Sprint(r.Figures["writer"])]++
	}
	want := map[string]int{"p0": each, "p1": each, "p2": each, "p3": each, "p4": each, "g0": each, "g1": each}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("records a writer (-want +got):\n%s", diff)
	}
	body, err := os.ReadFile(filepath.Join(dir, "runs/backup.jsonl"))
	must(t, err)
	if n := bytes.Count(body, []byte{'\n'}); n != 2*7*each {
		t.Errorf("%d lines, want %d", n, 2*7*each)
	}
}

// With a small bound, compaction happens all the time while others write; the
// newest records survive it.
func TestConcurrentCompaction(t *testing.T) {
	const writers, each, keep = 4, 60, 40
	dir := t.TempDir()
	var wg sync.WaitGroup
	for w := range writers {
		s := open(t, dir, Options{KeepRuns: keep})
		wg.Go(func() {
			if err := writeRuns(s, fmt.Sprint(w), fmt.Sprint(each)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s := open(t, dir, Options{KeepRuns: keep})
	got := runs(t, s, "backup")
	if len(got) != keep {
		t.Fatalf("%d runs, want %d", len(got), keep)
	}
	next := map[any]float64{} // newest first: each writer's counts fall by one
	for _, r := range got {
		w, i := r.Figures["writer"], r.Figures["i"].(float64)
		if want, ok := next[w]; ok && i != want {
			t.Errorf("writer %v: %v, want %v", w, i, want)
		}
		next[w] = i - 1
	}
}

func TestCompactionBounds(t *testing.T) {
	const keep = 10
	dir := t.TempDir()
	s := open(t, dir, Options{KeepRuns: keep})
	unfinished, err := s.Begin("backup") // long, and overtaken by many
	must(t, err)
	path := filepath.Join(dir, "runs/backup.jsonl")
	compacted := 0
	before := 0
	for i := range 10 * keep {
		finish(t, s, "backup", "ok", map[string]any{"i": i})
		body, err := os.ReadFile(path)
		must(t, err)
		lines := bytes.Count(body, []byte{'\n'})
		if lines > 3*keep {
			t.Fatalf("%d lines for %d runs to keep", lines, keep)
		}
		if lines < before {
			compacted++
		}
		before = lines
		if got := runs(t, s, "backup"); got[0].Figures["i"] != float64(i) || len(got) != min(keep, i+2) {
			t.Fatalf("after run %d: %d runs, newest %+v", i, len(got), got[0])
		}
	}
	if compacted < 3 {
		t.Errorf("compacted %d times", compacted)
	}
	must(t, unfinished.Finish("ok", 0, nil, nil))
	if r := runs(t, s, "backup")[0]; r.ID != unfinished.ID() || r.Outcome != OK {
		t.Errorf("the long run's record is lost: %+v", r)
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, "runs")); len(entries) != 2 { // journal and its lock
		t.Errorf("left behind: %v", entries)
	}
}

func TestDefaultKeepsThousand(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	if s.keep != 1_000 {
		t.Fatalf("keeps %d", s.keep)
	}
	// 1,600 runs of two lines, written at once: compaction is due.
	var b bytes.Buffer
	for i := range 1_600 {
		fmt.Fprintf(&b, "{\"id\":\"r%d\",\"outcome\":\"running\"}\n{\"id\":\"r%d\",\"outcome\":\"ok\"}\n", i, i)
	}
	path := filepath.Join(dir, "runs/backup.jsonl")
	must(t, os.WriteFile(path, b.Bytes(), 0o600))
	finish(t, s, "backup", "ok", nil)
	got := runs(t, s, "backup")
	if len(got) != 1_000 || got[1].ID != "r1599" || got[999].ID != "r601" || got[999].Outcome != OK {
		t.Errorf("%d runs, second %s, oldest %s", len(got), got[1].ID, got[len(got)-1].ID)
	}
	body, err := os.ReadFile(path)
	must(t, err)
	if n := bytes.Count(body, []byte{'\n'}); n > 1_001 {
		t.Errorf("%d lines after compaction", n)
	}
}

func TestSweepOfTemporaryFiles(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, Options{})
	old := filepath.Join(dir, "runs/.backup.jsonl123")
	probe := filepath.Join(dir, ".probe-789")
	young := filepath.Join(dir, "documents/.ack.json456")
	lock := filepath.Join(dir, "runs/.backup.jsonl.lock")
	for _, path := range []string{old, probe, young, lock} {
		must(t, os.WriteFile(path, nil, 0o600))
	}
	past := time.Now().Add(-2 * time.Hour)
	must(t, os.Chtimes(old, past, past))
	must(t, os.Chtimes(probe, past, past))
	must(t, os.Chtimes(lock, past, past))
	open(t, dir, Options{})
	for path, want := range map[string]bool{old: false, probe: false, young: true, lock: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}
