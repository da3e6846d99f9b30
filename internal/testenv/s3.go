package testenv

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// S3Server is a versitygw server of the test's own, as strict as the real one.
type S3Server struct {
	Endpoint  string // http://127.0.0.1:PORT, addressed by path
	Region    string
	AccessKey string
	SecretKey string
	Root      string // directory that holds the buckets; see Bucket

	port     int
	dir      string
	tool     string
	flags    []string
	watchdog *watchdog
	process  *process
}

// S3 starts an S3 server without buckets, and stops it at the end of the test.
func S3(t testing.TB) *S3Server {
	t.Helper()
	return newS3(t, nil)
}

// S3Users starts one that has users of its own besides the root: see AddUser.
func S3Users(t testing.TB) *S3Server {
	t.Helper()
	return newS3(t, []string{"--iam-dir", t.TempDir(), "--iam-cache-disable"})
}

func newS3(t testing.TB, flags []string) *S3Server {
	t.Helper()
	tool := Tool(t, "versitygw")
	dir := tempDir(t, "s3", nil)
	s := &S3Server{
		Region: "us-east-1", AccessKey: "AKIATEST" + rand.Text()[:12], SecretKey: "s3/" + rand.Text(),
		Root: filepath.Join(dir, "buckets"), dir: dir, tool: tool, flags: flags,
	}
	if err := os.Mkdir(s.Root, 0o755); err != nil {
		t.Fatalf("testenv: %v", err)
	}
	s.watchdog = newWatchdog(t, dir)
	t.Cleanup(func() { s.Stop(t) })
	onFreePort(t, func(port int) error {
		s.port = port
		s.Endpoint = "http://127.0.0.1:" + strconv.Itoa(port)
		return s.start(t)
	})
	return s
}

// Env is the environment that leads the AWS SDK and escrowctl to the server.
// The configuration files of whoever runs the test are shut out.
func (s *S3Server) Env() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.SecretKey, "AWS_SESSION_TOKEN=",
		"AWS_REGION=" + s.Region, "AWS_ENDPOINT_URL_S3=" + s.Endpoint, "AWS_ENDPOINT_URL=",
		"AWS_PROFILE=", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true",
	}
}

// Setenv puts Env into the test's own environment. Not for parallel tests.
func (s *S3Server) Setenv(t testing.TB) {
	t.Helper()
	for _, pair := range s.Env() {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
}

// Client is a bare client of the server, for looking at what the code under
// test did.
func (s *S3Server) Client() *s3.Client {
	return s3.New(s3.Options{
		Region: s.Region, BaseEndpoint: aws.String(s.Endpoint), UsePathStyle: true,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: s.AccessKey, SecretAccessKey: s.SecretKey}, nil
		}),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	})
}

// Bucket makes a bucket with a name of its own and returns the name. Its
// objects are plain files below Root/name, there to be damaged.
func (s *S3Server) Bucket(t testing.TB) string {
	t.Helper()
	name := "test-" + strings.ToLower(rand.Text()[:12])
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := s.Client().CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(name)}); err != nil {
		t.Fatalf("testenv: creating bucket %s: %v", name, err)
	}
	return name
}

// AddUser makes a user, who is his access key, with a role: admin, userplus or
// user, of whom only the first has a right to what others own.
func (s *S3Server) AddUser(t testing.TB, accessKey, secretKey, role string) {
	t.Helper()
	s.admin(t, "create-user", "--access", accessKey, "--secret", secretKey, "--role", role)
}

// DeleteUser takes a user away, as deactivating an access key does.
func (s *S3Server) DeleteUser(t testing.TB, accessKey string) {
	t.Helper()
	s.admin(t, "delete-user", "--access", accessKey)
}

func (s *S3Server) admin(t testing.TB, args ...string) {
	t.Helper()
	cmd := exec.Command(s.tool, append([]string{"admin", "--endpoint-url", s.Endpoint, "--region", s.Region}, args...)...)
	cmd.Env = append(os.Environ(), "ADMIN_ACCESS_KEY_ID="+s.AccessKey, "ADMIN_SECRET_ACCESS_KEY="+s.SecretKey)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("testenv: versitygw admin %s: %v: %s", args[0], err, out)
	}
}

// Stop kills the server, as an outage does. Start brings it back with its data.
func (s *S3Server) Stop(t testing.TB) {
	t.Helper()
	if s.process == nil {
		return
	}
	s.process.stop(syscall.SIGKILL)
	s.process = nil
	s.watchdog.tell(t, "pid 0 KILL")
}

// Pause makes the server hang: connections are taken, nothing is answered.
// Resume ends that.
func (s *S3Server) Pause(t testing.TB) { s.signal(t, syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *S3Server) Resume(t testing.TB) { s.signal(t, syscall.SIGCONT) }

func (s *S3Server) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if s.process == nil {
		t.Fatal("testenv: a stopped S3 server can be neither paused nor resumed")
	}
	if err := s.process.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("testenv: %v", err)
	}
}

// Start starts the server again after Stop, on the same port.
func (s *S3Server) Start(t testing.TB) {
	t.Helper()
	if err := s.start(t); err != nil {
		t.Fatalf("testenv: %v", err)
	}
}

func (s *S3Server) start(t testing.TB) error {
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
	cmd := exec.Command(s.tool, slices.Concat([]string{"--port", addr, "--region", s.Region, "--quiet"}, s.flags, []string{"posix", s.Root})...)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.AccessKey, "ROOT_SECRET_KEY="+s.SecretKey)
	p, err := launch(cmd, s.dir, "versitygw", nil)
	if err != nil {
		return err
	}
	s.watchdog.tell(t, "pid %d KILL", p.cmd.Process.Pid)
	if err := p.ready(s.ping); err != nil {
		s.watchdog.tell(t, "pid 0 KILL")
		return err
	}
	s.process = p
	return nil
}

// ping asks with our keys, which only our server knows.
func (s *S3Server) ping() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	options := func(o *s3.Options) { o.RetryMaxAttempts = 1 }
	if _, err := s.Client().ListBuckets(ctx, &s3.ListBucketsInput{}, options); err != nil {
		return fmt.Errorf("listing buckets: %w", err)
	}
	return nil
}
