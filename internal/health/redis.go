package health

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// Memory keeps a document from one run to the next; state.Store is one.
type Memory interface {
	Load(name string, v any) (found bool, err error)
	Save(name string, v any) error
}

// RedisID is the ID of the check.
const RedisID = "redis"

// RedisOptions say how Redis is reached.
type RedisOptions struct {
	// Info returns the answer of the command INFO. Its error wraps ErrDown where
	// nobody answers, and has a method RedisError where Redis itself refused.
	Info func(ctx context.Context) (string, error)
	// Service is the compose service, for commands to type.
	Service string
	// Memory keeps the counters for the next check; nil keeps none.
	Memory Memory

	Limits Limits
	Limit  time.Duration // 0: 3 s
	Now    func() time.Time
}

// Redis checks that Redis answers, its hit rate (since an earlier check where
// that is enough to tell, else since its start), its memory, and that it takes
// writes.
func Redis(opt RedisOptions) check.Probe {
	x := redis{opt}
	return check.Probe{ID: RedisID, Limit: orLimit(opt.Limit), Run: x.run}
}

type redis struct{ RedisOptions }

const (
	rbRedis  = "RB-005"
	redisDoc = "shift-check-redis" // in Memory
)

func (x *redis) run(ctx context.Context) check.Result {
	ctx, cancel := withMargin(ctx)
	defer cancel()
	f := findings{limits: x.Limits}
	text, err := x.Info(ctx)
	if err != nil {
		f.add(x.fault(ctx, err))
		return f.result(RedisID)
	}
	info, err := parseRedisInfo(text)
	if err != nil {
		f.unknown("docker compose logs --tail 50 "+x.Service, "the answer of INFO: %v", err)
		return f.result(RedisID)
	}
	f.fact("Redis %s", clean(info.version))
	x.rate(&f, info)
	x.space(&f, info)
	x.persistence(&f, info)
	return f.result(RedisID)
}

// fault is the finding for a Redis that could not be looked into.
func (x *redis) fault(ctx context.Context, err error) finding {
	bad := finding{status: check.Unknown, text: oneLine(err), action: "docker compose logs --tail 50 " + x.Service, runbooks: []string{rbRedis}}
	if said := redisSaid(err); said != "" {
		x.refused(&bad, said)
		return bad
	}
	if cause := downCause(ctx, err); cause != "" {
		bad.status, bad.alert, bad.text = check.Critical, runbook.ServiceDown, cause
	}
	return bad
}

// refused words what Redis itself said. It is up, but how it fares is not known.
func (x *redis) refused(bad *finding, said string) {
	const compare = "compare REDIS_URL with REDIS_PASSWORD in .env; a changed .env takes: docker compose up -d "
	word, _, _ := strings.Cut(said, " ")
	switch {
	case word == "WRONGPASS", said == "ERR invalid password":
		bad.text, bad.action = "it is up, but the password in REDIS_URL is wrong (WRONGPASS)", compare+x.Service
	case word == "NOAUTH":
		bad.text, bad.action = "it is up, but asks for a password, and REDIS_URL has none (NOAUTH)", compare+x.Service
	case strings.HasPrefix(said, "ERR AUTH"), strings.HasPrefix(said, "ERR Client sent AUTH"):
		bad.text, bad.action = "it is up, but has no password, though REDIS_URL has: anyone may use it", compare+x.Service
	case word == "NOPERM":
		bad.text, bad.action = "it is up, but the user in REDIS_URL may not ask for INFO (NOPERM)", "ACL SETUSER with +info, or another user in REDIS_URL"
	case word == "LOADING":
		bad.status, bad.text = check.Warning, "it is still loading its data (LOADING)"
	default:
		bad.text = "it is up, but says: " + clean(said)
	}
}

// redisSaid is what Redis itself refused with, beginning with its word for it,
// or "".
func redisSaid(err error) string {
	var server interface {
		error
		RedisError()
	}
	if !errors.As(err, &server) {
		return ""
	}
	return server.Error()
}

// minLookups is how many lookups make a hit rate worth judging: a rate of three
// lookups after a start says nothing.
const minLookups = 1000

// windowAge is the least age of counters that new ones are compared with.
const windowAge = 5 * time.Minute

// counters are Redis's at one time.
type counters struct {
	At      time.Time `json:"at"`
	RunID   string    `json:"run_id"`
	Hits    int64     `json:"hits"`
	Misses  int64     `json:"misses"`
	Evicted int64     `json:"evicted"`
}

