package health

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// redisInfo is what the answer of INFO holds that counts here.
type redisInfo struct {
	version    string
	runID      string // changes with every start
	hits       int64
	misses     int64
	evicted    int64
	used       int64  // bytes
	maxMemory  int64  // bytes; 0 is no limit
	policy     string // noeviction, allkeys-lru, ...
	loading    bool
	saveFailed string // which way of keeping the data failed last, or ""
	masterDown bool
}

// parseRedisInfo reads the answer of INFO: lines of key:value. What must be there
// and is not, or is no number, is an error.
func parseRedisInfo(text string) (redisInfo, error) {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if key, value, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, "#") {
			fields[key] = value
		}
	}
	if fields["redis_version"] == "" {
		return redisInfo{}, fmt.Errorf("no redis_version in it, it begins %s", excerpt([]byte(text)))
	}
	info := redisInfo{
		version: fields["redis_version"], runID: fields["run_id"], policy: fields["maxmemory_policy"],
		loading:    fields["loading"] == "1",
		masterDown: fields["role"] == "slave" && fields["master_link_status"] == "down",
	}
	var errs []error
	for _, n := range []struct {
		key string
		to  *int64
	}{
		{"keyspace_hits", &info.hits}, {"keyspace_misses", &info.misses}, {"evicted_keys", &info.evicted},
		{"used_memory", &info.used}, {"maxmemory", &info.maxMemory},
	} {
		v, err := strconv.ParseInt(fields[n.key], 10, 64)
		if err != nil || v < 0 || v > 1<<60 {
			errs = append(errs, fmt.Errorf("%s is %s, not a number", n.key, excerpt([]byte(fields[n.key]))))
		}
		*n.to = v
	}
	for _, status := range []string{"rdb_last_bgsave_status", "aof_last_write_status"} {
		if v := fields[status]; v != "" && v != "ok" {
			info.saveFailed = status + ":" + clean(v)
		}
	}
	return info, errors.Join(errs...)
}
