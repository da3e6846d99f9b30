package runbook

// Names of alerts (section 5.2) that checks refer to.
const (
	BackupFailed        = "BackupFailed"
	DiskUsageAlert      = "DiskUsage"
	TLSCertExpiringSoon = "TLSCertExpiringSoon"
)
