package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/sqldump"
	"github.com/stellarescrow/escrowctl/internal/store"
	"github.com/stellarescrow/escrowctl/internal/store/s3store"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// fakeDumper writes a small dump of its own making. It stands in for pg_dump
// where a test needs many runs, or faults that pg_dump can't be made to show.
type fakeDumper struct {
	rows   int
	tables int
	cutAt  int   // bytes to write before stopping; 0 for all
	err    error // returned at the end
}

func (f fakeDumper) text() string {
	var s strings.Builder
	s.WriteString("--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.8\n-- Dumped by pg_dump version 15.8\n\n" +
		"SET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\n")
	for t := range f.tables {
		fmt.Fprintf(&s, "CREATE TABLE public.t%d (id integer, note text);\n", t)
	}
	for t := range f.tables {
		fmt.Fprintf(&s, "\nCOPY public.t%d (id, note) FROM stdin;\n", t)
		for i := range f.rows {
			fmt.Fprintf(&s, "%d\tnote %x\n", i, i*i*7919)
		}
		s.WriteString("\\.\n\n")
	}
	s.WriteString("ALTER TABLE ONLY public.t0\n    ADD CONSTRAINT t0_pkey PRIMARY KEY (id);\n\n--\n-- PostgreSQL database dump complete\n--\n\n")
	return s.String()
}

func (f fakeDumper) Dump(_ context.Context, w io.Writer) error {
	text := f.text()
	if f.cutAt > 0 {
		text = text[:min(f.cutAt, len(text))]
	}
	_, err := io.WriteString(w, text)
	return errors.Join(f.err, err)
}

func (f fakeDumper) Globals(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, "CREATE ROLE indexer;\nALTER ROLE indexer WITH LOGIN;\n")
	return err
}

// clock advances by a day when told.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func fakeOptions(t *testing.T) (Options, *clock) {
	c := &clock{now: time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)}
	return Options{
		Naming: naming, Local: store.NewDir(filepath.Join(t.TempDir(), "b")), Dumper: fakeDumper{rows: 100, tables: 3}, Database: "stellar_escrow",
		Host: "h", Version: "test", Codec: sqldump.Gzip, Globals: true, ShrinkRatio: 0.5, Retention: Retention{Days: 30}, Now: c.Now, Log: t.Logf,
	}, c
}

func bucket(t *testing.T) *s3store.Store {
	t.Helper()
	srv := testenv.S3(t)
	srv.Setenv(t)
	st, err := s3store.New(t.Context(), s3store.Options{Bucket: srv.Bucket(t), Prefix: "pre/fix", Endpoint: srv.Endpoint, Attempts: 2, Stall: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func mustRun(t *testing.T, o Options) *Result {
	t.Helper()
	res, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func names(t *testing.T, r store.Reader) []string {
	t.Helper()
	objects, err := r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, o := range objects {
		out = append(out, o.Name)
	}
	return out
}

func verify(t *testing.T, r store.Reader, name string) *Report {
	t.Helper()
	rep, err := Verify(t.Context(), VerifyOptions{Store: r, Name: name, Deep: true, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// spoil rewrites a stored file.
func spoil(t *testing.T, d *store.Dir, name string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(d.Path(name))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.Path(name), change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

// textDumper writes a given text.
type textDumper string

func (d textDumper) Dump(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, string(d))
	return err
}

func (d textDumper) Globals(context.Context, io.Writer) error { return nil }
