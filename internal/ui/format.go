package ui

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bytes writes a size for people, in powers of 1024 with one decimal: "999 B",
// "359.2 MiB". It is computed in whole numbers: 1,048,575 is "1.0 MiB", not
// "1024.0 KiB".
func Bytes(n int64) string {
	if n < 0 {
		return "-" + bytesText(-uint64(n)) // right for the least int64 too
	}
	return bytesText(uint64(n))
}

func bytesText(n uint64) string {
	if n < 1024 {
		return strconv.FormatUint(n, 10) + " B"
	}
	const units = "KMGTPE"
	for i, unit := range units {
		shift := 10 * (i + 1)
		whole, rest := n>>shift, n&(1<<shift-1)
		tenths := whole*10 + (rest*10+1<<(shift-1))>>shift
		if tenths < 10240 || i == len(units)-1 {
			return fmt.Sprintf("%d.%d %ciB", tenths/10, tenths%10, unit)
		}
	}
	return "" // not reached: the last unit takes all
}

// Count writes a number with its thousands apart: "12,345,678".
func Count(n int64) string {
	s := strconv.FormatInt(n, 10)
	digits, negative := strings.CutPrefix(s, "-")
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	if negative {
		return "-" + digits
	}
	return digits
}

// Plural writes "1 table" or "3 tables".
func Plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return Count(int64(n)) + " " + many
}

// Duration writes a time span with up to two units: "2h 5m", "13.9s", "240ms".
func Duration(d time.Duration) string {
	if d < 0 {
		return "-" + Duration(-max(d, -math.MaxInt64))
	}
	if d < time.Second {
		return fmt.Sprintf("%dms", d.Milliseconds())
	}
	// Rounded before the unit is chosen, so that no 60.0s comes out.
	if tenths := d.Round(100 * time.Millisecond); tenths < time.Minute {
		return fmt.Sprintf("%.1fs", tenths.Seconds())
	}
	seconds := int64(d.Round(time.Second) / time.Second)
	switch {
	case seconds < 3600:
		return fmt.Sprintf("%dm %ds", seconds/60, seconds%60)
	case seconds < 48*3600:
		return fmt.Sprintf("%dh %dm", seconds/3600, seconds%3600/60)
	}
	return fmt.Sprintf("%dd %dh", seconds/86400, seconds%86400/3600)
}

// Age writes a time span roughly, and never as more than it is: "5m", "3h",
// "12d". What lies in the future has the age "0s".
func Age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, int64(d/time.Second)))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int64(d/time.Minute))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int64(d/time.Hour))
	}
	return fmt.Sprintf("%dd", int64(d/(24*time.Hour)))
}
