package cli

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/stellarescrow/escrowctl/internal/backup"
	"github.com/stellarescrow/escrowctl/internal/pgengine"
	"github.com/stellarescrow/escrowctl/internal/pgengine/docker"
	"github.com/stellarescrow/escrowctl/internal/schema"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
	"github.com/stellarescrow/escrowctl/internal/state"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// oneServer is an engine whose servers are all the same one, which has to be
// empty each time: starting 300 would take ten minutes.
type oneServer struct{ pgengine.Instance }

func (e oneServer) Name() string { return e.Info().Engine }

func (e oneServer) Start(ctx context.Context, _ pgengine.Spec) (pgengine.Instance, error) {
	return e, e.drop(ctx)
}

func (e oneServer) Close(context.Context) error { return nil }

func (e oneServer) drop(ctx context.Context) error {
	conn, err := e.Connect(ctx, "postgres")
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "DROP DATABASE IF EXISTS restored WITH (FORCE)").ReadAll()
	return err
}

// testServer is a server of the test's own, in the place of the local engine's.
type testServer struct{ pg *testenv.PG }

func (e testServer) Connect(ctx context.Context, db string) (*pgconn.PgConn, error) {
	return pgconn.Connect(ctx, e.pg.SocketURL(db))
}
func (e testServer) Info() pgengine.Info {
	return pgengine.Info{Engine: "local", Storage: pgengine.Disk}
}
func (e testServer) Psql(string) string          { return "" }
func (e testServer) Died() string                { return "" }
func (e testServer) Close(context.Context) error { return nil }

// corpus makes bad backups of one good one, and tests them.
type corpus struct {
	pg      *testenv.PG
	servers oneServer
	dump    []byte // pg_dump's text
	sch     *schema.Schema
	name    string
}

// corpusSQL is a database as small as the platform's essentials: cheap to
// restore 300 times.
const corpusSQL = `CREATE TABLE trades (id serial PRIMARY KEY, state varchar(9) NOT NULL CHECK (state IN ('open', 'done')), amount numeric(20,7), note text);
CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, trade integer REFERENCES trades (id), kind text);
CREATE TABLE users (id integer PRIMARY KEY, name text UNIQUE);
CREATE INDEX trades_open ON trades (amount) WHERE state IN ('open', 'done');
CREATE FUNCTION total() RETURNS numeric LANGUAGE sql AS 'SELECT sum(amount) FROM trades';
CREATE VIEW open_trades AS SELECT * FROM trades WHERE state IN ('open', 'done');
INSERT INTO trades (state, amount, note) SELECT CASE g % 2 WHEN 0 THEN 'open' ELSE 'done' END, g / 7.0, md5(g::text) FROM generate_series(1, 2500) g;
INSERT INTO events (trade, kind) SELECT g, 'made' || g FROM generate_series(1, 400) g;
INSERT INTO users SELECT g, 'user ' || g FROM generate_series(1, 50) g;`

func newCorpus(t *testing.T) *corpus {
	t.Helper()
	memory := "/dev/shm"
	if usage, err := disk.Usage(memory); err == nil && usage.Free > 1<<30 {
		t.Setenv("TMPDIR", memory) // databases made and dropped are files made and removed
	}
	c := &corpus{pg: testenv.Postgres(t), name: "stellar_escrow_20260101T020000Z.sql.gz"}
	c.servers = oneServer{testServer{c.pg}}
	c.dump, c.sch = c.dumpOf(t, "app", corpusSQL)
	return c
}

