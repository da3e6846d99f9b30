package storm

import (
	"github.com/stellarescrow/escrowctl/internal/storm/kit"
)

// reportFaults are those of whoever is told of a run: what was done stands, and
// that nobody heard of it is a warning.
func reportFaults() []fault {
	says := map[string]string{
		"dead": "connection refused", "hanging": "no answer within 2s", "500": "HTTP 500", "redirect to itself": "not followed", "redirect elsewhere": "not followed",
	}
	var faults []fault
	for _, illness := range []string{"dead", "hanging", "500", "redirect to itself", "redirect elsewhere", "huge answer"} {
		var server *kit.IllHTTP
		ill := func(variables ...string) func(*stage) {
			return func(s *stage) {
				server = kit.NewIllHTTP(s.t, illness)
				s.set("ESCROWCTL_REPORT_API_METRICS=on", "ESCROWCTL_REPORT_TIMEOUT=2s")
				for _, v := range variables {
					s.set(v + "=" + server.URL)
				}
			}
		}
		after := func(s *stage, _ kit.Result) {
			if server.Pointed.Load() > 0 || server.Sent.Load() > 16<<20 {
				s.t.Errorf("%d requests to where it points, %d bytes read", server.Pointed.Load(), server.Sent.Load())
			}
			if illness != "dead" && server.Requests.Load() == 0 {
				s.t.Error("it was not asked")
			}
		}
		done := []cell{on("backup", 1), on("restore", 1), on("dr-test", 1)}
		failed := []cell{on("backup", 2, "connection refused"), on("upload", 2, "connection refused"), on("verify --s3", 3, "connection refused"), on("restore", 2, "connection refused"), on("dr-test", 3, "connection refused")}
		if illness == "huge answer" { // one of 200: what it says is not read
			for i := range done {
				done[i].codes = []int{0}
			}
			faults = append(faults, fault{group: "reports", name: "both: " + illness, before: ill("API_BASE_URL", "BACKUP_ALERT_WEBHOOK"), after: after, on: done})
			continue
		}
		told := []string{"report not delivered", says[illness]}
		faults = append(faults,
			fault{group: "reports", name: "metrics: " + illness, before: ill("API_BASE_URL"), after: after, says: append(told, "/api/metrics"), on: done},
			fault{group: "reports", name: "webhook: " + illness, before: ill("BACKUP_ALERT_WEBHOOK"), after: after, says: append(told, "webhook"), on: done},
			fault{group: "reports", name: "both, and S3 refused: " + illness, says: told, after: after, on: failed,
				before: func(s *stage) { ill("API_BASE_URL", "BACKUP_ALERT_WEBHOOK")(s); s3Refused(s) }})
	}
	return faults
}