// history is what is kept between checks: the newest counters, and those of
// windowAge or more before them, so that frequent checks have a base as well.
type history struct {
	Version int      `json:"version"`
	Newer   counters `json:"newer"`
	Older   counters `json:"older"`
}

// rate judges the hit rate. The total drowns today in last year's figures, so
// what has come since an earlier check counts where that is enough.
func (x *redis) rate(f *findings, info redisInfo) {
	now := counters{At: x.Now(), RunID: info.runID, Hits: info.hits, Misses: info.misses, Evicted: info.evicted}
	base, ok := x.base(f, now)
	total := info.hits + info.misses
	f.figure("lookups", "count", float64(total))
	if total > 0 {
		f.figure("hit_rate_total", "ratio", float64(info.hits)/float64(total))
	}
	hits, lookups, since := info.hits, total, "since its start"
	if ok {
		if evicted := now.Evicted - base.Evicted; evicted > 0 {
			f.fact("%s keys evicted in %s", count(float64(evicted)), span(now.At.Sub(base.At)))
		}
		if n := now.Hits + now.Misses - base.Hits - base.Misses; n >= minLookups {
			hits, lookups, since = now.Hits-base.Hits, n, "in the last "+span(now.At.Sub(base.At))
		}
	}
	if lookups < minLookups {
		f.fact("%d lookups (too few to judge)", lookups)
		return
	}
	rate := float64(hits) / float64(lookups)
	text := fmt.Sprintf("hit rate %s %s", percent(rate), since)
	bad := finding{text: text, action: "docker compose exec " + x.Service + " redis-cli --no-auth-warning info stats", alert: runbook.RedisHitRateAlert, runbooks: []string{rbRedis}}
	if !f.judge("hit_rate", runbook.RedisHitRate, rate, bad) {
		f.fact("%s", text)
	}
}

// base returns the counters to compare with, and keeps the new ones.
func (x *redis) base(f *findings, now counters) (counters, bool) {
	if x.Memory == nil {
		return counters{}, false
	}
	var h history
	if _, err := x.Memory.Load(redisDoc, &h); err != nil {
		f.add(finding{status: check.Warning, text: "the counters of the last check: " + oneLine(err)})
		return counters{}, false
	}
	base := h.Older
	if age := now.At.Sub(h.Newer.At); age >= windowAge || age < 0 {
		base = h.Newer
		// Without a state directory every check is a first one, and says so by
		// judging the total.
		_ = x.Memory.Save(redisDoc, history{Version: 1, Newer: now, Older: h.Newer})
	}
	usable := base.RunID == now.RunID && now.RunID != "" && base.At.Before(now.At) &&
		base.Hits <= now.Hits && base.Misses <= now.Misses && base.Evicted <= now.Evicted
	return base, usable
}

// space judges the memory where Redis may not evict.
func (x *redis) space(f *findings, info redisInfo) {
	f.figure("memory", "bytes", float64(info.used))
	f.figure("evicted_keys", "count", float64(info.evicted))
	if info.maxMemory == 0 {
		f.fact("%s used", bytesText(float64(info.used)))
		return
	}
	text := fmt.Sprintf("%s of %s used", bytesText(float64(info.used)), bytesText(float64(info.maxMemory)))
	if info.policy != "noeviction" {
		f.fact("%s (%s)", text, clean(info.policy))
		return
	}
	bad := finding{text: text + ", and nothing is evicted: writes fail when it is full", action: "docker compose exec " + x.Service + " redis-cli --no-auth-warning info memory", runbooks: []string{rbRedis}}
	if !f.judge("memory_used", runbook.RedisMemory, float64(info.used)/float64(info.maxMemory), bad) {
		f.fact("%s", text)
	}
}

// persistence says where Redis cannot keep what it holds; by default it refuses
// writes then.
func (x *redis) persistence(f *findings, info redisInfo) {
	logs := "docker compose logs --tail 50 " + x.Service
	if info.loading {
		f.add(finding{status: check.Warning, text: "it is still loading its data", action: logs, runbooks: []string{rbRedis}})
	}
	if info.saveFailed != "" {
		f.add(finding{status: check.Critical, text: "it could not save its data (" + info.saveFailed + "), and may refuse writes", action: logs, runbooks: []string{rbRedis}})
	}
	if info.masterDown {
		f.add(finding{status: check.Warning, text: "it is a replica, and its link to the master is down", action: logs, runbooks: []string{rbRedis}})
	}
}
