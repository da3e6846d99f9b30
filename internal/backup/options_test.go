package backup

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
	"github.com/stellarescrow/escrowctl/internal/sqlload"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// way is one set of options that a backup can be taken with.
type way struct {
	codec     sqldump.Codec
	level     int
	jobs      int
	encrypted bool
}

func (w way) String() string {
	name := fmt.Sprintf("%s%d_%d", w.codec, w.level, w.jobs)
	if w.encrypted {
		name += "_age"
	}
	return name
}

// ways are all levels of gzip and those of zstd that differ, the default with as
// many goroutines as anybody has cores, and encryption.
func ways() []way {
	jobs := []int{1, 2, 4, 8}
	var out []way
	for level := 1; level <= 9; level++ {
		out = append(out, way{sqldump.Gzip, level, jobs[level%len(jobs)], false})
	}
	for i, level := range []int{1, 6, 9} {
		out = append(out, way{sqldump.Zstd, level, jobs[i], false})
	}
	for _, codec := range []sqldump.Codec{sqldump.Gzip, sqldump.Zstd} {
		for _, n := range jobs {
			out = append(out, way{codec, codec.DefaultLevel(), n, false})
		}
		out = append(out, way{codec, codec.DefaultLevel(), 8, true})
	}
	return out
}

// TestEveryOption: whatever a backup is taken with, gunzip or unzstd gives
// pg_dump's own bytes back, and all ways of restoring it the same database.
func TestEveryOption(t *testing.T) {
	testenv.Long(t, "TestByteExact holds the usual options")
	pg := testenv.Postgres(t)
	awkwardDB(t, pg)
	var text bytes.Buffer
	if err := (pgDumper{pg, "src"}).Dump(t.Context(), &text); err != nil {
		t.Fatal(err)
	}
	psqlFrom(t, pg, "ref", `"${0%/psql}/pg_dump" src`)
	want, rows := plainDump(t, pg, "ref"), contents(t, pg, "src")
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range ways() {
		t.Run(w.String(), func(t *testing.T) {
			o := options(t, pg, "src")
			o.Dumper, o.Globals, o.Codec, o.Level, o.Jobs = textDumper(text.String()), false, w.codec, w.level, w.jobs
			if w.encrypted {
				o.Recipients = []age.Recipient{id.Recipient()}
			}
			res := mustRun(t, o)
			sql := unpacked(t, w, res.Path, id)
			sameText(t, "joined", text.String(), joined(t, &res.Manifest.Index, sql))
			if w.level != 9 && !w.encrypted {
				return // the others are restored by TestByteExact
			}
			db := "psql_" + w.String()
			path := t.TempDir() + "/dump.sql"
			if err := os.WriteFile(path, sql, 0o600); err != nil {
				t.Fatal(err)
			}
			psqlFrom(t, pg, db, "cat "+path)
			sameText(t, db, want, plainDump(t, pg, db))
			for _, jobs := range []int{1, 4} {
				ro := restoreOptions(t, pg, o.Local, res.Name, fmt.Sprintf("own_%s_%d", w, jobs))
				ro.Jobs, ro.Identities = jobs, []age.Identity{id}
				if _, err := Restore(t.Context(), ro); err != nil {
					t.Fatal(err)
				}
				sameText(t, ro.Database, want, plainDump(t, pg, ro.Database))
				sameText(t, ro.Database, rows, contents(t, pg, ro.Database))
			}
		})
	}
}

// unpacked is what the tools that everybody has make of a backup.
func unpacked(t *testing.T, w way, path string, id age.Identity) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := io.Reader(f)
	if w.encrypted {
		if in, err = age.Decrypt(f, id); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(map[sqldump.Codec]string{sqldump.Gzip: "gunzip", sqldump.Zstd: "unzstd"}[w.codec], "-c")
	cmd.Stdin = in
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// joined takes back what docs/format.md says is added: where a table's rows go on
// in the next member, the end of the block and the COPY that opens it again.
func joined(t *testing.T, x *sqldump.Index, sql []byte) string {
	t.Helper()
	var out bytes.Buffer
	before := ""
	for _, m := range x.Members {
		part := sql[:m.SQLSize]
		sql = sql[m.SQLSize:]
		if m.Table != "" && m.Table == before {
			out.Truncate(out.Len() - len("\\.\n"))
			at := bytes.Index(part, []byte(" FROM stdin;\n"))
			if !bytes.HasPrefix(part, []byte("COPY "+m.Table+" ")) || at < 0 {
				t.Fatalf("a member does not open %s again: %.80q", m.Table, part)
			}
			part = part[at+len(" FROM stdin;\n"):]
		}
		before = m.Table
		out.Write(part)
	}
	if len(sql) > 0 {
		t.Fatalf("%d bytes follow the last member", len(sql))
	}
	return out.String()
}

// TestEveryOptionAnyOrder loads as dr-test does: each table has the same rows, but
// those of one that several connections load lie in another order.
func TestEveryOptionAnyOrder(t *testing.T) {
	testenv.Long(t, "sqlload's TestAnyOrder holds the order of one table")
	pg := testenv.Postgres(t)
	awkwardDB(t, pg)
	rows := sorted(contents(t, pg, "src"))
	var text bytes.Buffer
	if err := (pgDumper{pg, "src"}).Dump(t.Context(), &text); err != nil {
		t.Fatal(err)
	}
	for _, codec := range []sqldump.Codec{sqldump.Gzip, sqldump.Zstd} {
		// Small members, so that the largest table is worth parting.
		var file bytes.Buffer
		x, err := sqldump.Write(t.Context(), &file, bytes.NewReader(text.Bytes()), sqldump.Options{Codec: codec, MemberSize: 256 << 10})
		if err != nil {
			t.Fatal(err)
		}
		src := sqldump.IndexedSource(x, func(_ context.Context, off, n int64) (io.ReadCloser, error) {
			if n < 0 {
				n = x.Size - off
			}
			return io.NopCloser(io.NewSectionReader(bytes.NewReader(file.Bytes()), off, n)), nil
		})
		db := "any_" + string(codec)
		pg.CreateDB(t, db)
		_, err = sqlload.Load(t.Context(), src, sqlload.Options{Jobs: 4, AnyOrder: true, Freeze: true, Now: time.Now,
			Connect: func(ctx context.Context) (*pgconn.PgConn, error) { return pgconn.Connect(ctx, pg.URL(db)) }})
		if err != nil {
			t.Fatal(err)
		}
		sameText(t, db, rows, sorted(contents(t, pg, db)))
		if parted := pg.Psql(t, db, "SELECT count(DISTINCT xmin::text) > 1 FROM public.big"); strings.TrimSpace(parted) != "t" {
			t.Errorf("%s: one connection loaded the largest table", db)
		}
	}
}

func sorted(text string) string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
