package year

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// The commands of a year, by the names under which they are counted.
const (
	cmdBackup   = "backup"
	cmdRenew    = "certs renew"
	cmdVerify   = "backup verify"
	cmdPerf     = "perf analyze"
	cmdDRTest   = "dr-test"
	cmdShift    = "shift-check"
	cmdStart    = "rotate-keys start"
	cmdNotify   = "rotate-keys notify"
	cmdActivate = "rotate-keys activate"
	cmdRetire   = "rotate-keys retire"
)

// night is one day of the platform, from midnight to midnight.
type night struct {
	n       int
	sql     string   // what happens in the database before the backup
	changes []string // the same in words
	dropped []string // tables
	due     bool     // the certificate becomes due
	runs    []run
}

// run is one command of a night.
type run struct {
	command string
	secret  string // of a rotation
	at      time.Duration
	fault   string  // "" for none
	when    float64 // at which share of the usual time the fault comes
}

func (r run) String() string {
	name := r.command
	if r.secret != "" {
		name += " " + r.secret
	}
	if r.fault == "" {
		return name
	}
	return fmt.Sprintf("%s [%s at %.0f %%]", name, r.fault, 100*r.when)
}

func (n night) String() string {
	var words []string
	for _, r := range n.runs {
		words = append(words, r.String())
	}
	return fmt.Sprintf("night %d: %s; %s", n.n, strings.Join(n.changes, ", "), strings.Join(words, ", "))
}

// faultsOf are the faults that may come over each command.
func faultsOf(command string) []string {
	signals := []string{faultKill, faultKill, faultTerm, faultInt}
	bucket := []string{faultS3Refused, faultS3Busy, faultS3Reset}
	switch command {
	case cmdBackup:
		return slices.Concat(signals, bucket, []string{faultPGRestart, faultPGCrash, faultDiskFull, faultStateFull, faultMetrics, faultWebhook, faultTwice})
	case cmdVerify:
		return slices.Concat(signals, bucket)
	case cmdRenew:
		return append(signals, faultCA, faultMetrics, faultStateFull, faultTwice)
	case cmdPerf:
		return append(signals, faultPGRestart, faultPGCrash, faultStateFull, faultDocker)
	case cmdDRTest:
		return slices.Concat(signals, bucket, []string{faultMetrics, faultStateFull})
	case cmdShift:
		return slices.Concat(signals, bucket, []string{faultPGCrash, faultStateFull, faultMetrics, faultDocker})
	case cmdStart, cmdNotify:
		return append(signals, faultStateFull)
	}
	return append(signals, faultDocker, faultStateFull)
}

// planner makes the nights, each from the one before. One seed makes one year.
type planner struct {
	rng     *rand.Rand
	nextID  int      // of trades and events
	columns []string // that were added to trades
	tables  []string // that were added
}

// plan is the year of a seed, or its first nights.
func plan(seed uint64, nights int) []night {
	p := &planner{rng: rand.New(rand.NewPCG(seed, 0)), nextID: firstRows + 1}
	var out []night
	for n := range nights {
		out = append(out, p.night(n))
	}
	return out
}

func (p *planner) night(n int) night {
	night := night{n: n, due: n%60 == 5}
	p.change(&night)
	add := func(command string, hour float64, secret string) {
		r := run{command: command, secret: secret, at: time.Duration(hour * float64(time.Hour))}
		if p.rng.IntN(3) == 0 {
			choice := faultsOf(command)
			r.fault = choice[p.rng.IntN(len(choice))]
			r.when = p.rng.Float64() * 1.1
			if p.rng.IntN(4) == 0 {
				r.when = 0 // from the beginning
			}
		}
		night.runs = append(night.runs, r)
	}
	add(cmdBackup, 2, "")
	add(cmdRenew, 3, "")
	if n%7 == 6 {
		add(cmdVerify, 4, "")
	}
	if n%7 == 3 {
		add(cmdPerf, 5, "")
	}
	if n%30 == 3 && n < 360 {
		add(cmdDRTest, 5.5, "")
	}
	add(cmdShift, 6, "")
	secret := []string{"API_KEYS", "ADMIN_KEYS"}[n/91%2]
	switch n % 91 {
	case 1:
		add(cmdStart, 9, secret)
		add(cmdNotify, 9.5, secret)
		add(cmdActivate, 10, secret)
	case 9:
		add(cmdRetire, 11, secret)
	}
	add(cmdShift, 14, "")
	add(cmdRenew, 15, "")
	add(cmdShift, 22, "")
	return night
}

