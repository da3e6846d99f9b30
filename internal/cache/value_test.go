package cache

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// TestBiggest: of a real server, more keys than one scan returns.
func TestBiggest(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t)
	c := r.Client()
	defer c.Close()
	pipe := c.Pipeline()
	for i := range 1000 {
		pipe.Set(t.Context(), fmt.Sprintf("key:%d", i), "x", 0)
	}
	pipe.Set(t.Context(), "big\r\n$9\r\nodd", strings.Repeat("x", 100_000), 0)
	pipe.RPush(t.Context(), "list", strings.Repeat("y", 50_000))
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	keys, scanned, err := Biggest(t.Context(), Options{URL: r.URL()}, 2, 1<<20)
	if err != nil || scanned < 1002 || len(keys) != 2 || keys[0].Name != "big\r\n$9\r\nodd" || keys[0].Type != "string" || keys[1].Type != "list" || keys[0].Bytes < 100_000 {
		t.Errorf("%+v of %d: %v", keys, scanned, err)
	}
	if _, scanned, err := Biggest(t.Context(), Options{URL: r.URL()}, 2, 100); err != nil || scanned < 100 || scanned > 900 {
		t.Errorf("of at most 100: %d, %v", scanned, err)
	}
	wrong := fmt.Sprintf("redis://:wrong@127.0.0.1:%d", r.Port)
	for what, err := range map[string]error{"slow log": func() error { _, err := SlowLog(t.Context(), Options{URL: wrong}, 1); return err }(), "keys": func() error { _, _, err := Biggest(t.Context(), Options{URL: wrong}, 1, 1); return err }()} {
		if err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
			t.Errorf("%s with a wrong password: %v", what, err)
		}
	}
}

// TestHostileRedis: whatever answers at Redis's address, it costs no more memory
// than what it sends, and no more than a bound.
func TestHostileRedis(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		"*1000000000\r\n", "$536870912\r\nx", "*2\r\n:0\r\n", strings.Repeat("*1\r\n", 1000), ":1\r\n", "*2\r\n$1\r\n1\r\n*1000\r\n" + strings.Repeat("$3\r\nabc\r\n", 1000), "$-5\r\n", "HTTP/1.1 400 Bad Request\r\n",
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, err := l.Accept()
			if err == nil {
				_, _ = conn.Read(make([]byte, 100))
				_, _ = io.WriteString(conn, answer)
				_ = conn.Close()
			}
		}()
		if keys, _, err := Biggest(t.Context(), Options{URL: "redis://" + l.Addr().String()}, 5, 100); err == nil || len(err.Error()) > 300 {
			t.Errorf("%.40q is believed: %v, %v", answer, keys, err)
		}
		_ = l.Close()
	}
}

func FuzzValue(f *testing.F) {
	for _, seed := range []string{"+OK\r\n", "-ERR x\r\n", "$3\r\nabc\r\n", "$-1\r\n", "*-1\r\n", "*2\r\n:1\r\n*1\r\n+x\r\n", ":9223372036854775807\r\n", "*99999\r\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		v, err := readValue(bufio.NewReaderSize(strings.NewReader(answer), 64), maxDepth)
		if err == nil && v.size() > len(answer) {
			t.Errorf("%d bytes out of %d", v.size(), len(answer))
		}
		if err != nil && (len(err.Error()) > 300 || strings.ContainsAny(err.Error(), "\x1b\x00\n")) {
			t.Errorf("error %q", err)
		}
	})
}

// size is what a value holds.
func (v value) size() int {
	n := len(v.text) + len(v.err)
	for _, e := range v.list {
		n += e.size()
	}
	return n
}
