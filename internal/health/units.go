package health

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// inUnit writes a value as people read it.
func inUnit(unit string, value float64) string {
	switch unit {
	case "seconds":
		return span(seconds(value))
	case "ratio":
		return percent(value)
	case "bytes":
		return bytesText(value)
	case "count":
		return count(value)
	default:
		return strconv.FormatFloat(value, 'g', 4, 64) + " " + unit
	}
}

// seconds turns a number of seconds into a duration, without overflow.
func seconds(n float64) time.Duration {
	const most = float64(math.MaxInt64) / float64(time.Second)
	return time.Duration(max(-most, min(most, n)) * float64(time.Second))
}

// span writes a time span roughly: 38 ms, 12 s, 6 min, 3.5 h, 12 days.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + span(-max(d, -math.MaxInt64))
	case d == 0:
		return "0 s"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int64(d/time.Second))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int64(d/time.Minute))
	case d < 48*time.Hour:
		return fmt.Sprintf("%.1f h", math.Floor(d.Hours()*10)/10)
	default:
		return fmt.Sprintf("%d days", int64(d/(24*time.Hour)))
	}
}

func percent(ratio float64) string {
	return strconv.FormatFloat(math.Round(ratio*1000)/10, 'f', -1, 64) + " %"
}

// bytesText writes a size in powers of 1000, as the runbook's limits are.
func bytesText(n float64) string {
	return scaled(n, []string{"B", "kB", "MB", "GB", "TB", "PB"})
}

// count writes a large number roughly: 200 M.
func count(n float64) string { return scaled(n, []string{"", "k", "M", "G"}) }

func scaled(n float64, units []string) string {
	i := 0
	for math.Abs(n) >= 999.5 && i < len(units)-1 {
		n, i = n/1000, i+1
	}
	text := strconv.FormatFloat(n, 'f', 0, 64)
	if i > 0 && math.Abs(n) < 9.95 {
		text = strconv.FormatFloat(math.Round(n*10)/10, 'f', -1, 64)
	}
	if units[i] != "" {
		text += " " + units[i]
	}
	return text
}
