package health

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/httpx"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// FiringAlert is an alert that Alertmanager has: one that fires, silenced,
// inhibited or not. What has resolved it does not tell.
type FiringAlert struct {
	Fingerprint string
	ID          string // its name and what it is about
	Name        string
	Summary     string // in one line, beginning with the ID
	// Priority is the runbook's, else that of its labels; 0 if neither tells.
	Priority runbook.Priority
	State    string // active, silenced or inhibited
	StartsAt time.Time
	// EndsAt is when it ends unless it is sent again; zero if not known.
	EndsAt time.Time
}

// Silence is a silence of Alertmanager's, past ones included for as long as it
// keeps them.
type Silence struct {
	What     string // its matchers
	Comment  string
	StartsAt time.Time
	EndsAt   time.Time
}

// ListAlerts reads the alerts and the silences of the Alertmanager at a URL.
func ListAlerts(ctx context.Context, client *httpx.Client, url string) ([]FiringAlert, []Silence, error) {
	a := &alerts{AlertsOptions: AlertsOptions{Client: client}}
	var list []amAlert
	if err := a.get(ctx, url, "/api/v2/alerts", &list); err != nil {
		return nil, nil, err
	}
	if err := sound(list); err != nil {
		return nil, nil, err
	}
	var silences []amSilence
	if err := a.get(ctx, url, "/api/v2/silences", &silences); err != nil {
		return nil, nil, err
	}
	out := make([]FiringAlert, 0, len(list))
	for _, al := range list {
		if al.StartsAt.IsZero() || al.Fingerprint == "" {
			return nil, nil, fmt.Errorf("alertmanager: /api/v2/alerts has an alert without startsAt or fingerprint")
		}
		row := urgencyOf(al.Labels).row
		out = append(out, FiringAlert{
			Fingerprint: clean(al.Fingerprint), ID: alertID(al.Labels), Name: clean(al.name()), Priority: row.Priority, Summary: alertText(al, row),
			State: [...]string{isActive: "active", isSilenced: "silenced", isInhibited: "inhibited"}[kindOf(al)], StartsAt: al.StartsAt, EndsAt: al.EndsAt,
		})
	}
	spans := make([]Silence, 0, len(silences))
	for _, s := range silences {
		var what []string
		for _, m := range s.Matchers {
			what = append(what, m.String())
		}
		spans = append(spans, Silence{What: clean(strings.Join(what, ", ")), Comment: clean(s.Comment), StartsAt: s.StartsAt, EndsAt: s.EndsAt})
	}
	return out, spans, nil
}

// amMatcher is a matcher of a silence.
type amMatcher struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	IsRegex bool   `json:"isRegex"`
	IsEqual *bool  `json:"isEqual"` // older versions leave it out: true
}

func (m amMatcher) String() string {
	op := "="
	if m.IsEqual != nil && !*m.IsEqual {
		op = "!="
	}
	if m.IsRegex {
		op = map[string]string{"=": "=~", "!=": "!~"}[op]
	}
	return m.Name + op + m.Value
}
