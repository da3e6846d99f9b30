package cache

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
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

// client is a client of the library, for what is more than one INFO. It pools
// one connection and never tries again.
func (opt Options) client() (*redis.Client, error) {
	t, err := parse(opt.URL)
	if err != nil {
		return nil, err
	}
	return redis.NewClient(&redis.Options{
		Network: t.network, Addr: t.addr, Username: t.user, Password: t.password,
		PoolSize: 1, MaxRetries: -1, DisableIdentity: true, Protocol: 2,
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) { return t.connect(ctx, opt.Dial) },
	}), nil
}

// SlowLog returns the newest n entries of the slow log, newest first.
func SlowLog(ctx context.Context, opt Options, n int64) ([]Slow, error) {
	c, err := opt.client()
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	entries, err := c.SlowLogGet(ctx, n).Result()
	if err != nil {
		return nil, fmt.Errorf("redis: slow log: %w", err)
	}
	var out []Slow
	for _, e := range entries {
		if len(e.Args) > 0 {
			out = append(out, Slow{At: e.Time, Took: e.Duration, Command: printable(commandName(e.Args))})
		}
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
	c, err := opt.client()
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = c.Close() }()
	var cursor uint64
	for {
		names, next, err := c.Scan(ctx, cursor, "", scanBatch).Result()
		if err != nil {
			return biggest, scanned, fmt.Errorf("redis: scan the keys: %w", err)
		}
		sizes, err := sizesOf(ctx, c, names)
		if err != nil {
			return biggest, scanned, err
		}
		scanned += int64(len(names))
		biggest = append(biggest, sizes...)
		slices.SortFunc(biggest, func(a, b Key) int { return int(b.Bytes - a.Bytes) })
		biggest = biggest[:min(n, len(biggest))]
		if cursor = next; cursor == 0 || scanned >= limit {
			return biggest, scanned, nil
		}
	}
}

func sizesOf(ctx context.Context, c *redis.Client, names []string) ([]Key, error) {
	pipe := c.Pipeline()
	sizes := make([]*redis.IntCmd, len(names))
	types := make([]*redis.StatusCmd, len(names))
	for i, name := range names {
		sizes[i], types[i] = pipe.MemoryUsage(ctx, name), pipe.Type(ctx, name)
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("redis: sizes of keys: %w", err)
	}
	var out []Key
	for i, name := range names {
		if n, err := sizes[i].Result(); err == nil { // else it is gone meanwhile
			out = append(out, Key{Name: name, Type: types[i].Val(), Bytes: n})
		}
	}
	return out, nil
}
