package config

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// Limits are the two limits of a figure, in the unit that the runbook gives it.
type Limits struct {
	Warning  float64 `yaml:"warning"`
	Critical float64 `yaml:"critical"`
}

// Threshold returns the runbook's row of a figure with the limits as they are
// configured. The runbook's own hold for a figure that has no keys.
func (c *Config) Threshold(id string) (runbook.Threshold, bool) {
	t, ok := runbook.ThresholdFor(id)
	if l := c.Thresholds[id]; ok && l != nil {
		t.Warning, t.Critical = l.Warning, l.Critical
	}
	return t, ok
}

// limits returns the limits of a figure, to be set.
func (c *Config) limits(id string) *Limits {
	if c.Thresholds == nil {
		c.Thresholds = make(map[string]*Limits)
	}
	if c.Thresholds[id] == nil {
		c.Thresholds[id] = new(Limits)
	}
	return c.Thresholds[id]
}

// configurable are the runbook's rows that have keys here. The days of a
// certificate go by its lifetime: certs.warn_days and certs.critical_days.
func configurable() []runbook.Threshold {
	var out []runbook.Threshold
	for _, t := range runbook.Thresholds() {
		if t.ID != runbook.CertificateLifetime {
			out = append(out, t)
		}
	}
	return out
}

// thresholdKeys are the limits of every figure, the runbook's by default.
func thresholdKeys() []*key {
	var out []*key
	for _, t := range configurable() {
		warning := func(c *Config) *float64 { return &c.limits(t.ID).Warning }
		critical := func(c *Config) *float64 { return &c.limits(t.ID).Critical }
		out = append(out,
			&key{name: "thresholds." + t.ID + ".warning", def: showLimit(t.Unit, t.Warning), access: limit(t.Unit, warning)},
			&key{name: "thresholds." + t.ID + ".critical", def: showLimit(t.Unit, t.Critical), access: limit(t.Unit, critical)})
	}
	return out
}

// limit is a limit in one of the runbook's units.
func limit(unit string, at func(*Config) *float64) access {
	if unit == "ratio" {
		return ratio(at)
	}
	parse := func(s string) (float64, *problem) { return parseLimit(unit, s) }
	return single(at, parse, func(v float64) string { return showLimit(unit, v) })
}

func parseLimit(unit, s string) (float64, *problem) {
	switch unit {
	case "seconds":
		const least, most = time.Millisecond, 366 * runbook.Day
		d, p := parseDuration(s)
		if p == nil && (d < least || d > most) {
			p = faulty("out of range", "write a duration from %s to %s", showDuration(least), showDuration(most))
		}
		return d.Seconds(), p
	case "bytes":
		n, p := parseSize(s)
		if p == nil && n < 1 {
			p = faulty("out of range", "write a size of at least 1B")
		}
		return float64(n), p
	default:
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsNaN(n) || n != math.Trunc(n) {
			return 0, faulty("not a whole number", "write a number without a unit, for example 1000000")
		}
		if n < 1 || n > math.MaxInt32 {
			return 0, faulty("out of range", "write a number from 1 to %d", math.MaxInt32)
		}
		return n, nil
	}
}

// showLimit writes a limit as the file has it.
func showLimit(unit string, v float64) string {
	switch unit {
	case "seconds":
		return showDuration(time.Duration(math.Round(v * float64(time.Second))))
	case "bytes":
		return showDecimal(Size(v))
	default:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
}

// showDecimal writes a size in powers of 1000 where that is exact: the runbook's
// limits are.
func showDecimal(s Size) string {
	for _, u := range []struct {
		unit Size
		name string
	}{{1e12, "TB"}, {1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}} {
		if s != 0 && s%u.unit == 0 {
			return strconv.FormatInt(int64(s/u.unit), 10) + u.name
		}
	}
	return s.String()
}

// checkThresholds finds limits of which the critical one comes first: values
// between the two would be critical and never a warning.
func (l *loader) checkThresholds() Faults {
	var faults Faults
	for _, t := range configurable() {
		v := *l.loaded.Config.limits(t.ID)
		if v.Warning == v.Critical || t.Below == (v.Warning > v.Critical) {
			continue
		}
		// Named is the one that somebody set.
		value, other, name := v.Warning, v.Critical, "warning"
		rest := "critical"
		if l.loaded.Origin("thresholds."+t.ID+".warning").Kind == FromDefault {
			value, other, name, rest = v.Critical, v.Warning, "critical", "warning"
		}
		side := "above"
		if value < other {
			side = "below"
		}
		faults = append(faults, Fault{
			Key: "thresholds." + t.ID + "." + name, Value: showLimit(t.Unit, value), Origin: l.loaded.Origin("thresholds." + t.ID + "." + name),
			Problem: fmt.Sprintf("%s the %s limit, %s", side, rest, showLimit(t.Unit, other)),
			Remedy:  fmt.Sprintf("the warning must come first: set thresholds.%s.%s too", t.ID, rest),
		})
	}
	return faults
}
