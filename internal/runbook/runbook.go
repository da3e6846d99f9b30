// Package runbook is the platform's runbook as data: thresholds, alerts,
// secrets, schedule and change types, each with the section it comes from. Its
// figures are the defaults of the configuration and stand nowhere else.
//
// All tables are returned as fresh copies; nothing here can be changed at run
// time.
package runbook

import (
	"fmt"
	"strings"
	"time"
)

// Version is the version of the runbook that these tables were taken from.
const Version = "1.0"

// Day is 24 hours. The runbook's days are counted in UTC, which has no others.
const Day = 24 * time.Hour

// The lengths of the runbook's rotation periods: the longest quarter and year,
// so that a rotation on the same date each time is never called late.
const (
	Quarter = 92 * Day
	Year    = 366 * Day
)

// Figures of the backup, the recovery test and the certificates.
const (
	// RetentionDays is how many days local backups are kept (section 2.1,
	// RETENTION_DAYS).
	RetentionDays = 30
	// BackupMaxAge is the age from which the newest backup counts as missed: the
	// daily run of section 1.2 and grace for it to finish.
	BackupMaxAge = Day + scheduleGrace
	// DRTestMaxAge is the same for the monthly recovery test.
	DRTestMaxAge = 31*Day + scheduleGrace
	// VerifyMaxAge is how long backups may go unread: two of the weekly
	// verifications that we schedule beside the page's rows.
	VerifyMaxAge = 15 * Day
	// DRTestMinTables is the number of tables that a restored schema has at least
	// (section 2.3).
	DRTestMinTables = 3
	// SlowQueries is how many of the slowest queries an analysis lists (section 4.1).
	SlowQueries = 10
	// APIKeyBytes is the length in bytes of a new API key before it is written in
	// hexadecimal (section 3.2, step 1).
	APIKeyBytes = 32
	// RotationNotice is how long before a rotation the consumers of the API are
	// told (section 3.2, step 2).
	RotationNotice = 7 * Day
	// CertDueDays is how many days before its end a certificate is due (section
	// 3.1), and CertAlertDays where TLSCertExpiringSoon begins (section 5.2).
	CertDueDays   = 30
	CertAlertDays = 14
	// CertRenewEvery is how often renewal is attempted (section 1.2).
	CertRenewEvery = 12 * time.Hour
	// CertDueShare and CertShortLifetime correct the page's hard 30 days for
	// lifetimes that are shorter than the 90 days it was written for: due is the
	// last third of a certificate's life, and of one that lives less than 10 days
	// the last half. They are what CAs and ACME clients go by.
	CertDueShare      = 3
	CertShortLifetime = 10 * Day
	// PostIncidentReviewWithin is the time from an incident of priority P1 or P2
	// to its review (section 6.2).
	PostIncidentReviewWithin = 48 * time.Hour
)

// scheduleGrace is how much longer than its period a scheduled task may take to
// finish before it counts as missed. The runbook gives none; two hours allow
// for a slow run, and for a host whose clock changes to summer time.
const scheduleGrace = 2 * time.Hour

// ProofTables returns the tables whose rows prove a restore (section 2.3).
func ProofTables() []string { return []string{"trades", "events"} }

// Priority is the urgency of an alert or incident, P1 the most urgent.
type Priority uint8

// The priorities. P4, the next business day, belongs to no alert of the page:
// it is what others may label their own with.
const (
	P1 Priority = iota + 1
	P2
	P3
	P4
)

// String returns P1 to P4.
func (p Priority) String() string { return fmt.Sprintf("P%d", uint8(p)) }

