package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/backup"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
	"github.com/stellarescrow/escrowctl/internal/state"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// shiftResult is one check of a shift check's JSON.
type shiftResult struct {
	ID       string       `json:"id"`
	Status   check.Status `json:"status"`
	Summary  string       `json:"summary"`
	Detail   []string     `json:"detail"`
	Action   string       `json:"action"`
	Alert    string       `json:"alert"`
	Priority string       `json:"priority"`
	Deadline time.Time    `json:"deadline"`
	// Parts are worst first.
	Parts []shiftResult `json:"parts"`
}

// shiftOnly makes one check and returns it.
func shiftOnly(t *testing.T, inv *invocation, id string) shiftResult {
	t.Helper()
	inv.run(t, "shift-check", "--only", id, "--json")
	var doc struct{ Checks []shiftResult }
	if err := json.Unmarshal(inv.out.Bytes(), &doc); err != nil || len(doc.Checks) != 1 || doc.Checks[0].ID != id {
		t.Fatalf("%v: %s%s", err, &inv.out, &inv.errs)
	}
	return doc.Checks[0]
}

// putBackup writes a backup with its manifest, as far as a list looks at them.
func putBackup(t *testing.T, dir string, taken time.Time, size int, good bool) string {
	t.Helper()
	name := backup.Naming{Base: "stellar_escrow"}.File(taken, sqldump.Gzip, false)
	body := make([]byte, size)
	copy(body, "\x1f\x8b\x08\x00")
	manifest, err := json.Marshal(backup.Manifest{Summary: backup.Summary{
		SchemaVersion: backup.ManifestVersion, Kind: "escrowctl-backup", Name: name, Size: int64(size), SHA256: strings.Repeat("0", 64),
		Database: "stellar_escrow", StartedAt: taken, EndedAt: taken.Add(time.Minute),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if !good {
		manifest = manifest[:len(manifest)/3]
	}
	for file, text := range map[string][]byte{name: body, backup.ManifestName(name): manifest} {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return name
}

// recordBackup records a backup of the past.
func recordBackup(t *testing.T, begun time.Time, outcome, name string, cause error) {
	t.Helper()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	recordRun(t, filepath.Join(wd, "state"), "backup", outcome, begun, map[string]any{"name": name, "uploaded": true}, cause)
}

// recordRun records a run of the past in a state directory.
func recordRun(t *testing.T, dir, job, outcome string, begun time.Time, figures map[string]any, cause error) {
	t.Helper()
	st, err := state.Open(dir, state.Options{Now: func() time.Time { return begun }})
	if err != nil {
		t.Fatal(err)
	}
	run, err := st.Begin(job)
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Finish(outcome, 0, figures, cause); err != nil {
		t.Fatal(err)
	}
}

// A real directory and a real bucket, with one fault each.
func TestShiftBackup(t *testing.T) {
	server := testenv.S3(t)
	const bucket = "backups"
	for i, tt := range []struct {
		name     string
		fault    func(t *testing.T, dir, bucket string, names []string)
		status   check.Status
		says     string
		priority string
		action   string
	}{
		{"all well", func(*testing.T, string, string, []string) {}, check.OK, "65 min old", "", ""},
		{"the bucket lacks the newest", func(t *testing.T, _, bucket string, names []string) {
			for _, n := range names[3:] {
				mustRemove(t, filepath.Join(bucket, n))
			}
		}, check.Critical, "the newest good backup in the bucket is 2 days old, limit 26.0 h", "P2", "escrowctl backup upload"},
		{"both lack it", func(t *testing.T, dir, bucket string, names []string) {
			for _, n := range names[3:] {
				mustRemove(t, filepath.Join(bucket, n))
				mustRemove(t, filepath.Join(dir, n))
			}
		}, check.Critical, "says that it made", "P2", "escrowctl backup"},
		{"failed", func(t *testing.T, _, _ string, _ []string) {
			recordBackup(t, testNow().Add(-30*time.Minute), "critical", "", fmt.Errorf("pg_dump: server closed the connection"))
		}, check.Critical, "pg_dump: server closed the connection", "P2", "escrowctl backup"},
		{"too small", func(t *testing.T, dir, bucket string, names []string) {
			for _, d := range []string{dir, bucket} {
				putBackup(t, d, testNow().Add(-65*time.Minute), 400, true)
			}
		}, check.Critical, "is too small: 400 B is 40 % of the median of the 4 before it", "P2", "escrowctl backup ack"},
		{"the manifest is damaged", func(t *testing.T, _, bucket string, _ []string) {
			putBackup(t, bucket, testNow().Add(-65*time.Minute), 1000, false)
		}, check.Warning, "is no good", "", "escrowctl backup list"},
		{"cut short", func(t *testing.T, _, bucket string, names []string) {
			if err := os.Truncate(filepath.Join(bucket, names[4]), 900); err != nil {
				t.Fatal(err)
			}
		}, check.Warning, "it has 900 bytes, its manifest says 1000", "", "escrowctl backup list"},
		{"empty bucket", func(t *testing.T, _, bucket string, names []string) {
			for _, n := range names {
				mustRemove(t, filepath.Join(bucket, n))
			}
		}, check.Critical, "no good backup in the bucket, it has none at all", "P2", "escrowctl backup upload"},
		{"no such bucket", func(t *testing.T, _, bucket string, _ []string) {
			if err := os.RemoveAll(bucket); err != nil {
				t.Fatal(err)
			}
		}, check.Unknown, "the bucket: ", "", "escrowctl backup list"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := fmt.Sprintf("%s%d", bucket, i)
			remote := filepath.Join(server.Root, name)
			local := filepath.Join(t.TempDir(), "local")
			for _, d := range []string{remote, local} {
				if err := os.Mkdir(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			server.Setenv(t)
			inv := invoke(t, append(server.Env(), "S3_BUCKET=s3://"+name, "BACKUP_DIR="+local)...)
			var names []string
			for n := 4; n >= 0; n-- {
				taken := testNow().Add(-65*time.Minute - time.Duration(n)*24*time.Hour)
				if n == 0 && tt.name == "too small" {
					continue
				}
				putBackup(t, remote, taken, 1000, true)
				names = append(names, putBackup(t, local, taken, 1000, true))
			}
			recordBackup(t, testNow().Add(-65*time.Minute), "ok", names[len(names)-1], nil)
			tt.fault(t, local, remote, names)
			r := shiftOnly(t, inv, "backup")
			said := strings.Join(append([]string{r.Summary}, r.Detail...), "\n")
			if r.Status != tt.status || r.Priority != tt.priority || !strings.Contains(said, tt.says) || !strings.Contains(r.Action, tt.action) {
				t.Errorf("%s, %s, %q, next %q; want %s, %s, %q, next %q", r.Status, r.Priority, said, r.Action, tt.status, tt.priority, tt.says, tt.action)
			}
			if r.Status == check.Critical && r.Deadline.IsZero() {
				t.Error("no time to respond")
			}
		})
	}
}

func mustRemove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// A real small filesystem, filled with bytes and with files.
func TestShiftDisk(t *testing.T) {
	testenv.Need(t, os.Geteuid() == 0, "root", "mounting a tmpfs is root's")
	for _, tt := range []struct {
		name, says, priority string
		files                int
		bytes                int
		status               check.Status
	}{
		{"half full", "", "", 5, 400 << 10, check.OK},
		{"nearly full", "(backups) 75 % full", "", 1, 768 << 10, check.Warning},
		{"full", "(backups) 100 % full", "P2", 1, 1 << 20, check.Critical},
		{"inodes used up", "(backups) has 100 % of its inodes used", "P2", 99, 0, check.Critical},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,nr_inodes=100"); err != nil {
				testenv.Need(t, false, "a tmpfs", err.Error())
			}
			t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
			for i := range tt.files {
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), make([]byte, tt.bytes/tt.files), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			// Only that filesystem counts: this machine's own may be full.
			inv := invoke(t, "BACKUP_DIR="+dir, "DOCKER_HOST=tcp://127.0.0.1:1")
			whole := shiftOnly(t, inv, "disk")
			at := slices.IndexFunc(whole.Parts, func(p shiftResult) bool { return p.ID == dir })
			if at < 0 {
				t.Fatalf("no word of %s: %+v", dir, whole)
			}
			r := whole.Parts[at]
			if r.Status != tt.status || r.Priority != tt.priority || !strings.Contains(r.Summary, tt.says) || (r.Action == "") != (tt.status == check.OK) {
				t.Errorf("%s, %s, %q, next %q; want %s, %s, %q", r.Status, r.Priority, r.Summary, r.Action, tt.status, tt.priority, tt.says)
			}
			if whole.Status < tt.status {
				t.Errorf("the whole is %s", whole.Status)
			}
		})
	}
}

// serveCertificate serves a certificate of the given validity on a real listener
// and returns its address and the file of its issuer.
func serveCertificate(t *testing.T, from, until time.Time) (address, ca string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"}, NotBefore: testNow().AddDate(-5, 0, 0), NotAfter: testNow().AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "stellarescrow.app"}, DNSNames: []string{"stellarescrow.app"}, NotBefore: from, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER}), 0o600); err != nil {
		t.Fatal(err)
	}
	return testenv.ServeTLS(t, tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: key}), ca
}

