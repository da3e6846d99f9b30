package runbook

// Script returns the file name of the shell script that the page has for the
// task (section 1.2); "" for what is done by hand.
func (t Task) Script() string {
	switch t.Name {
	case "backup":
		return "backup.sh"
	case "dr-test":
		return "dr-test.sh"
	case "certs":
		return "renew-certs.sh"
	case "perf":
		return "perf-analyze.sh"
	default:
		return ""
	}
}
