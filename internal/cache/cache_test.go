package cache

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

func TestInfo(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t)
	text, err := Info(t.Context(), Options{URL: r.URL()})
	if err != nil || !strings.Contains(text, "\nkeyspace_hits:0\r\n") {
		t.Fatalf("%v: %.200s", err, text)
	}
	dialled := 0
	_, err = Info(t.Context(), Options{
		URL: strings.Replace(r.URL(), "127.0.0.1", "redis", 1),
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialled++
			return new(net.Dialer).DialContext(ctx, network, strings.Replace(addr, "redis", "127.0.0.1", 1))
		},
	})
	if err != nil || dialled != 1 {
		t.Errorf("through a dialler: %d connections, %v", dialled, err)
	}
	var refused Error
	wrong := fmt.Sprintf("redis://:wrong@127.0.0.1:%d", r.Port)
	if _, err := Info(t.Context(), Options{URL: wrong}); !errors.As(err, &refused) || !strings.HasPrefix(err.Error(), "WRONGPASS") {
		t.Errorf("wrong password: %v", err)
	}
}

// The address and password that a URL means.
func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][4]string{
		"redis://host":                  {"tcp", "host:6379", "", ""},
		"redis://:p%2Fw@host:1":         {"tcp", "host:1", "", "p/w"},
		"redis://default:pw@host/0":     {"tcp", "host:6379", "default", "pw"},
		"redis://pw@[::1]:2":            {"tcp", "[::1]:2", "", "pw"},
		"unix://:pw@/run/redis.sock":    {"unix", "/run/redis.sock", "", "pw"},
		"rediss://u:p@cache.example:10": {"tcp", "cache.example:10", "u", "p"},
	} {
		got, err := parse(text)
		if err != nil || [4]string{got.network, got.addr, got.user, got.password} != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
		if (got.tls != nil) != strings.HasPrefix(text, "rediss") {
			t.Errorf("%s: TLS %v", text, got.tls)
		}
	}
	for _, bad := range []string{"http://:s3cret@h", "redis://:s3cret%zz@h", ":s3cret"} {
		if _, err := parse(bad); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestInfoCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Info(ctx, Options{URL: "redis://" + testenv.Silent(t)}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func FuzzReply(f *testing.F) {
	for _, seed := range []string{"+OK\r\n", "-ERR x\r\n", "$3\r\nabc\r\n", "$-1\r\n", "$99999999999999999999\r\n", "*1\r\n", "\r\n", "$3\r\nab"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		text, err := reply(bufio.NewReaderSize(strings.NewReader(answer), 64))
		if err == nil && len(text) > len(answer) {
			t.Errorf("%d bytes out of %d", len(text), len(answer))
		}
		if err != nil && (len(err.Error()) > 300 || strings.ContainsAny(err.Error(), "\x1b\x00\n")) {
			t.Errorf("error %q", err)
		}
	})
}
