package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// policy is an IAM policy.
type policy struct {
	Version   string
	Statement []statement
}

type statement struct {
	Sid, Effect string
	Principal   map[string]string `json:",omitempty"`
	Action      []string
	Resource    string
}

// documentedPolicy reads the one that a test applies, for a bucket of its own.
// What is tested is the very text that is copied from the page.
func documentedPolicy(t *testing.T, text, bucket string) policy {
	t.Helper()
	const named = "stellarescrow-backups"
	if !strings.Contains(text, named) {
		t.Fatalf("it is for no bucket: %s", text)
	}
	var p policy
	if err := json.Unmarshal([]byte(strings.ReplaceAll(text, named, bucket)), &p); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return p
}

// actions are all that a policy allows.
func (p policy) actions() (all []string) {
	for _, s := range p.Statement {
		all = append(all, s.Action...)
	}
	slices.Sort(all)
	return all
}

// without is the policy less one action.
func (p policy) without(action string) policy {
	out := policy{Version: p.Version}
	for _, s := range p.Statement {
		s.Action = slices.DeleteFunc(slices.Clone(s.Action), func(a string) bool { return a == action })
		if len(s.Action) > 0 {
			out.Statement = append(out.Statement, s)
		}
	}
	return out
}

// allow gives the bucket the policy for a user. IAM attaches a policy to the
// user; this server knows those of buckets, which name him besides.
func (s *sandbox) allow(t *testing.T, user string, p policy) {
	t.Helper()
	for i := range p.Statement {
		p.Statement[i].Principal = map[string]string{"AWS": user}
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.s3.Client().PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &s.bucket, Policy: aws.String(string(text))}); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

// as has the sandbox use another user of the bucket.
func (s *sandbox) as(user, key string) *sandbox {
	other := *s
	other.env = append(slices.Clone(s.env), "AWS_ACCESS_KEY_ID="+user, "AWS_SECRET_ACCESS_KEY="+key)
	return &other
}

// newUserSandbox is a sandbox whose bucket knows users, with a database of two
// tables.
func newUserSandbox(t *testing.T) *sandbox {
	t.Helper()
	s := newSandbox(t)
	s.s3 = testenv.S3Users(t)
	s.bucket = s.s3.Bucket(t)
	s.env = append(s.env, append(s.s3.Env(), "S3_BUCKET=s3://"+s.bucket, "ESCROWCTL_DR_TEST_ENGINE=local")...)
	s.pg.Psql(t, "app", "CREATE TABLE trades (id int PRIMARY KEY, v text); INSERT INTO trades SELECT g, md5(g::text) FROM generate_series(1, 1000) g; CREATE TABLE events (id int); INSERT INTO events VALUES (1); CREATE TABLE users (id int)")
	return s
}

// leaveUpload leaves an unfinished upload, as a killed run does.
func (s *sandbox) leaveUpload(t *testing.T) {
	t.Helper()
	_, err := s.s3.Client().CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &s.bucket, Key: aws.String("stellar_escrow_20250101T000000Z.sql.gz")})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPolicyOfBackup: with the documented policy every command that uses the
// bucket works, and without any one of its actions one of them fails and names
// what it lacks.
func TestPolicyOfBackup(t *testing.T) {
	t.Parallel()
	root := newUserSandbox(t)
	const user, key = "AKIABACKUPUSER", "s3cret/of-the-user"
	root.s3.AddUser(t, user, key, "user")
	full := documentedPolicy(t, testenv.RunBy(t, "docs/privileges.md", t.Name(), 1)[0], root.bucket)
	s := root.as(user, key)

	root.allow(t, user, full)
	root.leaveUpload(t)
	s.expect(t, 0, "backup", "in the bucket")
	s.expect(t, 0, "backup list --s3", "indexed")
	s.expect(t, 0, "backup verify latest --s3", "PASS")
	s.expect(t, 0, "backup restore latest --s3 --to copy", "1,001")
	s.expect(t, 0, "dr-test latest", "PASS")
	s.expect(t, 0, "doctor --only bucket", "can be listed")
	s.expect(t, 0, "shift-check --only backup", "OK")

	// The last leaves an upload that could not be confirmed.
	lacking := []struct {
		action  string
		code    int
		command string
	}{
		{"s3:ListBucket", 2, "backup list --s3"},
		{"s3:ListBucketMultipartUploads", 1, "backup"},
		{"s3:AbortMultipartUpload", 2, "backup"},
		{"s3:PutObject", 2, "backup"},
		{"s3:GetObject", 2, "backup"},
	}
	var needed []string
	for _, l := range lacking {
		needed = append(needed, l.action)
		t.Run(l.action, func(t *testing.T) {
			root.allow(t, user, full.without(l.action))
			testenv.NextSecond()
			s.expect(t, l.code, l.command, "lack "+l.action, root.bucket)
		})
	}
	// It is caught up with no right to delete.
	root.allow(t, user, full)
	testenv.NextSecond()
	s.expect(t, 0, "backup", "sent an earlier backup that the bucket lacked")
	s.expect(t, 0, "backup verify latest --s3", "PASS")
	slices.Sort(needed)
	if got := full.actions(); !slices.Equal(got, needed) {
		t.Errorf("the documented policy allows %q, needed is %q", got, needed)
	}
}

