package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/cache"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

func redisAt(url string) RedisOptions {
	return RedisOptions{
		Info:    func(ctx context.Context) (string, error) { return cache.Info(ctx, cache.Options{URL: url}) },
		Service: "redis", Limit: 20 * time.Second, Now: time.Now,
	}
}

// kept is a Memory with one document.
func kept() Memory {
	var doc []byte
	return memory{
		load: func(v any) (bool, error) {
			if doc == nil {
				return false, nil
			}
			return true, json.Unmarshal(doc, v)
		},
		save: func(v any) (err error) {
			doc, err = json.Marshal(v)
			return err
		},
	}
}

// lookups asks a server for keys that are there and keys that are not.
func lookups(t *testing.T, r *testenv.RedisServer, hits, misses int) {
	t.Helper()
	client := r.Client()
	defer client.Close()
	pipe := client.Pipeline()
	pipe.Set(t.Context(), "there", "1", 0)
	for range hits {
		pipe.Get(t.Context(), "there")
	}
	for range misses {
		pipe.Get(t.Context(), "missing")
	}
	_, _ = pipe.Exec(t.Context()) // a miss counts as an error here
}

func TestRedis(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t)
	clock := time.Now()
	opt := redisAt(r.URL())
	opt.Memory, opt.Now = kept(), func() time.Time { return clock }
	step := func(name string, w want) check.Result {
		t.Helper()
		got := look(t, Redis(opt))
		if t.Run(name, func(t *testing.T) { w.check(t, got) }); t.Failed() {
			t.Log(name)
		}
		return got
	}
	step("fresh", want{check.OK, "0 lookups (too few to judge", "", ""})
	lookups(t, r, 10, 20)
	step("a few misses", want{check.OK, "30 lookups (too few", "", ""})
	lookups(t, r, 650, 330)
	got := step("warning", want{check.Warning, "hit rate 65.3 % since its start, warning from 70 %", "", "redis-cli"})
	if rate := figure(t, got, "hit_rate"); rate < 0.65 || rate > 0.66 {
		t.Errorf("hit rate %g", rate)
	}
	lookups(t, r, 0, 1000)
	step("critical", want{check.Critical, "hit rate 32.8 % since its start, limit 60 %", "RedisHitRate", "redis-cli"})

	clock = clock.Add(6 * time.Minute)
	step("still", want{check.Critical, "hit rate 32.8 % in the last 6 min", "RedisHitRate", "redis-cli"})

	// The total is ruined for long; what counts is what comes from here on.
	clock = clock.Add(time.Hour)
	lookups(t, r, 4000, 1000)
	step("better since then", want{check.OK, "hit rate 80 % in the last 60 min", "", ""})
	clock = clock.Add(time.Second)
	step("asked again at once", want{check.OK, "hit rate 80 % in the last 60 min", "", ""})
	clock = clock.Add(6 * time.Minute)
	step("nothing since", want{check.Warning, "hit rate 66.5 % since its start", "", ""})
	lookups(t, r, 100, 1900)
	clock = clock.Add(time.Second)
	step("today is bad", want{check.Critical, "hit rate 5 % in the last 6 min", "RedisHitRate", "redis-cli"})

	r.Stop(t)
	step("down", want{check.Critical, "connection refused", "ServiceDown", "docker compose logs --tail 50 redis"})
}

func TestRedisRestartForgetsCounters(t *testing.T) {
	t.Parallel()
	info := func(run string, hits, misses int) string {
		return fmt.Sprintf("# Server\r\nredis_version:7.0.15\r\nrun_id:%s\r\nkeyspace_hits:%d\r\nkeyspace_misses:%d\r\nevicted_keys:0\r\nused_memory:1000\r\nmaxmemory:0\r\n", run, hits, misses)
	}
	text, clock := info("a", 5000, 5000), time.Now()
	opt := RedisOptions{
		Info: func(context.Context) (string, error) { return text, nil }, Service: "redis",
		Memory: kept(), Now: func() time.Time { return clock },
	}
	want{check.Critical, "hit rate 50 % since its start", "RedisHitRate", ""}.check(t, look(t, Redis(opt)))
	clock = clock.Add(time.Hour)
	text = info("b", 9000, 5500)
	want{check.Warning, "hit rate 62.1 % since its start", "", ""}.check(t, look(t, Redis(opt)))

	opt.Memory = memory{load: func(any) (bool, error) { return false, errors.New("damaged") }}
	want{check.Warning, "the counters of the last check: damaged", "", ""}.check(t, look(t, Redis(opt)))
}

