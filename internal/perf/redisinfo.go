package perf

import (
	"errors"
	"strconv"
	"strings"
)

// ParseRedisInfo reads the answer of Redis's INFO.
func ParseRedisInfo(text string) (*Redis, error) {
	fields := map[string]string{}
	var keys int64
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		fields[name] = value
		if strings.HasPrefix(name, "db") && strings.HasPrefix(value, "keys=") {
			count, _, _ := strings.Cut(strings.TrimPrefix(value, "keys="), ",")
			n, _ := strconv.ParseInt(count, 10, 64) // what is no number counts nothing
			keys += n
		}
	}
	if fields["redis_version"] == "" || fields["keyspace_hits"] == "" {
		return nil, errors.New("the answer of INFO has no statistics: is it a Redis?")
	}
	whole := func(name string) int64 {
		n, _ := strconv.ParseInt(fields[name], 10, 64) // a field that this version lacks is 0
		return n
	}
	fragmentation, _ := strconv.ParseFloat(fields["mem_fragmentation_ratio"], 64) // the same
	return &Redis{
		Version: fields["redis_version"], RunID: fields["run_id"], Uptime: float64(whole("uptime_in_seconds")),
		Hits: whole("keyspace_hits"), Misses: whole("keyspace_misses"), Evicted: whole("evicted_keys"), Expired: whole("expired_keys"),
		UsedBytes: whole("used_memory"), RSSBytes: whole("used_memory_rss"), MaxBytes: whole("maxmemory"), Policy: fields["maxmemory_policy"],
		Fragmentation: fragmentation, Clients: whole("connected_clients"), Blocked: whole("blocked_clients"), Rejected: whole("rejected_connections"), Keys: keys,
	}, nil
}
