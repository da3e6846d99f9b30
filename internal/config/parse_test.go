package config

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "30d": 720 * time.Hour, "1d12h": 36 * time.Hour, "0s": 0, "0d": 0,
		"1.5h": 90 * time.Minute, "500ms": 500 * time.Millisecond, "-5m": -5 * time.Minute,
	} {
		if got, p := parseDuration(text); p != nil || got != want {
			t.Errorf("%s = %s, %v, want %s", text, got, p, want)
		}
	}
	for _, text := range []string{"60", "", "1 d", "d", "-1d", "1d-2h", "1d+2h", "1.5d", "1d2", "99999999d", "53375d2562047h", "NaN", "1w"} {
		if got, p := parseDuration(text); p == nil {
			t.Errorf("%q passes as %s", text, got)
		}
	}
}

func TestShowDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		6 * time.Hour: "6h", 90 * time.Second: "1m30s", 720 * time.Hour: "30d", 36 * time.Hour: "36h", time.Minute: "1m",
		5 * time.Second: "5s", 0: "0s", 90 * time.Minute: "1h30m", 10 * time.Hour: "10h", 100 * time.Millisecond: "100ms", time.Hour + time.Second: "1h0m1s",
	} {
		if got := showDuration(d); got != want {
			t.Errorf("%d shows as %s, want %s", d, got, want)
		}
		if back, p := parseDuration(showDuration(d)); p != nil || back != d {
			t.Errorf("%s reads as %s", showDuration(d), back)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]Size{
		"8MiB": 8 * MiB, "8mib": 8 * MiB, "8 MiB": 8 * MiB, "1.5GiB": 3 * GiB / 2, "8MB": 8e6, "512KiB": 512 * KiB, "1TiB": TiB,
		"1024": 1024, "1024B": 1024, "0": 0, "1kB": 1000, "2GB": 2e9, "1tb": 1e12,
	} {
		if got, p := parseSize(text); p != nil || got != want {
			t.Errorf("%s = %d, %v, want %d", text, got, p, want)
		}
	}
	for _, text := range []string{"", "MiB", "8M", "-1MiB", "1e30TiB", "8388608TiB", "Inf", "NaN", "8MiB 1KiB", "0x10MiB "} {
		if got, p := parseSize(text); p == nil {
			t.Errorf("%q passes as %d", text, got)
		}
	}
	for size, want := range map[Size]string{8 * MiB: "8MiB", 8e6: "8000000B", 1536 * MiB: "1536MiB", 0: "0B", GiB: "1GiB", 3 * TiB: "3TiB", 1 << 10: "1KiB", math.MaxInt64: "9223372036854775807B"} {
		if got := size.String(); got != want {
			t.Errorf("%d shows as %s, want %s", size, got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"s3.bucket", "backup.retention", "backup.recipients", "report.webhook", "production", "on"}
	for word, want := range map[string]string{
		"s3.buket": "s3.bucket", "s3.bukcet": "s3.bucket", "S3.Bucket": "s3.bucket", "backup.retenton": "backup.retention",
		"backup.recipient": "backup.recipients", "prod": "production", "webhook": "", "": "", "_": "", "x": "", "onn": "on", "completely.different": "",
	} {
		if got := nearest(word, words); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"kitten", "sitting", 3}, {"ab", "ba", 1}, {"abc", "abc", 0}, {"abcdef", "ghijkl", 5}, {"a", "aaaaaaaaa", 5}} {
		if got := distance(tt.a, tt.b, 5); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
		if got := distance(tt.b, tt.a, 5); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.b, tt.a, got, tt.want)
		}
	}
}

func TestRelationName(t *testing.T) {
	for s, good := range map[string]bool{
		"events": true, "public.events": true, "_x$1": true, "größe": true, strings.Repeat("a", 63): true,
		"": false, "1a": false, "a.b.c": false, "a.": false, ".a": false, "a b": false, `"a"`: false, "a;drop": false, "a\xff": false, "a-b": false, "$a": false, strings.Repeat("a", 64): false,
	} {
		if p := relationName(s); (p == nil) != good {
			t.Errorf("%q: %v", s, p)
		}
	}
}