func TestRedisPassword(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t)
	with := func(userinfo string) string {
		return fmt.Sprintf("redis://%s127.0.0.1:%d", userinfo, r.Port)
	}
	const compose = "docker compose up -d redis"
	for userinfo, w := range map[string]want{
		":s3cret-wrong@":     {check.Unknown, "it is up, but the password in REDIS_URL is wrong (WRONGPASS)", "", compose},
		"nobody:s3cret-bad@": {check.Unknown, "it is up, but the password in REDIS_URL is wrong (WRONGPASS)", "", compose},
		"":                   {check.Unknown, "it is up, but asks for a password", "", compose},
	} {
		got := look(t, Redis(redisAt(with(userinfo))))
		w.check(t, got)
		if strings.Contains(fmt.Sprint(got), "s3cret") {
			t.Errorf("the password is told: %v", got)
		}
	}

	client := r.Client()
	defer client.Close()
	if err := client.ConfigSet(t.Context(), "requirepass", "").Err(); err != nil {
		t.Fatal(err)
	}
	want{check.Unknown, "it is up, but has no password, though REDIS_URL has", "", compose}.check(t, look(t, Redis(redisAt(r.URL()))))
}

func TestRedisMemory(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t)
	client := r.Client()
	defer client.Close()
	set := func(name, value string) {
		t.Helper()
		if err := client.ConfigSet(t.Context(), name, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	set("maxmemory", "100kb")
	want{check.Critical, "nothing is evicted: writes fail when it is full, limit 95 %", "", "redis-cli"}.check(t, look(t, Redis(redisAt(r.URL()))))
	set("maxmemory-policy", "allkeys-lru")
	want{check.OK, "(allkeys-lru)", "", ""}.check(t, look(t, Redis(redisAt(r.URL()))))
	set("maxmemory", "100mb")
	set("maxmemory-policy", "noeviction")
	want{check.OK, "of 105 MB used", "", ""}.check(t, look(t, Redis(redisAt(r.URL()))))
}

// TestRedisSaveFails makes Redis fail to save for real, as a full disk does.
func TestRedisSaveFails(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t, "enable-protected-configs yes")
	client := r.Client()
	defer client.Close()
	client.Set(t.Context(), "a", "b", 0)
	if err := client.ConfigSet(t.Context(), "dbfilename", strings.Repeat("x", 300)).Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.Do(t.Context(), "BGSAVE").Err(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		got := look(t, Redis(redisAt(r.URL())))
		if got.Status != check.OK || time.Now().After(deadline) {
			want{check.Critical, "it could not save its data (rdb_last_bgsave_status:err)", "", "logs"}.check(t, got)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestRedisUnreachable(t *testing.T) {
	t.Parallel()
	says := func(bytes string) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					_, _ = conn.Read(make([]byte, 1<<10)) // the question
					for {
						if _, err := conn.Write([]byte(bytes)); err != nil || !strings.HasSuffix(bytes, "...") {
							return
						}
					}
				}()
			}
		}()
		return "redis://" + l.Addr().String()
	}
	for name, tt := range map[string]struct {
		url  string
		want want
	}{
		"silent":       {"redis://" + testenv.Silent(t), want{check.Critical, "it takes the connection and stays silent", "ServiceDown", "logs"}},
		"silent TLS":   {"rediss://" + testenv.Silent(t), want{check.Critical, "no answer in time", "ServiceDown", "logs"}},
		"unresolvable": {"redis://redis.invalid", want{check.Unknown, "no such host", "", "logs"}},
		"hangs up":     {says(""), want{check.Critical, "ended the connection without an answer", "ServiceDown", "logs"}},
		"HTTP":         {says("HTTP/1.1 400 Bad Request\r\n\r\n"), want{check.Unknown, "not Redis's answer: it begins HTTP/1.1 400", "", "logs"}},
		"huge":         {says("$999999999999\r\n"), want{check.Unknown, "not Redis's answer: a text of 999999999999 bytes", "", "logs"}},
		"endless":      {says("+" + strings.Repeat("x", 1<<12) + "..."), want{check.Unknown, "an endless line", "", "logs"}},
		"cut off":      {says("$500\r\nredis_version:7"), want{check.Unknown, "the answer broke off", "", "logs"}},
		"loading":      {says("-LOADING Redis is loading the dataset in memory\r\n"), want{check.Warning, "still loading its data", "", "logs"}},
		"other words":  {says("-ODD \x1b[2J\r\n"), want{check.Unknown, "it is up, but says: ODD", "", "logs"}},
		"nonsense":     {says("$5\r\nhello\r\n"), want{check.Unknown, "the answer of INFO: no redis_version", "", "logs"}},
		"no numbers":   {says("$38\r\nredis_version:7\r\nkeyspace_hits:many\r\n..\r\n"), want{check.Unknown, `keyspace_hits is "many", not a number`, "", "logs"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opt := redisAt(tt.url)
			opt.Limit = testLimit
			tt.want.check(t, look(t, Redis(opt)))
		})
	}
}

