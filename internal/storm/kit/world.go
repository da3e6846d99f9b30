package kit

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/testenv/s3fault"
)

// DB is the database that is backed up.
const DB = "stellar_escrow"

// World is what hosts share: a database server and a bucket, each behind a proxy
// that makes faults.
type World struct {
	PG     *testenv.PG
	Wire   *Wire // to PG
	S3     *testenv.S3Server
	Faults *s3fault.Proxy // of S3
	Bucket string

	storm  *Storm
	judged map[string]bool
}

// World starts the servers, with the platform's schema and some rows in DB.
func (s *Storm) World(t testing.TB, opts ...testenv.PGOption) *World {
	t.Helper()
	opts = append(opts, testenv.PGSetting("shared_preload_libraries", "pg_stat_statements"))
	w := &World{PG: testenv.Postgres(t, opts...), S3: testenv.S3(t), storm: s, judged: map[string]bool{}}
	w.Wire = NewWire(t, fmt.Sprintf("127.0.0.1:%d", w.PG.Port))
	w.Faults = s3fault.New(t, w.S3)
	w.Bucket = w.S3.Bucket(t)
	seed(t, w.PG)
	return w
}

// ballast is hard to compress: 8 MiB that take two parts of an upload.
const ballast = `
CREATE TABLE ballast (id integer PRIMARY KEY, v text NOT NULL);
INSERT INTO ballast SELECT g, (SELECT string_agg(encode(sha256((g * 100 + i)::text::bytea), 'base64'), '') FROM generate_series(1, 36) i)
	FROM generate_series(1, 5000) g;
ANALYZE;`

// seed makes the platform's database, small.
func seed(t testing.TB, pg *testenv.PG) {
	t.Helper()
	pg.CreateDB(t, DB)
	pg.Psql(t, "postgres", "CREATE ROLE indexer LOGIN SUPERUSER; ALTER DATABASE "+DB+" OWNER TO indexer")
	root := moduleRoot(t)
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, "deploy/sandbox/initdb", name))
		if err != nil {
			t.Fatalf("storm: %v", err)
		}
		return string(text)
	}
	rows := read("20-seed.sql")
	for _, scale := range [][2]string{
		{`\set users 5000`, `\set users 3000`}, {`\set trades 40000`, `\set trades 1000`}, {`\set events 250000`, `\set events 2000`},
		{"generate_series(1, 60000) n", "generate_series(1, 1000) n"}, {"a, generate_series(1, 5000) n", "a, generate_series(1, 500) n"},
	} {
		less := strings.Replace(rows, scale[0], scale[1], 1)
		if less == rows {
			t.Fatalf("storm: the sandbox's seed does not say %q", scale[0])
		}
		rows = less
	}
	pg.Psql(t, DB, "SET SESSION AUTHORIZATION indexer;\n"+read("10-schema.sql")+rows+ballast)
}

func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil {
		if _, statErr := os.Stat(filepath.Join(dir, "go.mod")); statErr == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	t.Fatalf("storm: no go.mod above the test: %v", err)
	return ""
}

// Host is one machine that escrowctl runs on: its directories and environment.
// Two hosts of one world share database and bucket.
type Host struct {
	*World
	Dir     string // of all that follows
	Backups string
	State   string
	Tmp     string   // $TMPDIR: nothing may stay there
	Env     []string // all of it; the last of a name counts

	mark string // in the environment of all that is started
	pids []int  // of the runs
}

// Host sets a host up. Its directory may be passed by every user.
func (w *World) Host(t testing.TB) *Host {
	t.Helper()
	// Short, and not below $TMPDIR: a recovery test puts a socket deep below it.
	dir := filepath.Join("/tmp", "es"+strings.ToLower(rand.Text()[:6]))
	err := os.Mkdir(dir, 0o755)
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatalf("storm: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("storm: %v", err)
		}
	})
	h := &Host{
		World: w, Dir: dir, Backups: filepath.Join(dir, "backups"), State: filepath.Join(dir, "state"), Tmp: filepath.Join(dir, "t"),
		mark: "STORM_MARK=" + rand.Text(),
	}
	t.Cleanup(h.killAll)
	for _, sub := range []string{h.Tmp, filepath.Join(dir, "home")} {
		if err := os.Mkdir(sub, 0o777); err != nil {
			t.Fatalf("storm: %v", err)
		}
	}
	config := filepath.Join(dir, "escrowctl.yaml")
	if err := os.WriteFile(config, []byte(settings), 0o644); err != nil {
		t.Fatalf("storm: %v", err)
	}
	h.Env = append(w.S3.Env(), h.mark,
		"PATH="+os.Getenv("PATH"), "HOME="+filepath.Join(dir, "home"), "TMPDIR="+h.Tmp, "ESCROWCTL_CONFIG="+config,
		"BACKUP_DIR="+h.Backups, "ESCROWCTL_STATE_DIR="+h.State, "DATABASE_URL="+w.URL(DB),
		"S3_BUCKET=s3://"+w.Bucket+"/backups", "AWS_ENDPOINT_URL_S3="+w.Faults.URL)
	return h
}

const settings = `env: staging
dump: {via: host}
s3: {storage_class: "", part_size: 5MiB}
report: {api_metrics: "off"}
`

// URL is the connection URL of a database, through the wire.
func (w *World) URL(db string) string {
	direct := fmt.Sprintf("127.0.0.1:%d/", w.PG.Port)
	return strings.Replace(w.PG.URL(db), direct, w.Wire.Addr()+"/", 1)
}

// Object is the path of the file in which the S3 server keeps a backup's file.
func (h *Host) Object(name string) string {
	return filepath.Join(h.S3.Root, h.Bucket, "backups", name)
}
