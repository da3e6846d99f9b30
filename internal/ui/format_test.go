package ui

import (
	"math"
	"testing"
	"time"
)

func TestBytes(t *testing.T) {
	tests := []struct {
		n    int64
		want string
	}{
		{0, "0 B"}, {1023, "1023 B"}, {1024, "1.0 KiB"}, {1536, "1.5 KiB"}, {1587, "1.5 KiB"}, {1588, "1.6 KiB"},
		{1<<20 - 1, "1.0 MiB"}, {1<<20 - 52, "1023.9 KiB"}, {359*1024*1024 + 209716, "359.2 MiB"}, {1<<30 - 1, "1.0 GiB"},
		{5 << 40, "5.0 TiB"}, {1 << 50, "1.0 PiB"}, {math.MaxInt64, "8.0 EiB"},
		{-1536, "-1.5 KiB"}, {math.MinInt64, "-8.0 EiB"},
	}
	for _, tt := range tests {
		if got := Bytes(tt.n); got != tt.want {
			t.Errorf("Bytes(%d) = %q, want %q", tt.n, got, tt.want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 999: "999", 1000: "1,000", 12345678: "12,345,678", -1: "-1", -100: "-100", -1000: "-1,000", math.MinInt64: "-9,223,372,036,854,775,808",
	} {
		if got := Count(n); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	tests := []struct {
		d    time.Duration
		want string
	}{
		{0, "0ms"}, {240 * time.Millisecond, "240ms"}, {time.Second - 1, "999ms"}, {time.Second, "1.0s"}, {13940 * time.Millisecond, "13.9s"},
		{59949 * time.Millisecond, "59.9s"}, {59950 * time.Millisecond, "1m 0s"}, {time.Minute + 29*time.Second, "1m 29s"},
		{time.Hour - time.Millisecond, "1h 0m"}, {2*time.Hour + 5*time.Minute + 59*time.Second, "2h 5m"},
		{47*time.Hour + 59*time.Minute, "47h 59m"}, {48 * time.Hour, "2d 0h"}, {30*24*time.Hour + 90*time.Minute, "30d 1h"},
		{-1500 * time.Millisecond, "-1.5s"}, {math.MinInt64, "-106751d 23h"},
	}
	for _, tt := range tests {
		if got := Duration(tt.d); got != tt.want {
			t.Errorf("Duration(%v) = %q, want %q", int64(tt.d), got, tt.want)
		}
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Hour: "0s", 0: "0s", 59 * time.Second: "59s", time.Minute: "1m", time.Hour - 1: "59m", 26 * time.Hour: "26h", 48 * time.Hour: "2d", 30 * 24 * time.Hour: "30d",
	} {
		if got := Age(d); got != want {
			t.Errorf("Age(%v) = %q, want %q", d, got, want)
		}
	}
}
