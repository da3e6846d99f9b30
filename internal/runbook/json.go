package runbook

import (
	"encoding/json"
	"time"
)

// The durations are written as seconds, with the unit in the key's name.

// MarshalJSON writes SLA as sla_seconds.
func (a Alert) MarshalJSON() ([]byte, error) {
	type plain Alert
	return json.Marshal(struct {
		plain
		SLA int64 `json:"sla_seconds"`
	}{plain(a), seconds(a.SLA)})
}

// MarshalJSON writes Every as every_seconds, and leaves it out where it is 0.
func (s Secret) MarshalJSON() ([]byte, error) {
	type plain Secret
	return json.Marshal(struct {
		plain
		Every int64 `json:"every_seconds,omitempty"`
	}{plain(s), seconds(s.Every)})
}

// MarshalJSON writes MaxAge as max_age_seconds.
func (t Task) MarshalJSON() ([]byte, error) {
	type plain Task
	return json.Marshal(struct {
		plain
		MaxAge int64 `json:"max_age_seconds"`
	}{plain(t), seconds(t.MaxAge)})
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }
