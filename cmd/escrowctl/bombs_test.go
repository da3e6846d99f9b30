package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stellarescrow/escrowctl/internal/backup"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
)

// bomb makes a backup whose few kilobytes unpack to members of size bytes.
type bomb struct {
	codec   sqldump.Codec
	members int
	size    int
}

const bombHead = "SET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\nCREATE TABLE public.trades (v text);\nCREATE TABLE public.events (v text);\nCREATE TABLE public.users (v text);\n"
const bombEnd = "\n--\n-- PostgreSQL database dump complete\n--\n\n"

// put writes the dump and its manifest, which tells the truth, into a directory.
func (b bomb) put(t *testing.T, dir, name string) {
	t.Helper()
	const copyOpen, copyEnd = "COPY public.trades (v) FROM stdin;\n", "\\.\n"
	row := strings.Repeat("x", 1<<20-1) + "\n"
	rows := b.size >> 20
	var file bytes.Buffer
	x := sqldump.Index{Codec: b.codec, Encoding: "UTF8", ServerVersion: "15.8", DumpVersion: "15.8"}
	add := func(m sqldump.Member, texts ...string) {
		packed := b.pack(t, texts)
		sum := sha256.Sum256(packed)
		m.Offset, m.Size, m.SHA256 = x.Size, int64(len(packed)), hex.EncodeToString(sum[:])
		for _, text := range texts {
			m.SQLSize += int64(len(text))
			m.Lines += int64(strings.Count(text, "\n"))
		}
		file.Write(packed)
		x.Members = append(x.Members, m)
		x.Size, x.SQLSize, x.Rows = x.Size+m.Size, x.SQLSize+m.SQLSize, x.Rows+m.Rows
		if m.Table == "" {
			return
		}
		if len(x.Tables) == 0 {
			x.Tables = []sqldump.Table{{Table: m.Table}}
		}
		x.Tables[0].Rows, x.Tables[0].SQL, x.Tables[0].Size = x.Tables[0].Rows+m.Rows, x.Tables[0].SQL+m.SQLSize, x.Tables[0].Size+m.Size
	}
	add(sqldump.Member{Section: sqldump.PreData}, bombHead)
	texts := []string{copyOpen}
	for range rows {
		texts = append(texts, row)
	}
	texts = append(texts, copyEnd)
	for range b.members {
		add(sqldump.Member{Section: sqldump.Data, Table: "public.trades", Rows: int64(rows)}, texts...)
	}
	add(sqldump.Member{Section: sqldump.PostData}, bombEnd)
	whole := sha256.Sum256(file.Bytes())
	m := backup.Manifest{Index: x, Summary: backup.Summary{
		SchemaVersion: backup.ManifestVersion, Kind: "escrowctl-backup", Name: name, Size: x.Size, SHA256: hex.EncodeToString(whole[:]), Database: "app",
		StartedAt: time.Now().UTC(), EndedAt: time.Now().UTC(), Rows: x.Rows, TableCount: len(x.Tables), SQLSize: x.SQLSize,
	}}
	manifest, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	for file, body := range map[string][]byte{name: file.Bytes(), name + ".json": manifest} {
		if err := os.WriteFile(filepath.Join(dir, file), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (b bomb) pack(t *testing.T, texts []string) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	if b.codec == sqldump.Zstd {
		w, err = zstd.NewWriter(&out)
	} else {
		w, err = gzip.NewWriterLevel(&out, gzip.BestSpeed)
	}
	for _, text := range texts {
		if err == nil {
			_, err = io.WriteString(w, text)
		}
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// peak runs escrowctl and returns the most memory that it held, in MiB, as the
// kernel tells it (ru_maxrss).
func (s *sandbox) peak(t *testing.T, args ...string) int {
	t.Helper()
	cmd := s.command(args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %v: %s", args, err, out)
	}
	return int(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss >> 10)
}

// TestBombs: a backup of kilobytes that unpacks to gigabytes, in a form that is
// right, takes no more memory than its largest member and what any other takes,
// whatever the number of cores.
func TestBombs(t *testing.T) {
	s := newSandbox(t)
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s.set("GOMAXPROCS=4")
	for i, tt := range []struct {
		bomb
		args string
	}{
		{bomb{sqldump.Gzip, 5, 256 << 20}, "backup verify NAME --local --deep"},
		{bomb{sqldump.Zstd, 5, 256 << 20}, "backup verify NAME --local"},
		{bomb{sqldump.Gzip, 8, 64 << 20}, "backup restore NAME --local --to bombed"},
	} {
		name := fmt.Sprintf("stellar_escrow_2026010%dT030405Z%s", i+1, tt.codec.Extension())
		tt.put(t, s.dir, name)
		mib := s.peak(t, strings.Fields(strings.Replace(tt.args, "NAME", name, 1))...)
		t.Logf("%s of %d times %d MiB of %s: %d MiB", tt.args, tt.members, tt.size>>20, tt.codec, mib)
		if limit := tt.size>>20 + memoryLimit; mib > limit {
			t.Errorf("%s: it took %d MiB, at most %d are wanted", tt.args, mib, limit)
		}
	}
}
