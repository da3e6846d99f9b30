package config

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// parseBool reads the words that YAML 1.1 has for true and false.
func parseBool(s string) (value, ok bool) {
	switch strings.ToLower(s) {
	case "true", "yes", "on":
		return true, true
	case "false", "no", "off":
		return false, true
	default:
		return false, false
	}
}

// parseDuration reads Go's durations, with d for days of 24 hours before them:
// 90s, 1h30m, 30d, 1d12h.
func parseDuration(s string) (time.Duration, *problem) {
	const remedy = "write it with its unit, for example 90s, 6h or 30d"
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return 0, faulty("a duration without a unit", remedy)
	}
	wrong := faulty("not a duration", remedy)
	var days time.Duration
	if number, rest, found := strings.Cut(s, "d"); found {
		n, err := strconv.ParseUint(number, 10, 31)
		if err != nil || n > uint64(math.MaxInt64/runbook.Day)/2 {
			return 0, wrong
		}
		days, s = time.Duration(n)*runbook.Day, rest
		if s == "" {
			return days, nil
		}
		if s[0] == '-' || s[0] == '+' {
			return 0, wrong
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d > math.MaxInt64-days {
		return 0, wrong
	}
	return days + d, nil
}

// showDuration writes a duration as a person would: 6h, 1m30s, 30d.
func showDuration(d time.Duration) string {
	if d >= runbook.Day && d%runbook.Day == 0 {
		return strconv.FormatInt(int64(d/runbook.Day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// parseSize reads 8MiB, 8MB, 512KiB, 1.5GiB or a number of bytes. The letters'
// case does not matter; the i does.
func parseSize(s string) (Size, *problem) {
	wrong := faulty("not a size", "write it with its unit, for example 8MiB")
	number := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	var unit float64
	switch strings.ToLower(s[len(number):]) {
	case "", "b":
		unit = 1
	case "kib":
		unit = float64(KiB)
	case "mib":
		unit = float64(MiB)
	case "gib":
		unit = float64(GiB)
	case "tib":
		unit = float64(TiB)
	case "kb":
		unit = 1e3
	case "mb":
		unit = 1e6
	case "gb":
		unit = 1e9
	case "tb":
		unit = 1e12
	default:
		return 0, wrong
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	// float64(MaxInt64) rounds up to 2^63, the first size that does not fit.
	if err != nil || math.IsNaN(f) || f < 0 || f*unit >= math.MaxInt64 {
		return 0, wrong
	}
	return Size(f * unit), nil
}