func TestShiftCerts(t *testing.T) {
	for _, tt := range []struct {
		name        string
		from, until int // days from now
		status      check.Status
		alert, says string
	}{
		{"fresh", -10, 80, check.OK, "", ""},
		{"expired", -91, -1, check.Critical, "TLSCertExpiringSoon", "expired"},
		{"ends in a week", -83, 7, check.Critical, "TLSCertExpiringSoon", ""},
		{"short-lived, in its middle", -20, 25, check.OK, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address, ca := serveCertificate(t, testNow().AddDate(0, 0, tt.from), testNow().AddDate(0, 0, tt.until))
			inv := invoke(t, "CERT_DOMAIN=stellarescrow.app", "ESCROWCTL_CERTS_ADDRESS="+address, "ESCROWCTL_CERTS_CA="+ca)
			r := shiftOnly(t, inv, "certs")
			if r.Status != tt.status || r.Alert != tt.alert || !strings.Contains(r.Summary, tt.says) || r.Status != check.OK && (r.Action == "" || r.Priority != "P2") {
				t.Errorf("%+v, want %s, %s", r, tt.status, tt.alert)
			}
		})
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and stays silent
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	inv := invoke(t, "CERT_DOMAIN=stellarescrow.app", "ESCROWCTL_CERTS_ADDRESS="+l.Addr().String(), "ESCROWCTL_SHIFT_CHECK_TIMEOUT=1s")
	begun := time.Now()
	if r := shiftOnly(t, inv, "certs"); r.Status == check.OK || time.Since(begun) > 20*time.Second {
		t.Errorf("a silent server: %+v after %s", r, time.Since(begun))
	}
}

