package cli

import "github.com/stellarescrow/escrowctl/internal/report"

// reportingJob is a job whose runs become metrics.
type reportingJob struct {
	name string
	// command writes them, as one types it.
	command string
}

// reportingJobs are the jobs of metrics, in the order of docs/metrics.md.
func reportingJobs() []reportingJob {
	return []reportingJob{
		{backupJob, "backup"},
		{holdJob, "backup, backup ack"},
		{verifyJob, "backup verify"},
		{restoreJob, "backup restore"},
		{pruneJob, "backup prune"},
		{uploadJob, "backup upload"},
		{drTestJob, "dr-test"},
		{certJob, "certs check, certs renew"},
		{certsJob, "certs renew"},
		{certsDryRunJob, "certs renew --dry-run"},
		{certsCheckJob, "certs check"},
		{perfJob, "perf analyze"},
		{maintainJob, "perf maintain"},
		{shiftJob, "shift-check"},
		{rotateJob, "rotate-keys start, rotate-keys activate, rotate-keys retire, rotate-keys rollback"},
		{secretsJob, "rotate-keys due"},
		{incidentJob, "incident new, incident close, incident list, shift-check"},
	}
}

// metrics declares all that the jobs write beside report.EveryJob. The reporter
// refuses any other; docs/metrics.md and the rules of deploy/prometheus are held
// against them.
func metrics() []report.Metric {
	host := []string{"host"}
	return []report.Metric{
		{Job: backupJob, Name: "size_bytes", Help: "Size of the backup that the last run made; not there if it made none."},
		{Job: backupJob, Name: "sql_bytes", Help: "SQL in it before compression."},
		{Job: backupJob, Name: "rows", Help: "Rows in it."},
		{Job: backupJob, Name: "tables", Help: "Tables in it."},
		{Job: backupJob, Name: "uploaded", Help: "1 if it is in the bucket, else 0."},

		{Job: holdJob, Name: "losses", Help: "How many losses, a backup that shrank or lost tables, hold all pruning and wait for backup ack; 0 if none."},

		{Job: restoreJob, Name: "rows", Help: "Rows that the last run restored."},

		{Job: drTestJob, Name: "restore_seconds", Help: "How long the restore of the last run took; not there, as all of these, if it did not pass."},
		{Job: drTestJob, Name: "rto_seconds", Help: "How long a restore may take (dr_test.rto); not there if that is off."},
		{Job: drTestJob, Name: "rto_reached_timestamp_seconds", Help: "When restores will take as long as they may, as they grow from test to test, Unix time; not there if they do not, or after fewer than 4 tests."},
		{Job: drTestJob, Name: "rows", Help: "Rows restored."},
		{Job: drTestJob, Name: "tables", Help: "Tables with rows."},
		{Job: drTestJob, Name: "size_bytes", Help: "Size of the backup."},

		{Job: certJob, Name: "valid", Labels: host, Help: "1 if what every address of the host serves is valid, 0 if not or not known; host is HOST:PORT."},
		{Job: certJob, Name: "status", Labels: host, Help: "The verdict: 0 ok, 1 warning, 2 critical, 3 unknown."},
		{Job: certJob, Name: "renewed_not_served", Labels: host, Help: "1 if the certificate on the disk is a newer one than the one served, 0 if not; not there if certbot's files could not be read."},
		{Job: certJob, Name: "not_after_timestamp_seconds", Labels: host, Help: "When the first certificate of the chain ends, Unix time."},
		{Job: certJob, Name: "not_before_timestamp_seconds", Labels: host, Help: "When the certificate's life began, Unix time."},
		{Job: certJob, Name: "renewal_due_timestamp_seconds", Labels: host, Help: "When renewal is due, Unix time."},
		{Job: certJob, Name: "alert_timestamp_seconds", Labels: host, Help: "When TLSCertExpiringSoon begins, Unix time: 14 days before the end, later for short lifetimes."},

		{Job: perfJob, Name: "findings", Labels: []string{"status"}, Help: "Findings of the last analysis, by status: warning, unknown, critical."},
		{Job: perfJob, Name: "slowest_query_mean_seconds", Help: "Mean time of the slowest statement since the analysis before."},
		{Job: perfJob, Name: "regressed_queries", Help: "Statements that became slower since the analysis before."},
		{Job: perfJob, Name: "database_size_bytes", Help: "Size of the database on disk."},
		{Job: perfJob, Name: "cache_hit_ratio", Help: "Blocks found in shared_buffers, of all asked for, since the analysis before."},
		{Job: perfJob, Name: "connections_ratio", Help: "Connections taken, of max_connections."},
		{Job: perfJob, Name: "table_bloat_bytes", Help: "Estimated bloat of the largest tables together."},
		{Job: perfJob, Name: "redis_hit_ratio", Help: "Hit rate of Redis since the analysis before."},

		{Job: maintainJob, Name: "tasks", Help: "Tables and indexes of the last maintenance."},
		{Job: maintainJob, Name: "dead_rows_removed", Help: "Dead rows that it removed."},

		{Job: shiftJob, Name: "status", Labels: []string{"check"}, Help: "Of each check: 0 ok, 1 warning, 2 unknown, 3 critical."},
		{Job: shiftJob, Name: "counts_as", Labels: []string{"check"}, Help: "The same without what was acknowledged."},

		{Job: secretsJob, Name: "due_timestamp_seconds", Labels: []string{"secret"}, Help: "When the secret is due for rotation, Unix time; not there if no rotation is known."},
		{Job: secretsJob, Name: "rotation_known", Labels: []string{"secret"}, Help: "1 if the last rotation of the secret is known, 0 if not; of those that have a frequency."},

		{Job: incidentJob, Name: "review_due_timestamp_seconds", Labels: []string{"id", "priority"}, Help: "When an open post-incident review is due, Unix time; not there where the runbook wants none."},
		{Job: incidentJob, Name: "reviews_open", Help: "Reviews that are not closed."},
		{Job: incidentJob, Name: "reviews_overdue", Help: "Of these, those past their time."},
		{Job: incidentJob, Name: "reviews_unreadable", Help: "Reviews with something left to do whose document cannot be read."},
		{Job: incidentJob, Name: "actions_open", Help: "Corrective actions of all reviews that are not done."},
		{Job: incidentJob, Name: "actions_overdue", Help: "Of these, those past their day."},
	}
}
