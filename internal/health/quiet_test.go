package health

import (
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/httpx"
	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/testenv/platform"
)

// healthyPlatform is the checks of a platform on which all is well.
func healthyPlatform(t *testing.T) []check.Probe {
	t.Helper()
	pg, cache := testenv.Postgres(t), testenv.Redis(t)
	lookups(t, cache, 1800, 200)
	indexer := testenv.Serve(t, platform.NewIndexer(time.Now))
	client := httpx.New()
	redis := redisAt(cache.URL())
	redis.Memory = kept()
	return []check.Probe{
		Indexer(IndexerOptions{
			URL: indexer, HorizonURL: testenv.Serve(t, platform.NewHorizon(time.Now)), Client: client, Limit: 20 * time.Second, Now: time.Now,
			EventAge: EventAge(connectTo(t, pg.URL("postgres")), "events", "created_at"),
		}),
		API(APIOptions{URL: testenv.Serve(t, platform.NewAPI("key", "")), MetricsURL: indexer, Client: paced(), Limit: 20 * time.Second}),
		Database(databaseAt(t, pg.URL("postgres"))),
		Redis(redis),
	}
}

// TestNoFalseAlarm checks a healthy platform 200 times.
func TestNoFalseAlarm(t *testing.T) {
	t.Parallel()
	probes := healthyPlatform(t)
	start := time.Now()
	for range 200 {
		for _, r := range check.Run(t.Context(), probes) {
			if r.Status != check.OK {
				t.Errorf("%s: %s: %s %v", r.ID, r.Status, r.Summary, r.Detail)
			}
		}
	}
	t.Logf("200 runs in %s", time.Since(start))
}

// TestAllSilent points every check at servers that take the connection and never
// say a word: it ends with the limit, and each line names its cause.
func TestAllSilent(t *testing.T) {
	t.Parallel()
	silent := testenv.Silent(t)
	client := httpx.New()
	redis := redisAt("redis://" + silent)
	redis.Limit = testLimit
	probes := []check.Probe{
		Indexer(IndexerOptions{URL: "http://" + silent, HorizonURL: "http://" + silent, Client: client, Limit: testLimit, Now: time.Now}),
		API(APIOptions{URL: "http://" + silent, MetricsURL: "http://" + silent, Client: client, Limit: testLimit}),
		Database(DatabaseOptions{Connect: connectTo(t, "postgres://u:p@"+silent+"/d"), Service: "postgres", Limit: testLimit}),
		Redis(redis),
	}
	start := time.Now()
	results := check.Run(t.Context(), probes)
	if took := time.Since(start); took > testLimit+busy {
		t.Errorf("took %s, limit %s", took, testLimit)
	}
	for _, r := range results {
		want{check.Critical, silent, "ServiceDown", "logs"}.check(t, r)
	}
}
