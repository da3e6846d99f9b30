package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/certs"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// certItem is one host in JSON.
type certItem struct {
	Target      string           `json:"target"`
	Verdict     certs.Verdict    `json:"verdict"`
	Status      check.Status     `json:"status"`
	Summary     string           `json:"summary"`
	Action      string           `json:"action,omitempty"`
	Priority    string           `json:"priority,omitempty"`
	Runbooks    []string         `json:"runbooks,omitempty"`
	CheckedAt   time.Time        `json:"checked_at"`
	ExpiresAt   time.Time        `json:"expires_at,omitzero"`
	EndsFirst   string           `json:"ends_first,omitempty"`
	Left        *float64         `json:"left_seconds,omitempty"`
	DaysLeft    *int             `json:"days_left,omitempty"`
	Certificate *certCertificate `json:"certificate,omitempty"`
	Rule        *certRule        `json:"rule,omitempty"`
	Served      []certServed     `json:"served"`
	Disk        *certDisk        `json:"disk,omitempty"`
	Attempts    int              `json:"attempts_without_renewal"`
	LastFailure string           `json:"last_failure,omitempty"`
	Faults      []certs.Fault    `json:"faults"`
	Notes       []string         `json:"notes"`
}

type certCertificate struct {
	Names     []string  `json:"names"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"`
	SHA256    string    `json:"sha256"`
	Key       string    `json:"key"`
	Signature string    `json:"signature_algorithm"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Lifetime  float64   `json:"lifetime_seconds"`
}

type certRule struct {
	Text        string    `json:"text"`
	Why         string    `json:"why"`
	DueAt       time.Time `json:"due_at"`
	WarningAt   time.Time `json:"warning_at"`
	CriticalAt  time.Time `json:"critical_at"`
	AlertAt     time.Time `json:"alert_at"`
	WindowStart time.Time `json:"window_start,omitzero"`
	WindowEnd   time.Time `json:"window_end,omitzero"`
	Explanation string    `json:"explanation_url,omitempty"`
}

type certServed struct {
	Address string `json:"address"`
	SHA256  string `json:"sha256,omitempty"`
	Serial  string `json:"serial,omitempty"`
	Version string `json:"tls_version,omitempty"`
	Weak    string `json:"weak_protocol,omitempty"`
	Error   string `json:"error,omitempty"`
}

type certDisk struct {
	Lineage  string    `json:"lineage"`
	Serial   string    `json:"serial,omitempty"`
	SHA256   string    `json:"sha256,omitempty"`
	NotAfter time.Time `json:"not_after,omitzero"`
	CA       string    `json:"ca_directory,omitempty"`
}

func newCertItem(r *certs.Report) certItem {
	res := r.Result()
	it := certItem{
		Target: r.Target, Verdict: r.Verdict, Status: r.Status, Summary: r.Summary, Action: r.Action, Priority: res.Priority, Runbooks: res.Runbooks,
		CheckedAt: r.Checked.UTC(), Attempts: r.Attempts, Faults: r.Faults, Notes: r.Notes, Served: []certServed{},
	}
	if it.Faults == nil {
		it.Faults = []certs.Fault{}
	}
	if it.Notes == nil {
		it.Notes = []string{}
	}
	if r.LastFailed != nil {
		it.LastFailure = r.LastFailed.Reason
	}
	for _, s := range r.Served {
		served := certServed{Address: s.Address, Version: s.Version, Weak: s.Weak}
		if s.Err != nil {
			served.Error = s.Err.Error()
		} else {
			served.SHA256, served.Serial = certs.Fingerprint(s.Chain[0]), certs.Serial(s.Chain[0].SerialNumber)
		}
		it.Served = append(it.Served, served)
	}
	if r.Disk != nil {
		it.Disk = &certDisk{Lineage: r.Disk.Name, CA: r.Disk.Server}
		if leaf := r.Disk.Leaf(); leaf != nil {
			it.Disk.Serial, it.Disk.SHA256, it.Disk.NotAfter = certs.Serial(leaf.SerialNumber), certs.Fingerprint(leaf), leaf.NotAfter.UTC()
		}
	}
	if r.Known() {
		it.known(r)
	}
	return it
}

// known adds what there is to say of a certificate.
func (it *certItem) known(r *certs.Report) {
	left, days := r.Left.Seconds(), r.DaysLeft()
	it.ExpiresAt, it.EndsFirst, it.Left, it.DaysLeft = r.Expiry.UTC(), r.EndsFirst, &left, &days
	c := r.Leaf
	it.Certificate = &certCertificate{
		Names: certs.Names(c), Issuer: c.Issuer.String(), Serial: certs.Serial(c.SerialNumber), SHA256: certs.Fingerprint(c), Key: certs.Key(c),
		Signature: c.SignatureAlgorithm.String(), NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), Lifetime: c.NotAfter.Sub(c.NotBefore).Seconds(),
	}
	u := r.Rule
	it.Rule = &certRule{Text: u.String(), Why: u.Why, DueAt: u.Due.UTC(), WarningAt: u.Warn.UTC(), CriticalAt: u.Critical.UTC(), AlertAt: u.Alert.UTC()}
	if w := r.Window; w != nil {
		it.Rule.WindowStart, it.Rule.WindowEnd, it.Rule.Explanation = w.Start.UTC(), w.End.UTC(), w.Explanation
	}
}

func certItems(reports []*certs.Report) []certItem {
	items := make([]certItem, 0, len(reports))
	for _, r := range reports {
		items = append(items, newCertItem(r))
	}
	return items
}

func (a *App) showCerts(reports []*certs.Report) error {
	if a.asJSON() {
		return a.io.JSON(struct {
			SchemaVersion int          `json:"schema_version"`
			Status        check.Status `json:"status"`
			Hosts         []certItem   `json:"hosts"`
		}{1, certsStatus(reports), certItems(reports)})
	}
	var lines []string
	for _, r := range reports {
		lines = append(lines, a.certLines(r)...)
	}
	_, err := fmt.Fprintln(a.io.Out, strings.Join(lines, "\n"))
	return err
}

// certLines tells of one host: the verdict, then what it rests on.
func (a *App) certLines(r *certs.Report) []string {
	lines := []string{a.io.Paint(r.Status.String(), strings.ToUpper(r.Status.String())) + "  " + ui.Clean(r.Summary)}
	say := func(label, format string, args ...any) {
		lines = append(lines, fmt.Sprintf("  %-11s  %s", label, ui.Clean(fmt.Sprintf(format, args...))))
	}
	if r.Action != "" {
		say("do", "%s", r.Action)
	}
	if c := r.Leaf; c != nil {
		say("certificate", "%s, for %s", certs.Key(c), strings.Join(certs.Names(c), ", "))
		say("issuer", "%s, serial %s", c.Issuer, certs.Serial(c.SerialNumber))
		say("valid", "%s to %s", c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
	}
	for _, s := range r.Served {
		switch {
		case s.Err != nil:
			say("served", "%s: %v", s.Address, s.Err)
		case r.Domain != "":
			say("served", "%s: %s, sha256 %.16s", s.Address, s.Version, certs.Fingerprint(s.Chain[0]))
		}
	}
	if leaf := r.Disk.Leaf(); leaf != nil {
		say("on disk", "lineage %s, until %s, sha256 %.16s", r.Disk.Name, leaf.NotAfter.UTC().Format(time.RFC3339), certs.Fingerprint(leaf))
	}
	if r.Known() {
		for i, part := range strings.Split(r.Rule.String(), ", ") {
			say(map[bool]string{true: "rule"}[i == 0], "%s", part)
		}
	}
	for _, f := range r.Faults {
		if !strings.Contains(r.Summary, f.Text) {
			say("fault", "%s", f.Text)
		}
	}
	for _, n := range r.Notes {
		say("note", "%s", n)
	}
	if res := r.Result(); res.Priority != "" {
		say("runbook", "%s, %s: %s", res.Alert, res.Priority, strings.Join(res.Runbooks, ", "))
	}
	return lines
}
