// Package cache asks the platform's Redis for its statistics.
//
// It speaks the protocol itself, because a check must take one round trip, also
// through a tunnel, and must stand whatever answers at Redis's address: no
// length that a server claims is believed beyond a bound.
package cache

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// maxReply is how much of an answer is read, in bytes. INFO has some 6 kB.
const maxReply = 1 << 20

// Options say how Redis is reached.
type Options struct {
	// URL is redis://[[user]:password@]host[:port], rediss:// for TLS, or
	// unix://[[user]:password@]/path.
	URL string
	// Dial opens the connection, which may be a tunnel; nil dials directly.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Error is what Redis itself refused with, such as "WRONGPASS invalid ...".
type Error string

// Error returns Redis's own words.
func (e Error) Error() string { return string(e) }

// RedisError marks the type, as in other clients of Redis.
func (Error) RedisError() {}

// Info returns the answer of INFO. Errors: Error, those of the connection, and
// that the answer is not Redis's. None of them holds the password.
func Info(ctx context.Context, opt Options) (string, error) { return Do(ctx, opt, "INFO") }

// Do sends one command and returns its answer, a simple or a bulk string. The
// errors are those of Info.
func Do(ctx context.Context, opt Options, words ...string) (string, error) {
	t, err := parse(opt.URL)
	if err != nil {
		return "", err
	}
	conn, err := t.connect(ctx, opt.Dial)
	if err != nil {
		return "", fmt.Errorf("redis: connect to %s: %w", t.addr, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	text, err := t.ask(conn, words)
	switch refused := Error(""); {
	case err == nil:
		return text, nil
	case errors.As(err, &refused):
		return "", err
	case ctx.Err() != nil:
		return "", fmt.Errorf("redis: %s: it takes the connection and stays silent: %w", t.addr, context.Cause(ctx))
	case errors.Is(err, io.EOF):
		return "", fmt.Errorf("redis: %s: it ended the connection without an answer: %w", t.addr, err)
	default:
		return "", fmt.Errorf("redis: %s: %w", t.addr, err)
	}
}

// Host is the host in a URL, "" where there is none.
func Host(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// target is what a URL says.
type target struct {
	network, addr  string
	user, password string
	tls            *tls.Config
}

// parse reads the URL. Its errors quote none of it, since in a malformed URL any
// part may be the password.
func parse(text string) (target, error) {
	u, err := url.Parse(text)
	if err != nil {
		return target{}, errors.New("redis: its URL cannot be understood: the form is redis://:password@host:6379, with special characters of the password percent-encoded")
	}
	t := target{network: "tcp"}
	if u.User != nil {
		t.user = u.User.Username()
		t.password, _ = u.User.Password()
		if t.user != "" && t.password == "" { // redis://password@host
			t.user, t.password = "", t.user
		}
	}
	port := u.Port()
	if port == "" {
		port = "6379"
	}
	t.addr = net.JoinHostPort(u.Hostname(), port)
	switch u.Scheme {
	case "redis":
	case "rediss":
		t.tls = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
	case "unix":
		t.network, t.addr = "unix", u.Path
	default:
		return target{}, errors.New("redis: its URL must begin with redis://, rediss:// or unix://")
	}
	return t, nil
}

func (t target) connect(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error)) (net.Conn, error) {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, t.network, t.addr)
	if err != nil || t.tls == nil {
		return conn, err
	}
	secure := tls.Client(conn, t.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return secure, nil
}

// ask sends everything at once and reads the answers.
func (t target) ask(conn io.ReadWriter, words []string) (string, error) {
	var request strings.Builder
	if t.password != "" {
		login := []string{"AUTH", t.user, t.password}
		if t.user == "" {
			login = []string{"AUTH", t.password}
		}
		command(&request, login...)
	}
	command(&request, words...)
	if _, err := io.WriteString(conn, request.String()); err != nil {
		return "", err
	}
	in := bufio.NewReaderSize(&io.LimitedReader{R: conn, N: maxReply}, 16<<10)
	if t.password != "" {
		if _, err := reply(in); err != nil {
			return "", err
		}
	}
	return reply(in)
}

// command writes a command as an array of bulk strings.
func command(w *strings.Builder, words ...string) {
	fmt.Fprintf(w, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(w, "$%d\r\n%s\r\n", len(word), word)
	}
}

// reply reads one answer: a simple or a bulk string, or an Error.
func reply(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", errors.New("not Redis's answer: an endless line")
	}
	if err != nil {
		return "", brokeOff(err, len(line))
	}
	text := strings.TrimRight(string(line), "\r\n")
	if text == "" {
		return "", errors.New("not Redis's answer: an empty line")
	}
	switch rest := text[1:]; text[0] {
	case '+':
		return rest, nil
	case '-':
		return "", Error(printable(rest))
	case '$':
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 || n > maxReply {
			return "", fmt.Errorf("not Redis's answer: a text of %s bytes", printable(rest))
		}
		body := make([]byte, n+len("\r\n"))
		if n, err := io.ReadFull(in, body); err != nil {
			return "", brokeOff(err, len(line)+n)
		}
		return string(body[:n]), nil
	default:
		return "", fmt.Errorf("not Redis's answer: it begins %s", printable(text))
	}
}

// brokeOff tells an answer that ends too soon from none at all.
func brokeOff(err error, got int) error {
	if got > 0 && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
		return fmt.Errorf("the answer broke off after %d bytes", got)
	}
	return err
}

// printable is the beginning of a server's words, safe for one line.
func printable(s string) string {
	const most = 100
	s = strings.ToValidUTF8(s[:min(len(s), most)], "?")
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return '?'
		}
		return r
	}, s)
}
