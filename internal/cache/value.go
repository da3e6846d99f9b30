package cache

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// maxDepth is how deep the lists of an answer may lie within each other.
const maxDepth = 4

// value is one answer: a text, a number, a list or nothing, or an Error.
type value struct {
	text string
	list []value
	n    int64
	err  Error
}

// session is a connection for more than one question.
type session struct {
	conn  net.Conn
	limit *io.LimitedReader
	in    *bufio.Reader
	end   func() bool
}

// open connects and logs in. The end of ctx ends the session.
func open(ctx context.Context, opt Options) (*session, error) {
	t, err := parse(opt.URL)
	if err != nil {
		return nil, err
	}
	conn, err := t.connect(ctx, opt.Dial)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", t.addr, err)
	}
	s := &session{conn: conn, limit: &io.LimitedReader{R: conn}, end: context.AfterFunc(ctx, func() { _ = conn.Close() })}
	s.in = bufio.NewReaderSize(s.limit, 16<<10)
	if t.password == "" {
		return s, nil
	}
	login := []string{"AUTH", t.user, t.password}
	if t.user == "" {
		login = []string{"AUTH", t.password}
	}
	answers, err := s.ask(ctx, login)
	if err == nil && answers[0].err != "" {
		err = answers[0].err
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *session) close() {
	s.end()
	_ = s.conn.Close() // nothing is lost
}

// ask sends commands at once and returns their answers.
func (s *session) ask(ctx context.Context, commands ...[]string) ([]value, error) {
	var request strings.Builder
	for _, words := range commands {
		command(&request, words...)
	}
	s.limit.N = maxReply
	if _, err := io.WriteString(s.conn, request.String()); err != nil {
		return nil, ended(ctx, err)
	}
	answers := make([]value, len(commands))
	for i := range answers {
		var err error
		if answers[i], err = readValue(s.in, maxDepth); err != nil {
			return nil, ended(ctx, err)
		}
	}
	return answers, nil
}

// ended prefers the reason why the connection was closed.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// readValue reads one answer. Nothing is made as long as the server claims
// before it has come.
func readValue(in *bufio.Reader, depth int) (v value, err error) {
	line, err := in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return v, errors.New("not Redis's answer: an endless line")
	}
	if err != nil {
		return v, brokeOff(err, len(line))
	}
	text := strings.TrimRight(string(line), "\r\n")
	if text == "" {
		return v, errors.New("not Redis's answer: an empty line")
	}
	kind, rest := text[0], text[1:]
	n, number := strconv.ParseInt(rest, 10, 64)
	switch {
	case kind == '+':
		return value{text: rest}, nil
	case kind == '-':
		return value{err: Error(printable(rest))}, nil
	case number != nil, n > maxReply && kind != ':', depth == 0:
	case kind == ':':
		return value{n: n}, nil
	case n < 0 && (kind == '$' || kind == '*'):
		return v, nil // nothing
	case kind == '$':
		body := make([]byte, n+int64(len("\r\n")))
		if got, err := io.ReadFull(in, body); err != nil {
			return v, brokeOff(err, len(line)+got)
		}
		return value{text: string(body[:n])}, nil
	case kind == '*':
		for range n {
			element, err := readValue(in, depth-1)
			if err != nil {
				return v, err
			}
			v.list = append(v.list, element)
		}
		return v, nil
	}
	return v, fmt.Errorf("not Redis's answer: it begins %s", printable(text))
}
