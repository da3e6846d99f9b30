package kit

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

var storm = New("kit")

func TestMain(m *testing.M) { os.Exit(storm.Main(m)) }

// TestKit: a night without a fault leaves nothing and is judged good, and what
// can be wrong is seen.
func TestKit(t *testing.T) {
	testenv.Long(t, "the storm itself uses the kit")
	w := storm.World(t)
	h := w.Host(t)
	print := w.Print(t, DB)
	if len(print) < 30 || print["trades"] == "" {
		t.Fatalf("the print of the database: %v", print)
	}
	if res := h.Run(t, "backup"); res.Code != 0 || res.PeakRSS == 0 {
		t.Fatalf("exit %d: %s", res.Code, res.Stderr)
	}
	good := h.Sound(t, Same(print))
	if len(good) != 1 {
		t.Fatalf("good: %v", good)
	}
	if left := h.Leaks(t); len(left) > 0 {
		t.Fatalf("left: %v", left)
	}
	t.Run("judge", func(t *testing.T) { judgeSees(t, h, good[0], print) })
	t.Run("leaks", func(t *testing.T) { leaksSeen(t, h) })
	t.Run("held", func(t *testing.T) { heldDump(t, h) })
}

// judgeSees: each kind of bad backup is told from the good one.
func judgeSees(t *testing.T, h *Host, name string, print Print) {
	path := filepath.Join(h.Backups, name)
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h.judged = map[string]bool{}
	other := Print{}
	for table, rows := range print {
		other[table] = rows
	}
	other["trades"] = "0|0"
	if err := h.Judge(t, path, other); err == nil || !strings.Contains(err.Error(), "not what was dumped: trades") {
		t.Errorf("rows of another database: %v", err)
	}
	if err := h.Judge(t, path, print); err != nil {
		t.Errorf("the good one: %v", err)
	}
	damaged := bytes.Clone(body)
	damaged[len(damaged)/2] ^= 1
	for what, bad := range map[string][]byte{"damaged": damaged, "cut": body[:len(body)/2], "empty": nil} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := h.Judge(t, path, print); err == nil {
			t.Errorf("%s: judged good", what)
		}
	}
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
}

// leaksSeen: each kind of thing left is seen, and no longer when it is gone.
func leaksSeen(t *testing.T, h *Host) {
	file := filepath.Join(h.Backups, ".escrowctl-tmp-x.1")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	up, err := h.S3.Client().CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &h.Bucket, Key: aws.String("backups/x")})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), h.URL(DB))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_lock(1)"); err != nil {
		t.Fatal(err)
	}
	h.PG.CreateDB(t, "half")
	// The database takes no connection: the run waits, as long as we like.
	hold := h.Wire.HoldDown(1)
	run := h.Start(t, Call{Args: []string{"backup"}})
	run.Until(t, "it was held", hold.Reached())
	left := strings.Join(h.look(t, nil), "\n")
	for _, want := range []string{"process ", "file " + file, "unfinished upload of backups/x", "session ", "advisory lock", "database half"} {
		if !strings.Contains(left, want) {
			t.Errorf("%q is not seen: %s", want, left)
		}
	}
	run.Signal(syscall.SIGKILL)
	if res := run.Wait(t); res.Signal != syscall.SIGKILL {
		t.Errorf("exit %d, signal %d", res.Code, res.Signal)
	}
	h.Wire.Clear()
	_ = conn.Close(context.Background())
	h.PG.Psql(t, "postgres", "DROP DATABASE half")
	_ = os.Remove(file)
	if _, err := h.S3.Client().AbortMultipartUpload(t.Context(), &s3.AbortMultipartUploadInput{Bucket: &h.Bucket, Key: aws.String("backups/x"), UploadId: up.UploadId}); err != nil {
		t.Fatal(err)
	}
	h.NoLeaks(t)
}

// heldDump: a dump can be held in its middle, and goes on.
func heldDump(t *testing.T, h *Host) {
	time.Sleep(time.Second) // names go by the second
	hold := h.Wire.HoldDown(1 << 20)
	run := h.Start(t, Call{Args: []string{"backup"}})
	run.Until(t, "its middle", hold.Reached())
	temp, _ := filepath.Glob(filepath.Join(h.Backups, ".escrowctl-tmp-*"))
	if len(temp) != 1 {
		t.Errorf("in the middle of a dump: %v", temp)
	}
	h.Wire.Clear()
	if res := run.Wait(t); res.Code != 0 {
		t.Errorf("exit %d: %s", res.Code, res.Stderr)
	}
	h.NoLeaks(t)
}