// firstRows are the rows of trades and of events on the first night.
const firstRows = 1500

// schemaSQL makes the database. The blobs are hard to compress, so that an
// upload has several parts.
const schemaSQL = `CREATE EXTENSION pg_stat_statements;
CREATE TABLE users (id int PRIMARY KEY, name text UNIQUE);
CREATE TABLE trades (id int PRIMARY KEY, buyer int REFERENCES users, amount numeric(20,7) NOT NULL, status text CHECK (status IN ('open','done','void')), note text, at timestamptz NOT NULL);
CREATE TABLE events (id int PRIMARY KEY, trade int REFERENCES trades ON DELETE CASCADE, kind text, body jsonb);
CREATE TABLE blobs (id int PRIMARY KEY, body text);
CREATE INDEX events_trade ON events (trade);
CREATE SEQUENCE refs;
CREATE VIEW open_trades AS SELECT id, amount FROM trades WHERE status = 'open';
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('refs'); RETURN NEW; END $$;
CREATE TRIGGER touched AFTER INSERT ON trades FOR EACH STATEMENT EXECUTE FUNCTION touch();
SELECT setseed(0.5);
INSERT INTO users SELECT g, 'user ' || g || E' "\\; \t' FROM generate_series(1, 300) g;
INSERT INTO trades SELECT g, 1 + g % 300, g * 1.5, 'open', NULL, '2026-01-01'::timestamptz + g * interval '1 min' FROM generate_series(1, 1500) g;
INSERT INTO events SELECT g, g, 'made', jsonb_build_object('n', g, 't', md5(g::text)) FROM generate_series(1, 1500) g;
INSERT INTO blobs SELECT b, (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 33000)) FROM generate_series(1, 10) b;
`

// change plans what the platform's users and developers do to the database.
func (p *planner) change(n *night) {
	var sql strings.Builder
	do := func(words, format string, args ...any) {
		n.changes = append(n.changes, words)
		fmt.Fprintf(&sql, format+";\n", args...)
	}
	fmt.Fprintf(&sql, "SELECT setseed(%.6f);\n", p.rng.Float64())
	k := 20 + p.rng.IntN(60)
	from, to := p.nextID, p.nextID+k-1
	p.nextID += k
	do(fmt.Sprintf("%d inserted", k), `INSERT INTO trades (id, buyer, amount, status, note, at) SELECT g, 1 + g %% 300, random() * 1000, 'open', md5(g::text), '2026-01-01'::timestamptz + g * interval '1 min' FROM generate_series(%d, %d) g;
INSERT INTO events SELECT g, g, 'made', jsonb_build_object('n', g, 'r', random()) FROM generate_series(%d, %d) g`, from, to, from, to)
	do("updated", "UPDATE trades SET status = 'done', amount = amount + 1 WHERE id %% 17 = %d", p.rng.IntN(17))
	do("deleted", "DELETE FROM trades WHERE id IN (SELECT id FROM trades ORDER BY md5(id::text || '%d') LIMIT %d)", n.n, 20+p.rng.IntN(55))
	do("blob", "UPDATE blobs SET body = (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 33000)) WHERE id = %d", 1+p.rng.IntN(10))
	switch p.rng.IntN(12) {
	case 0:
		name := fmt.Sprintf("c%d", n.n)
		p.columns = append(p.columns, name)
		do("column added", "ALTER TABLE trades ADD COLUMN %s int DEFAULT %d", name, n.n)
	case 1:
		if len(p.columns) > 0 {
			do("column dropped", "ALTER TABLE trades DROP COLUMN %s", p.columns[0])
			p.columns = p.columns[1:]
		}
	case 2:
		do("index made", "CREATE INDEX ON trades (status, id) WHERE id > %d", n.n)
	case 3:
		name := fmt.Sprintf("extra_%d", n.n)
		p.tables = append(p.tables, name)
		do("table added", "CREATE TABLE %s AS SELECT g AS id, repeat('x', g %% 50) AS v FROM generate_series(1, %d) g", name, 10+p.rng.IntN(90))
	case 4:
		if len(p.tables) > 0 {
			n.dropped = append(n.dropped, p.tables[0])
			do("table dropped", "DROP TABLE %s", p.tables[0])
			p.tables = p.tables[1:]
		}
	}
	n.sql = sql.String()
}