// MarshalText returns the text of String; a value outside the four is an error.
func (p Priority) MarshalText() ([]byte, error) {
	if p < P1 || p > P4 {
		return nil, fmt.Errorf("runbook: no such priority: %d", uint8(p))
	}
	return []byte(p.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (p *Priority) UnmarshalText(text []byte) error {
	for candidate := P1; candidate <= P4; candidate++ {
		if candidate.String() == string(text) {
			*p = candidate
			return nil
		}
	}
	return fmt.Errorf("runbook: no such priority: %q: want P1, P2, P3 or P4", text)
}

// Deadline is by when to respond to what began at a time, where only its
// priority is known: after the shortest SLA that the table of alerts has for it,
// and for P4 by the end of the next business day, Monday to Friday in UTC.
func (p Priority) Deadline(began time.Time) time.Time {
	if p == P4 {
		day := began.UTC().Truncate(Day).Add(Day)
		for day.Weekday() == time.Saturday || day.Weekday() == time.Sunday {
			day = day.Add(Day)
		}
		return day.Add(Day - time.Minute)
	}
	var shortest time.Duration
	for _, a := range Alerts() {
		if a.Priority == p && (shortest == 0 || a.SLA < shortest) {
			shortest = a.SLA
		}
	}
	return began.Add(shortest)
}

// Procedure is one of the numbered runbooks that alerts refer to.
type Procedure struct {
	ID    string `json:"id"`
	Title string `json:"title"`
}

// Procedures returns the numbered runbooks.
func Procedures() []Procedure {
	return []Procedure{
		{"RB-001", "PostgreSQL failure"},
		{"RB-002", "Indexer not processing"},
		{"RB-003", "Gateway 5xx"},
		{"RB-004", "nginx/TLS"},
		{"RB-005", "Redis cache"},
		{"RB-006", "High query latency"},
		{"RB-007", "Stellar network degraded"},
		{"RB-008", "Database restore"},
		{"RB-009", "Host rebuild"},
	}
}

// Alert is a row of the table of alerts (section 5.2).
type Alert struct {
	// Name is the alert's name in Alertmanager.
	Name     string   `json:"name"`
	Title    string   `json:"title"`
	Priority Priority `json:"priority"`
	// SLA is the time to respond; it runs from the alert's startsAt.
	SLA time.Duration `json:"-"`
	// Runbooks are procedures (RB-001) or sections of the runbook (2.1).
	Runbooks []string `json:"runbooks"`
}

// The names of the alerts that checks raise too.
const (
	ServiceDown       = "ServiceDown"
	IndexerLagAlert   = "IndexerLag"
	RedisHitRateAlert = "RedisHitRate"
)

// Alerts returns the alerts of section 5.2.
func Alerts() []Alert {
	return []Alert{
		{ServiceDown, "A service is down", P1, 15 * time.Minute, []string{"RB-001", "RB-002", "RB-003", "RB-004", "RB-005"}},
		{IndexerLagAlert, "The indexer lags by more than 5 minutes", P2, time.Hour, []string{"RB-002"}},
		{"TLSCertExpiringSoon", "The TLS certificate expires in less than 14 days", P2, 4 * time.Hour, []string{"RB-004"}},
		{"DBQueryLatency", "Database queries take more than 50 ms", P3, 4 * time.Hour, []string{"RB-006"}},
		{RedisHitRateAlert, "The Redis hit rate is below 60 %", P3, 4 * time.Hour, []string{"RB-005"}},
		{"BackupFailed", "The backup failed", P2, time.Hour, []string{"2.1"}},
		{"DiskUsage", "A disk is more than 85 % full", P2, 2 * time.Hour, []string{"4.1"}},
	}
}

// AlertNamed returns the alert of that name.
func AlertNamed(name string) (Alert, bool) {
	for _, a := range Alerts() {
		if a.Name == name {
			return a, true
		}
	}
	return Alert{}, false
}

// Dashboard is a row of the table of dashboards (section 5.1).
type Dashboard struct {
	Title string `json:"title"`
	Shows string `json:"shows"`
}

// Dashboards returns the dashboards that Grafana has (section 5.1).
func Dashboards() []Dashboard {
	return []Dashboard{
		{"Infrastructure Overview", "All-up system health"},
		{"Indexer Performance", "Blockchain event processing"},
		{"API Latency", "API gateway response times"},
		{"Database Metrics", "PostgreSQL performance"},
		{"Trade Analytics", "Business metrics"},
		{"Web Vitals", "Frontend performance"},
	}
}

// Secret is a row of the table of secrets (section 3.3).
type Secret struct {
	// Name is the variable in .env, or a description where there is none.
	Name string `json:"name"`
	// Every is the longest time between two rotations; 0 is where the runbook
	// names none.
	Every     time.Duration `json:"-"`
	Frequency string        `json:"frequency"`
	Procedure string        `json:"procedure"`
}

// Secrets returns the secrets of section 3.3. The procedures are corrected where
// the page's do not work: a restart does not load a changed .env, and a changed
// POSTGRES_PASSWORD does nothing to an initialised volume.
func Secrets() []Secret {
	return []Secret{
		{"POSTGRES_PASSWORD", Year, "annually or on breach", "ALTER ROLE first, then update .env and DATABASE_URL, recreate all services that use it"},
		{"REDIS_PASSWORD", Year, "annually or on breach", "update .env, recreate redis and all services that use it"},
		{"API_KEYS", Quarter, "quarterly", "section 3.2: add the new key, recreate api, tell the consumers, remove the old key, recreate api"},
		{"ADMIN_KEYS", Quarter, "quarterly", "same as API_KEYS"},
		{"GRAFANA_ADMIN_PASSWORD", Quarter, "quarterly", "change it in Grafana (Profile, Change Password), then update .env"},
		{"S3 credentials", 0, "per IAM policy", "update the AWS credentials or the IAM role attached to the instance"},
	}
}

// Task is a row of the schedule (section 1.2). All times are UTC.
type Task struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	// Spec is the task's crontab time; empty for what is done by hand.
	Spec string `json:"spec,omitempty"`
	// Command takes the place of the script that the page names.
	Command string `json:"command"`
	Log     string `json:"log"`
	// MaxAge is the age from which the last success counts as too old: the
	// longest time between two runs and grace to finish.
	MaxAge time.Duration `json:"-"`
}

// Schedule returns the scheduled tasks of section 1.2.
func Schedule() []Task {
	return []Task{
		{"backup", "Database backup to S3", "0 2 * * *", "escrowctl backup", "/var/log/stellar-backup.log", BackupMaxAge},
		{"dr-test", "Disaster recovery test", "0 4 1 * *", "escrowctl dr-test", "/var/log/stellar-dr-test.log", DRTestMaxAge},
		{"certs", "TLS certificate renewal check", "0 0,12 * * *", "escrowctl certs renew", "/var/log/cert-renewal.log", CertRenewEvery + scheduleGrace},
		{"perf", "Performance bottleneck analysis", "0 3 * * 0", "escrowctl perf analyze", "/var/log/perf-report.log", 7*Day + scheduleGrace},
		{"rotate-keys", "API key rotation", "", "escrowctl rotate-keys", "change management log", Quarter},
	}
}

// Change is a row of the table of changes (section 6.1).
type Change struct {
	Name     string `json:"name"`
	Title    string `json:"title"`
	Approval string `json:"approval"`
	Process  string `json:"process"`
	// Approvers are the roles of Approval: each of them approves.
	Approvers []string `json:"approvers"`
	// Steps are those of Process, in their order.
	Steps []string `json:"steps"`
}

// Changes returns the types of change of section 6.1.
func Changes() []Change {
	change := func(name, title, process string, approvers ...string) Change {
		return Change{
			Name: name, Title: title, Approval: strings.Join(approvers, " and "), Process: process,
			Approvers: approvers, Steps: strings.Split(process, ", "),
		}
	}
	return []Change{
		change("config", "Config-only change (env vars)", "update .env, rolling restart, verify health checks", "on-call lead"),
		change("application", "Application update (Docker image)", "PR review, staging validation, blue/green deploy", "on-call lead", "peer review"),
		change("migration", "Database migration", "migration script review, staging test, rollback plan documented", "platform lead"),
		change("contract", "New smart contract deployment", "audit required, testnet validation, mainnet deploy with multisig", "platform lead", "CTO"),
		change("infrastructure", "Infrastructure change (docker-compose)", "review, staging deploy, production deploy with monitoring", "platform lead"),
	}
}

// ProcedureFor returns the numbered runbook of a compose service of the platform
// (section 5.2: ServiceDown has RB-001 to RB-005); ok is false for a service
// that has none of its own.
func ProcedureFor(service string) (id string, ok bool) {
	id, ok = map[string]string{"postgres": "RB-001", "indexer": "RB-002", "api": "RB-003", "nginx": "RB-004", "redis": "RB-005"}[service]
	return id, ok
}