// TestPolicyOfDelete: what deletes needs the statement besides, and says so.
func TestPolicyOfDelete(t *testing.T) {
	t.Parallel()
	root := newUserSandbox(t)
	const user, key = "AKIADELETEUSER", "s3cret/of-the-user"
	root.s3.AddUser(t, user, key, "user")
	s := root.as(user, key)
	backup := documentedPolicy(t, testenv.RunBy(t, "docs/privileges.md", "TestPolicyOfBackup", 1)[0], root.bucket)
	more := documentedPolicy(t, testenv.RunBy(t, "docs/privileges.md", t.Name(), 1)[0], root.bucket)
	if got := more.actions(); !slices.Equal(got, []string{"s3:DeleteObject"}) {
		t.Fatalf("it allows %q", got)
	}
	root.allow(t, user, backup)
	s.expect(t, 0, "backup")
	s.expect(t, 2, "doctor --only bucket --write-bucket", "lack s3:DeleteObject")
	for _, old := range []string{"stellar_escrow_20250101T000000Z.sql.gz", "stellar_escrow_20250102T000000Z.sql.gz"} {
		s.copyAs(t, old)
	}
	s.set("ESCROWCTL_BACKUP_BUCKET_RETENTION_DAYS=30")
	s.expect(t, 2, "backup prune", "lack s3:DeleteObject")

	both := policy{Version: backup.Version, Statement: slices.Concat(backup.Statement, more.Statement)}
	root.allow(t, user, both)
	s.expect(t, 0, "doctor --only bucket --write-bucket", "written, read back and deleted")
	s.expect(t, 0, "backup prune", "deleted")
}

// copyAs puts the newest backup into the bucket once more, under an old name.
func (s *sandbox) copyAs(t *testing.T, name string) {
	t.Helper()
	dir := filepath.Join(s.s3.Root, s.bucket)
	files, _ := filepath.Glob(filepath.Join(s.dir, "*.sql.gz"))
	if len(files) != 1 {
		t.Fatalf("backups: %q", files)
	}
	body, err := os.ReadFile(files[0])
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name), body, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestPolicyOfRead: a host that only proves backups needs no right to write.
func TestPolicyOfRead(t *testing.T) {
	t.Parallel()
	root := newUserSandbox(t)
	root.expect(t, 0, "backup")
	const user, key = "AKIAREADUSER", "s3cret/of-the-user"
	root.s3.AddUser(t, user, key, "user")
	full := documentedPolicy(t, testenv.RunBy(t, "docs/privileges.md", t.Name(), 1)[0], root.bucket)
	s := root.as(user, key)
	s.set("BACKUP_DIR=" + t.TempDir())

	root.allow(t, user, full)
	s.expect(t, 0, "dr-test latest", "PASS")
	s.expect(t, 0, "backup verify latest --s3", "PASS")
	s.expect(t, 0, "backup restore latest --s3 --to copy", "1,001")
	s.expect(t, 2, "backup", "lack s3:PutObject")

	lacking := map[string]string{"s3:ListBucket": "s3:ListBucket", "s3:GetObject": "s3:GetObject"}
	for _, action := range full.actions() {
		t.Run(action, func(t *testing.T) {
			root.allow(t, user, full.without(action))
			s.expect(t, 3, "dr-test latest", "lack "+lacking[action])
		})
	}
	if len(full.actions()) != len(lacking) {
		t.Errorf("the documented policy allows %q", full.actions())
	}
}