// FuzzParseRedisInfo: what is read of an answer reads the same when only that is
// written, and is what its lines say.
func FuzzParseRedisInfo(f *testing.F) {
	f.Add("# Server\r\nredis_version:7.0.15\r\nrun_id:a\r\nkeyspace_hits:1\r\nkeyspace_misses:2\r\nevicted_keys:0\r\nused_memory:1\r\nmaxmemory:0\r\nloading:0\r\n")
	f.Add("redis_version:\x1b\nkeyspace_hits:-1")
	f.Add("redis_version:7\nkeyspace_hits:1\nkeyspace_misses:+2\nevicted_keys:0\nused_memory:1\nmaxmemory:1152921504606846977\nrole:slave\nmaster_link_status:down\nrdb_last_bgsave_status:err\x1b[2J")
	f.Fuzz(func(t *testing.T, text string) {
		info, err := parseRedisInfo(text)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\x1b\x00\r") {
				t.Errorf("error %q", err)
			}
			return
		}
		written := fmt.Sprintf("redis_version:%s\nrun_id:%s\nmaxmemory_policy:%s\n", info.version, info.runID, info.policy)
		for key, value := range map[string]int64{
			"keyspace_hits": info.hits, "keyspace_misses": info.misses, "evicted_keys": info.evicted, "used_memory": info.used, "maxmemory": info.maxMemory,
		} {
			said := regexp.MustCompile(`(?:^|\n)`+key+`:([+-]?[0-9]+)\r*(?:\n|$)`).FindAllStringSubmatch(strings.ReplaceAll(text, "\n", "\n\n"), -1)
			if len(said) == 0 {
				t.Fatalf("%q: no line says %s, which is %d", text, key, value)
			}
			if n, err := strconv.ParseInt(said[len(said)-1][1], 10, 64); err != nil || n != value || n < 0 {
				t.Errorf("%q: %s is %d, not %d", text, key, n, value)
			}
			written += fmt.Sprintf("%s:%d\r\n", key, value)
		}
		again, err := parseRedisInfo(written)
		again.loading, again.saveFailed, again.masterDown = info.loading, info.saveFailed, info.masterDown
		if err != nil || again != info || strings.ContainsAny(info.saveFailed, "\x1b\x00\n") {
			t.Errorf("%q: %+v, written anew %+v, %v", text, info, again, err)
		}
	})
}
