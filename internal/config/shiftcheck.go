package config

import (
	"time"

	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/secret"
)

// Grafana is the platform's Grafana.
type Grafana struct {
	URL           string       `yaml:"url"` // off: it is not checked
	User          string       `yaml:"user"`
	AdminPassword secret.Value `yaml:"admin_password"`
}

// Alertmanager is the platform's Alertmanager.
type Alertmanager struct {
	URL      string `yaml:"url"`      // off: alerts are not checked
	Watchdog string `yaml:"watchdog"` // the alert that always fires; off: there is none
}

// Prometheus is the platform's Prometheus.
type Prometheus struct {
	URL string `yaml:"url"`
}

// ShiftCheck says what a shift check looks at.
type ShiftCheck struct {
	Skip    []string      `yaml:"skip"`    // IDs of checks that are not made
	Timeout time.Duration `yaml:"timeout"` // of each check
	Shift   time.Duration `yaml:"shift"`   // how long one is
	// Ages from which what is good is too old.
	BackupMaxAge time.Duration `yaml:"backup_max_age"`
	DRTestMaxAge time.Duration `yaml:"dr_test_max_age"`
	VerifyMaxAge time.Duration `yaml:"verify_max_age"`
	// FullWithin is from when a filesystem that fills up is a warning,
	// StartWithin how long a container may be starting, and DeliverWithin how
	// long an alert may take from Prometheus to Alertmanager.
	FullWithin    time.Duration `yaml:"full_within"`
	StartWithin   time.Duration `yaml:"start_within"`
	DeliverWithin time.Duration `yaml:"deliver_within"`
	// IgnoreServices are compose services that need not run.
	IgnoreServices []string `yaml:"ignore_services"`
}

// shiftKeys are the settings of the shift check's own.
func shiftKeys() []*key {
	return []*key{
		{name: "alertmanager.url", def: "http://localhost:9093", access: text(func(c *Config) *string { return &c.Alertmanager.URL }, orOff(httpURL))},
		{name: "alertmanager.watchdog", def: "Watchdog", access: text(func(c *Config) *string { return &c.Alertmanager.Watchdog }, matching(`[A-Za-z_][A-Za-z0-9_ -]{0,99}`, "not the name of an alert", "write it as the rule has it, for example Watchdog, or off"))},
		{name: "prometheus.url", def: "http://localhost:9090", access: text(func(c *Config) *string { return &c.Prometheus.URL }, httpURL)},
		{name: "grafana.url", def: "http://localhost:3002", access: text(func(c *Config) *string { return &c.Grafana.URL }, orOff(httpURL))},
		{name: "grafana.user", def: "admin", access: text(func(c *Config) *string { return &c.Grafana.User }, matching(`[A-Za-z0-9._-]{1,100}`, "not the name of a Grafana user", "write its login name, for example admin"))},
		{name: "grafana.admin_password", emptyOK: true, env: []string{"GRAFANA_ADMIN_PASSWORD"}, access: hidden(func(c *Config) *secret.Value { return &c.Grafana.AdminPassword }, anyText, showFingerprint)},
		{name: "shift_check.skip", emptyOK: true, access: list(func(c *Config) *[]string { return &c.ShiftCheck.Skip }, checkID)},
		{name: "shift_check.shift", def: "8h", access: duration(func(c *Config) *time.Duration { return &c.ShiftCheck.Shift }, time.Minute, 7*runbook.Day)},
		{name: "shift_check.backup_max_age", def: showDuration(runbook.BackupMaxAge), access: duration(func(c *Config) *time.Duration { return &c.ShiftCheck.BackupMaxAge }, time.Minute, runbook.Year)},
		{name: "shift_check.dr_test_max_age", def: showDuration(runbook.DRTestMaxAge), access: duration(func(c *Config) *time.Duration { return &c.ShiftCheck.DRTestMaxAge }, time.Minute, runbook.Year)},
		{name: "shift_check.verify_max_age", def: showDuration(runbook.VerifyMaxAge), access: duration(func(c *Config) *time.Duration { return &c.ShiftCheck.VerifyMaxAge }, time.Minute, runbook.Year)},
		{name: "shift_check.full_within", def: "1d", access: duration(func(c *Config) *time.Duration { return &c.ShiftCheck.FullWithin }, time.Minute, runbook.Year)},
		{name: "shift_check.start_within", def: "2m", access: duration(func(c *Config) *time.Duration { return &c.ShiftCheck.StartWithin }, time.Second, runbook.Day)},
		{name: "shift_check.deliver_within", def: "1m", access: duration(func(c *Config) *time.Duration { return &c.ShiftCheck.DeliverWithin }, time.Second, runbook.Day)},
		{name: "shift_check.ignore_services", emptyOK: true, access: list(func(c *Config) *[]string { return &c.ShiftCheck.IgnoreServices }, serviceName)},
		{name: "shift_check.timeout", def: "5s", access: duration(func(c *Config) *time.Duration { return &c.ShiftCheck.Timeout }, 100*time.Millisecond, time.Minute)},
	}
}