// inContainer has the backups tested in a container of the Docker engine's.
func (c *corpus) inContainer(t *testing.T) {
	t.Helper()
	image := testenv.PostgresImage(t)
	testenv.Docker(t)
	e, err := docker.Open(t.Context(), "", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	in, err := e.Start(t.Context(), pgengine.Spec{
		Image: image, Run: "corpus-" + randomLetters(), Owner: state.Here(), Expires: time.Now().Add(time.Hour), SQL: 10 << 20, Storage: pgengine.Memory, Log: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(context.Background()) })
	c.servers = oneServer{in}
}

// dumpOf makes a database and dumps it.
func (c *corpus) dumpOf(t *testing.T, db, sql string) ([]byte, *schema.Schema) {
	t.Helper()
	c.pg.CreateDB(t, db)
	c.pg.Psql(t, db, sql)
	conn, err := pgconn.Connect(t.Context(), c.pg.SocketURL(db))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	sch, err := schema.Capture(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(c.pg.Tool("pg_dump"))
	cmd.Env = append(os.Environ(), c.pg.Env(db)...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out, sch
}

// indexed writes text as escrowctl does, in small members, with its manifest.
func (c *corpus) indexed(t *testing.T, dir string, text []byte, edit func(*backup.Manifest)) string {
	t.Helper()
	var file bytes.Buffer
	index, err := sqldump.Write(t.Context(), &file, bytes.NewReader(text), sqldump.Options{MemberSize: 8 << 10})
	if err != nil {
		t.Fatal(err)
	}
	data, err := c.sch.Encode()
	if err != nil {
		t.Fatal(err)
	}
	m := &backup.Manifest{Index: *index, Schema: &backup.SchemaRecord{Fingerprint: c.sch.Fingerprint(), Objects: len(c.sch.Objects), Data: data}, Summary: backup.Summary{
		SchemaVersion: backup.ManifestVersion, Kind: "escrowctl-backup", Name: c.name, Database: "app", StartedAt: testNow(), EndedAt: testNow(),
	}}
	if edit != nil {
		edit(m)
	}
	return c.put(t, dir, file.Bytes(), m)
}

// put writes a file and its manifest; the manifest's sums are made to fit.
func (c *corpus) put(t *testing.T, dir string, file []byte, m *backup.Manifest) string {
	t.Helper()
	sum := sha256.Sum256(file)
	m.Size, m.SHA256 = int64(len(file)), hex.EncodeToString(sum[:])
	m.Rows, m.TableCount, m.SQLSize = m.Index.Rows, len(m.Index.Tables), m.Index.SQLSize
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	path := c.plain(t, dir, file)
	if err := os.WriteFile(path+".json", b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// plain writes a file without a manifest.
func (c *corpus) plain(t *testing.T, dir string, file []byte) string {
	t.Helper()
	path := filepath.Join(dir, c.name)
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func gzipped(t *testing.T, text []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, err := z.Write(text)
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// gunzipped is what gunzip makes of a file, and whether it is content.
func gunzipped(file []byte) ([]byte, bool) {
	z, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, false
	}
	text, err := io.ReadAll(z)
	return text, err == nil
}

// test runs dr-test on a file.
func (c *corpus) test(t *testing.T, path string, env ...string) (code int, said string) {
	t.Helper()
	inv := invoke(t, append([]string{"DATABASE_URL=" + c.pg.SocketURL("app")}, env...)...)
	inv.servers = c.servers
	code = inv.run(t, "dr-test", path)
	return code, inv.out.String() + inv.errs.String()
}

// fails demands exit 2 and the words that say what is wrong.
func (c *corpus) fails(t *testing.T, path string, want ...string) {
	t.Helper()
	code, said := c.test(t, path)
	if code != 2 || !strings.Contains(said, "FAIL") {
		t.Errorf("exit %d, want 2:\n%s", code, said)
	}
	for _, w := range want {
		if !regexp.MustCompile(w).MatchString(said) {
			t.Errorf("it does not say %q:\n%s", w, said)
		}
	}
}

// replaced replaces text that must be there.
func replaced(t *testing.T, text []byte, pattern, with string) []byte {
	t.Helper()
	re := regexp.MustCompile(pattern)
	if !re.Match(text) {
		t.Fatalf("no %q in the dump", pattern)
	}
	return re.ReplaceAll(text, []byte(with))
}

// TestGoodBackups: what the bad ones are made of passes, or the corpus proves
// nothing.
func TestGoodBackups(t *testing.T) {
	c := newCorpus(t)
	for what, path := range map[string]string{"indexed": c.indexed(t, t.TempDir(), c.dump, nil), "plain": c.plain(t, t.TempDir(), gzipped(t, c.dump))} {
		if code, said := c.test(t, path); code != 0 || !strings.Contains(said, "PASS") {
			t.Errorf("%s: exit %d:\n%s", what, code, said)
		} else {
			t.Logf("%s\n%s", what, said)
		}
	}
}

// TestTruncated: cut off anywhere, with a manifest and without.
func TestTruncated(t *testing.T) {
	c := newCorpus(t)
	dir, old := t.TempDir(), t.TempDir()
	path := c.indexed(t, dir, c.dump, nil)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	zipped := gzipped(t, c.dump)
	for i := range 40 {
		c.plain(t, dir, file[:1+(len(file)-2)*i/39])
		c.fails(t, path, `the file has \d+ bytes, its manifest says \d+.*the file ends at byte \d+`)
		c.fails(t, c.plain(t, old, zipped[:1+(len(zipped)-2)*i/39]), `the dump is truncated: (compressed data end too early|it ends)|neither gzip nor zstd nor SQL`)
	}
}

// TestFlippedBits: every bit counts, with a manifest. A plain file has bits that
// mean nothing to gunzip either (the time in its header, the padding of its last
// byte): with those it is the same dump, and passes.
func TestFlippedBits(t *testing.T) {
	c := newCorpus(t)
	dir, old := t.TempDir(), t.TempDir()
	path := c.indexed(t, dir, c.dump, nil)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	zipped := gzipped(t, c.dump)
	random := rand.New(rand.NewPCG(20260101, 4))
	flip := func(b []byte, at int) []byte {
		b = slices.Clone(b)
		b[at/8] ^= 1 << (at % 8)
		return b
	}
	for range 100 {
		at := random.IntN(8 * len(file))
		c.plain(t, dir, flip(file, at))
		c.fails(t, path, `bytes \d+ to \d+, the (rows of public\.\w+|pre-data section|data section|post-data section): .*its SHA-256 is not the index's`)
	}
	harmless := 0
	for i := range 100 {
		at := random.IntN(8 * len(zipped))
		if i < 10 {
			at = 8*i + random.IntN(8) // each byte of the header
		}
		bad := flip(zipped, at)
		if text, ok := gunzipped(bad); ok && bytes.Equal(text, c.dump) {
			harmless++
			if at >= 8*10 && at < 8*(len(zipped)-9) {
				t.Errorf("bit %d is harmless", at)
			}
			if code, said := c.test(t, c.plain(t, old, bad)); code != 0 {
				t.Errorf("bit %d changes nothing, exit %d:\n%s", at, code, said)
			}
			continue
		}
		c.fails(t, c.plain(t, old, bad), `integrity: `)
	}
	t.Logf("%d of 100 bits of the plain file mean nothing", harmless)
}

// TestFlippedManifest: with a bit of the manifest flipped, it passes only if
// what is compared with it is unharmed.
func TestFlippedManifest(t *testing.T) {
	c := newCorpus(t)
	path := c.indexed(t, t.TempDir(), c.dump, nil)
	good, err := os.ReadFile(path + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var want backup.Manifest
	if err := json.Unmarshal(good, &want); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(20260101, 5))
	passed := 0
	for range 60 {
		at := random.IntN(8 * len(good))
		bad := slices.Clone(good)
		bad[at/8] ^= 1 << (at % 8)
		if err := os.WriteFile(path+".json", bad, 0o600); err != nil {
			t.Fatal(err)
		}
		code, said := c.test(t, path)
		var m backup.Manifest
		err := json.Unmarshal(bad, &m)
		same := err == nil && slices.EqualFunc(m.Index.Members, want.Index.Members, func(a, b sqldump.Member) bool {
			a.Lines = b.Lines // for the place of an error only
			return a == b
		}) && slices.Equal(m.Index.Tables, want.Index.Tables)
		if same && m.Schema != nil {
			s, err := m.SourceSchema(nil)
			same = err == nil && s.Fingerprint() == c.sch.Fingerprint()
		}
		switch {
		case code == 0 && same:
			passed++
		case code == 0, code == 1:
			t.Errorf("byte %d (%q): exit %d:\n%s", at/8, bad[max(0, at/8-20):min(len(bad), at/8+20)], code, said)
		case !strings.Contains(said, "manifest") && !strings.Contains(said, "index") && !strings.Contains(said, "schema") && !strings.Contains(said, "database"):
			t.Errorf("byte %d: it does not say that it is the manifest:\n%s", at/8, said)
		}
	}
	t.Logf("%d of 60 change nothing that is compared", passed)
}

// TestBadBackups: each fault by its own name, whatever runs the server.
func TestBadBackups(t *testing.T) {
	c := newCorpus(t)
	t.Run("local", func(t *testing.T) { badBackups(t, c) })
	t.Run("docker", func(t *testing.T) {
		c.inContainer(t)
		if code, said := c.test(t, c.indexed(t, t.TempDir(), c.dump, nil)); code != 0 || !strings.Contains(said, "PASS") {
			t.Fatalf("the good one: exit %d:\n%s", code, said)
		}
		badBackups(t, c)
	})
}

func badBackups(t *testing.T, c *corpus) {
	plain := func(text []byte) func(string) string {
		return func(dir string) string { return c.plain(t, dir, gzipped(t, text)) }
	}
	raw := func(file string) func(string) string {
		return func(dir string) string { return c.plain(t, dir, []byte(file)) }
	}
	index := func(text []byte) func(string) string {
		return func(dir string) string { return c.indexed(t, dir, text, nil) }
	}
	other, _ := c.dumpOf(t, "blog of "+c.servers.Name(), "CREATE TABLE posts (id int); CREATE TABLE tags (id int); CREATE TABLE authors (id int); INSERT INTO posts VALUES (1)")
	copyOf := func(table string) string { return `(?s)COPY public\.` + table + ` .*?\n\\\.\n` }
	empty := replaced(t, c.dump, `(?s)(COPY public\.\w+ [^\n]*;\n).*?\\\.\n`, "$1\\.\n")
	none := replaced(t, c.dump, copyOf(`\w+`), "")
	cases := []struct {
		name string
		make func(dir string) string
		want []string
	}{
		{"empty file", raw(""), []string{"empty"}},
		{"empty gzip", plain(nil), []string{"there is no SQL in it"}},
		{"blank gzip", plain([]byte("\n\n\n")), []string{"there is no SQL in it"}},
		{"an error page", raw("<!DOCTYPE html><html><head><title>503 Service Unavailable</title></head></html>"), []string{"HTML|<!DOCTYPE html"}},
		{"an error page, zipped", plain([]byte("<html><body>Access denied</body></html>")), []string{"HTML|html"}},
		{"an XML error of S3", raw(`<?xml version="1.0" encoding="UTF-8"?><Error><Code>NoSuchKey</Code></Error>`), []string{"xml"}},
		{"another database, plain", plain(other), []string{"there is no table trades: it has authors, posts, tags"}},
		{"another database, indexed", func(dir string) string {
			return c.indexed(t, dir, other, func(m *backup.Manifest) { m.Database = "blog" })
		}, []string{"it is a dump of database blog, not of app"}},
		{"without data, plain", plain(none), []string{"the dump holds the rows of no table", "trades has no rows"}},
		{"without data, indexed", index(none), []string{"the dump holds the rows of no table", "trades has no rows"}},
		{"empty tables", index(empty), []string{"trades has no rows, events has no rows"}},
		{"a table missing, plain", plain(withoutTable(t, c.dump, "events")), []string{"there is no table events: it has trades, users"}},
		{"a table missing, indexed", index(withoutTable(t, c.dump, "users")), []string{"schema: .*table public.users is missing"}},
		{"an index missing", index(replaced(t, c.dump, `CREATE INDEX trades_open [^;]*;`, "")), []string{"schema: .*index public.trades_open is missing"}},
		{"a function missing", index(replaced(t, c.dump, `(?s)CREATE FUNCTION public.total.*?;\n\n\nALTER[^\n]*`, "")), []string{`schema: .*function public.total\(\) is missing`}},
		{"a constraint weakened", index(replaced(t, c.dump, `'done'::character varying`, "'gone'::character varying")), []string{`.*violates check constraint`}},
		{"a sequence left behind", index(replaced(t, c.dump, `setval\('public.trades_id_seq', \d+, true\)`, "setval('public.trades_id_seq', 1, true)")),
			[]string{"sequences: 1 behind their columns: sequence public.trades_id_seq: its next value is 2, but the largest public.trades.id is 2500"}},
		{"a newer major, plain", plain(replaced(t, c.dump, `Dumped from database version [^\n]*`, "Dumped from database version 99.1")),
			[]string{`the dump is from PostgreSQL 99\.1 and cannot be restored on \d+`, "postgresql-99|--image"}},
		{"a newer major, indexed", index(replaced(t, c.dump, `Dumped from database version [^\n]*`, "Dumped from database version 99.1")),
			[]string{`the dump is from PostgreSQL 99\.1 and cannot be restored on \d+`}},
		{"an extension that is not there", index(replaced(t, c.dump, `CREATE TABLE public.trades`, "CREATE EXTENSION IF NOT EXISTS postgis WITH SCHEMA public;\nCREATE TABLE public.trades")),
			[]string{`line \d+: the server has no extension postgis`, "--image"}},
		{"a statement that fails", plain(replaced(t, c.dump, `CREATE INDEX trades_open ON public.trades USING btree \(amount\)`, "CREATE INDEX trades_open ON public.trades USING btree (amounts)")),
			[]string{`line \d+: ERROR: column "amounts" does not exist`}},
		{"a row that is none", plain(replaced(t, c.dump, `\n50\tuser 50\n`, "\n50\tuser 50\textra\n")), []string{`line \d+: rows of public.users: .*extra data after last expected column`}},
		{"rows that break a key", index(replaced(t, c.dump, `\n50\tuser 50\n`, "\n49\tuser 50\n")), []string{`could not create unique index "users_pkey".*\(49\) is duplicated`}},
		{"rows that break a reference", plain(replaced(t, c.dump, `\n400\t400\tmade400\n`, "\n400\t4000\tmade400\n")), []string{"violates foreign key constraint.*4000"}},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			c.fails(t, tt.make(dir), tt.want...)
		})
	}
}

// withoutTable takes every statement on a table out of a dump, as if it had not
// been there.
func withoutTable(t *testing.T, dump []byte, table string) []byte {
	t.Helper()
	var out []byte
	for _, block := range bytes.Split(dump, []byte("\n--\n-- ")) {
		head, _, _ := bytes.Cut(block, []byte("\n"))
		if !regexp.MustCompile(`Name: ` + table + `[ ;_]`).Match(head) {
			if out != nil {
				out = append(out, "\n--\n-- "...)
			}
			out = append(out, block...)
		}
	}
	if len(out) == len(dump) {
		t.Fatalf("no table %s in the dump", table)
	}
	return out
}

// TestMembersTakenAndGiven: the gzip stays valid, whatever is cut out of it or
// put in twice.
func TestMembersTakenAndGiven(t *testing.T) {
	c := newCorpus(t)
	dir := t.TempDir()
	path := c.indexed(t, dir, c.dump, nil)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	body, err := os.ReadFile(path + ".json")
	if err != nil {
		t.Fatal(err)
	}
	load := func() *backup.Manifest {
		var m backup.Manifest
		if err := json.Unmarshal(body, &m); err != nil {
			t.Fatal(err)
		}
		return &m
	}
	m := load()
	second := slices.IndexFunc(m.Index.Members, func(x sqldump.Member) bool { return x.Table == "public.trades" }) + 1
	cut := m.Index.Members[second]
	if cut.Table != "public.trades" {
		t.Fatalf("trades has one member: %+v", cut)
	}
	without := slices.Concat(file[:cut.Offset], file[cut.Offset+cut.Size:])
	twice := slices.Concat(file[:cut.Offset+cut.Size], file[cut.Offset:])
	for what, b := range map[string][]byte{"cut": without, "twice": twice} {
		if _, ok := gunzipped(b); !ok {
			t.Fatalf("%s: gunzip refuses it", what)
		}
		c.plain(t, dir, b)
		c.fails(t, path, `the file has \d+ bytes, its manifest says \d+`)
		// A plain file says nothing of how many rows there were: the key does.
		alone := t.TempDir()
		if what == "twice" {
			c.fails(t, c.plain(t, alone, b), `could not create unique index "trades_pkey"|is a duplicate|its manifest is missing`)
		}
	}
	// Equal in length, another member in its place: the checksum tells.
	swap := slices.Clone(file)
	for i := range swap[cut.Offset : cut.Offset+cut.Size] {
		swap[cut.Offset+int64(i)] = 0
	}
	c.plain(t, dir, swap)
	c.fails(t, path, `the rows of public.trades: .*its SHA-256 is not the index's`)

	// A forger who cuts the index too is found by the rows, if the sums are
	// still those of before, and by references where they are not.
	forged := load()
	forged.Index.Members = slices.Delete(forged.Index.Members, second, second+1)
	c.put(t, dir, without, forged)
	c.fails(t, path, "begins at .*, not at")
	forged = load()
	forged.Index.Tables[slices.IndexFunc(forged.Index.Tables, func(x sqldump.Table) bool { return x.Table == "public.users" })].Rows = 51
	c.put(t, dir, file, forged)
	c.fails(t, path, "table public.users has 50 rows in its members, not 51")

	// The manifest of another file.
	alien := load()
	alien.Name = "stellar_escrow_20251231T020000Z.sql.gz"
	c.put(t, dir, file, alien)
	c.fails(t, path, `it belongs to "stellar_escrow_20251231T020000Z.sql.gz"`)
	bigger := t.TempDir()
	c.indexed(t, bigger, replaced(t, c.dump, `\n50\tuser 50\n`, "\n50\tuser 50\n51\tuser 51\n"), nil)
	strange, err := os.ReadFile(filepath.Join(bigger, c.name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	c.plain(t, dir, file)
	if err := os.WriteFile(path+".json", strange, 0o600); err != nil {
		t.Fatal(err)
	}
	c.fails(t, path, `the file has \d+ bytes, its manifest says \d+|its SHA-256 is not the index's`)
	if err := os.WriteFile(path+".json", []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.fails(t, path, "it is no manifest of a backup")
}

// TestCutAtRowBorder: the old script's file, cut where a row ends and packed
// anew, is a valid gzip, and psql ends with 0 over it.
func TestCutAtRowBorder(t *testing.T) {
	c := newCorpus(t)
	rows := regexp.MustCompile(`\n\d+\t[^\n]*made\d+\n`).FindAllIndex(c.dump, -1)
	if len(rows) < 100 {
		t.Fatalf("%d rows", len(rows))
	}
	for i := 0; i < len(rows); i += len(rows) / 8 {
		cut := c.dump[:rows[i][1]]
		c.fails(t, c.plain(t, t.TempDir(), gzipped(t, cut)), `the dump is truncated: it ends in the rows of public\.events, after row \d+`)
	}
	// With the end block, but the rows' own end lost.
	end := c.dump[bytes.LastIndex(c.dump, []byte("\n--\n-- PostgreSQL database dump complete")):]
	c.fails(t, c.plain(t, t.TempDir(), gzipped(t, slices.Concat(c.dump[:rows[7][1]], end))), `it ends in the rows of public\.events, after row|rows of public\.events: .*missing data for column`)
}

// TestHostileDumps: nothing of them runs outside of the server.
func TestHostileDumps(t *testing.T) {
	c := newCorpus(t)
	for _, command := range []string{`\! touch %s`, `\copy users to program 'touch %s'`, `\o | touch %s`, `\i %s`, `\gexec`, `\setenv PAGER 'touch %s'`, `SELECT 'touch %s' \g | sh`, "\\! touch %s\n\\unrestrict x"} {
		marker := filepath.Join(t.TempDir(), "ran")
		if strings.Contains(command, "%s") {
			command = fmt.Sprintf(command, marker)
		}
		for where, text := range map[string][]byte{
			"at the start": slices.Concat([]byte(command+"\n"), c.dump),
			"before rows":  replaced(t, c.dump, `COPY public\.events `, command+"\nCOPY public.events "),
			"at the end":   replaced(t, c.dump, `\n--\n-- PostgreSQL database dump complete`, "\n"+command+"\n$0"),
		} {
			c.fails(t, c.plain(t, t.TempDir(), gzipped(t, text)), `the dump holds a psql meta-command: \\|it ends within a statement: "SELECT 'touch .*g \| sh|syntax error at or near "\\".*g \| sh`)
			if _, err := os.Stat(marker); err == nil {
				t.Fatalf("%s, %s: it was run", command, where)
			}
		}
	}
}
