package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Slow is an entry of the slow log, without the arguments: they hold data.
type Slow struct {
	At      time.Time
	Took    time.Duration
	Command string // GET, or CONFIG SET
}

// Key is a key with the memory it takes.
type Key struct {
	Name  string
	Type  string
	Bytes int64
}

// SlowLog returns the newest n entries of the slow log, newest first.
func SlowLog(ctx context.Context, opt Options, n int64) ([]Slow, error) {
	s, err := open(ctx, opt)
	if err != nil {
		return nil, fmt.Errorf("redis: slow log: %w", err)
	}
	defer s.close()
	answers, err := s.ask(ctx, []string{"SLOWLOG", "GET", strconv.FormatInt(n, 10)})
	if err == nil && answers[0].err != "" {
		err = answers[0].err
	}
	if err != nil {
		return nil, fmt.Errorf("redis: slow log: %w", err)
	}
	var out []Slow
	for _, e := range answers[0].list {
		// Number, time, microseconds, arguments, and what newer servers add.
		const fields = 4
		if len(e.list) < fields || len(e.list[3].list) == 0 {
			continue
		}
		var args []string
		for _, a := range e.list[3].list {
			args = append(args, a.text)
		}
		out = append(out, Slow{At: time.Unix(e.list[1].n, 0), Took: time.Duration(e.list[2].n) * time.Microsecond, Command: printable(commandName(args))})
	}
	return out, nil
}

// commandName is the command, with the subcommand where it has some.
func commandName(args []string) string {
	name := strings.ToUpper(args[0])
	switch name {
	case "CONFIG", "CLIENT", "CLUSTER", "SCRIPT", "MEMORY", "OBJECT", "XGROUP", "XINFO", "DEBUG", "ACL", "SLOWLOG", "LATENCY", "MODULE", "PUBSUB":
		if len(args) > 1 {
			name += " " + strings.ToUpper(args[1])
		}
	}
	return name
}

// scanBatch is how many keys one SCAN looks at: few enough for Redis, which
// does one thing at a time.
const scanBatch = 200

// Biggest scans at most limit keys and returns the n that take most memory,
// and how many it saw. It takes a while, and Redis's time in small pieces.
func Biggest(ctx context.Context, opt Options, n int, limit int64) (biggest []Key, scanned int64, err error) {
	s, err := open(ctx, opt)
	if err != nil {
		return nil, 0, fmt.Errorf("redis: scan the keys: %w", err)
	}
	defer s.close()
	for cursor := "0"; ; {
		var names []string
		if names, cursor, err = s.scan(ctx, cursor); err != nil {
			return biggest, scanned, fmt.Errorf("redis: scan the keys: %w", err)
		}
		sizes, err := s.sizes(ctx, names)
		if err != nil {
			return biggest, scanned, fmt.Errorf("redis: sizes of keys: %w", err)
		}
		scanned += int64(len(names))
		biggest = append(biggest, sizes...)
		slices.SortFunc(biggest, func(a, b Key) int { return cmp.Compare(b.Bytes, a.Bytes) })
		biggest = biggest[:min(n, len(biggest))]
		if cursor == "0" || scanned >= limit {
			return biggest, scanned, nil
		}
	}
}

// scan returns some names, and where to go on.
func (s *session) scan(ctx context.Context, cursor string) (names []string, next string, err error) {
	answers, err := s.ask(ctx, []string{"SCAN", cursor, "COUNT", strconv.Itoa(scanBatch)})
	if err == nil && answers[0].err != "" {
		err = answers[0].err
	}
	if err != nil {
		return nil, "", err
	}
	const parts = 2
	if len(answers[0].list) != parts {
		return nil, "", errors.New("not Redis's answer: a scan without its two parts")
	}
	for _, name := range answers[0].list[1].list {
		names = append(names, name.text)
	}
	return names, answers[0].list[0].text, nil
}

// sizes asks for the sizes and types of keys, all at once.
func (s *session) sizes(ctx context.Context, names []string) ([]Key, error) {
	if len(names) == 0 {
		return nil, nil
	}
	var questions [][]string
	for _, name := range names {
		questions = append(questions, []string{"MEMORY", "USAGE", name}, []string{"TYPE", name})
	}
	answers, err := s.ask(ctx, questions...)
	if err != nil {
		return nil, err
	}
	var out []Key
	for i, name := range names {
		size, kind := answers[2*i], answers[2*i+1]
		if size.err != "" {
			return nil, size.err
		}
		if size.n > 0 { // else it is gone meanwhile
			out = append(out, Key{Name: name, Type: kind.text, Bytes: size.n})
		}
	}
	return out, nil
}
