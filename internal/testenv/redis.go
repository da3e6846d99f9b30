package testenv

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisServer is a Redis server of a test's own, which asks for a password.
type RedisServer struct {
	Port     int
	Password string

	dir      string
	watchdog *watchdog
	process  *process
}

// Redis starts a server, with further lines of redis.conf, and ends it with
// the test.
func Redis(t testing.TB, config ...string) *RedisServer {
	t.Helper()
	tool, err := exec.LookPath("redis-server")
	Need(t, err == nil, "redis-server in PATH", "make deps, or apt-get install redis-server")
	dir := tempDir(t, "redis", nil)
	r := &RedisServer{Password: "redis/" + rand.Text(), dir: dir, watchdog: newWatchdog(t, dir)}
	t.Cleanup(func() { r.Stop(t) })
	onFreePort(t, func(port int) error {
		r.Port = port
		return r.start(t, tool, config)
	})
	return r
}

func (r *RedisServer) start(t testing.TB, tool string, config []string) error {
	lines := append([]string{
		"bind 127.0.0.1", "port " + strconv.Itoa(r.Port), "dir " + r.dir,
		"requirepass " + r.Password, `save ""`, "daemonize no",
	}, config...)
	cmd := exec.Command(tool, "-")
	// The configuration by standard input: the password is in no argv.
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	p, err := launch(cmd, r.dir, "redis", nil)
	if err != nil {
		return err
	}
	r.watchdog.tell(t, "pid %d KILL", p.cmd.Process.Pid)
	if err := p.ready(r.ping); err != nil {
		r.watchdog.tell(t, "pid 0 KILL")
		return err
	}
	r.process = p
	return nil
}

// ping asks with our password, which only our server knows.
func (r *RedisServer) ping() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	client := r.Client()
	defer client.Close()
	return client.Ping(ctx).Err()
}

// URL is the server with its password.
func (r *RedisServer) URL() string {
	u := url.URL{Scheme: "redis", User: url.UserPassword("", r.Password), Host: r.address()}
	return u.String()
}

func (r *RedisServer) address() string { return fmt.Sprintf("127.0.0.1:%d", r.Port) }

// Client is a plain client; the caller closes it.
func (r *RedisServer) Client() *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: r.address(), Password: r.Password, MaxRetries: -1,
		Dialer: (&net.Dialer{Timeout: time.Minute}).DialContext, ReadTimeout: time.Minute,
	})
}

// Stop kills the server, as an outage does.
func (r *RedisServer) Stop(t testing.TB) {
	t.Helper()
	if r.process == nil {
		return
	}
	r.process.stop(syscall.SIGKILL)
	r.process = nil
	r.watchdog.tell(t, "pid 0 KILL")
}