// The schedule of a real crontab, and records in a real state directory.
func TestShiftSchedule(t *testing.T) {
	inv := invoke(t)
	cronTree(t, inv, cronRows(t))
	recordBackup(t, time.Date(2026, 1, 2, 2, 0, 1, 0, time.UTC), "ok", "b", nil)
	r := shiftOnly(t, inv, "schedule")
	if said := strings.Join(append([]string{r.Summary}, r.Detail...), "\n"); strings.Contains(said, "backup: due") {
		t.Errorf("the backup ran at 02:00: %s", said)
	}
	inv = invoke(t)
	cronTree(t, inv, cronRows(t))
	inv.run(t, "shift-check", "--only", "schedule")
	if !strings.Contains(inv.out.String(), "backup: due 2026-01-02 02:00 UTC, and no run is recorded") {
		t.Errorf("a missed run is not told: %s", &inv.out)
	}
}

// Whatever lies where the log should be is no reason to stop.
func TestReadTail(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	if err := os.WriteFile(log, []byte(strings.Repeat("an old line\n", 5000)+"\xff\x00 binary\n\nlast"), 0o600); err != nil {
		t.Fatal(err)
	}
	tail, err := readTail(log)
	if err != nil || len(tail.Lines) != logLines || tail.Lines[logLines-1] != "last" {
		t.Errorf("%q, %v", tail.Lines, err)
	}
	for _, path := range []string{filepath.Join(dir, "none"), dir, "/dev/zero"} {
		if tail, err := readTail(path); err == nil {
			t.Errorf("%s has the tail %q", path, tail.Lines)
		}
	}
}
