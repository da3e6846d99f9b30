package cli

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// TestShiftCheckAllDead has every dependency dead, and then hanging: servers
// that take the connection and stay silent, Docker's socket among them. Each
// line names its cause, and the whole ends with the limit of one check, as all
// are made at once.
func TestShiftCheckAllDead(t *testing.T) {
	const limit, slack, busy = 2 * time.Second, 500 * time.Millisecond, 8 * time.Second
	silent := func() string { return testenv.Silent(t) }
	dead := func() string { return "127.0.0.1:9" }
	for _, tt := range []struct {
		name   string
		server func() string
		docker string
		says   map[string]string // besides what all say
		all    string
	}{
		{"dead", dead, "unix:///nonexistent/docker.sock", map[string]string{"containers": "no such socket", "certs": "refused", "backup": "the bucket: "}, "refused"},
		{"hanging", silent, "unix://" + testenv.SilentSocket(t), map[string]string{
			"containers": "does not answer", "database": "no answer in time", "redis": "no answer in time", "certs": "", "backup": "the bucket: ", "clock": "no other clock answered",
		}, "no answer within"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s3 := tt.server()
			for name, value := range map[string]string{
				"AWS_ENDPOINT_URL_S3": "http://" + s3, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
				"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
			} {
				t.Setenv(name, value)
			}
			env := []string{
				"AWS_ENDPOINT_URL_S3=http://" + s3, "AWS_REGION=us-east-1", "S3_BUCKET=s3://backups", "BACKUP_DIR=" + t.TempDir(),
				"DOCKER_HOST=" + tt.docker, "ESCROWCTL_COMPOSE_PROJECT=p", "DATABASE_URL=postgres://u:p@" + tt.server() + "/d", "REDIS_URL=redis://" + tt.server(),
				"API_BASE_URL=http://" + tt.server(), "ESCROWCTL_API_URL=http://" + tt.server(), "HORIZON_URL=http://" + tt.server(),
				"ESCROWCTL_GRAFANA_URL=http://" + tt.server(), "ESCROWCTL_ALERTMANAGER_URL=http://" + tt.server(), "ESCROWCTL_PROMETHEUS_URL=http://" + tt.server(),
				"CERT_DOMAIN=stellarescrow.test", "ESCROWCTL_CERTS_ADDRESS=" + tt.server(), "ESCROWCTL_SHIFT_CHECK_TIMEOUT=" + limit.String(),
			}
			// A loaded machine may hold it up; that the limits of twelve checks do
			// not add up holds on any.
			var took time.Duration
			for range 3 {
				inv := invoke(t, env...)
				inv.io.Now = time.Now
				begun := time.Now()
				inv.run(t, "shift-check", "--json")
				took = time.Since(begun)
				checkAllDead(t, inv, tt.says, tt.all)
				if took <= limit+slack {
					break
				}
			}
			t.Logf("took %s, limit %s", took, limit)
			if took > limit+busy {
				t.Errorf("took %s three times, want the largest limit, %s, and %s on an idle machine", took, limit, slack)
			}
		})
	}
}

// checkAllDead looks at every line but those that look at this host alone.
func checkAllDead(t *testing.T, inv *invocation, says map[string]string, all string) {
	t.Helper()
	var doc struct{ Checks []shiftResult }
	if err := json.Unmarshal(inv.out.Bytes(), &doc); err != nil {
		t.Fatalf("%v: %s%s", err, &inv.out, &inv.errs)
	}
	if len(doc.Checks) == 0 {
		t.Fatalf("no check at all: %s%s", &inv.out, &inv.errs)
	}
	want := map[string]string{"indexer": all, "api": all, "database": all, "redis": all, "alerts": all, "grafana": all, "clock": ""}
	maps.Copy(want, says)
	for _, r := range doc.Checks {
		cause, remote := want[r.ID]
		if !remote {
			continue
		}
		delete(want, r.ID)
		if r.Status < check.Unknown || r.Summary == "" || !strings.Contains(r.said(), cause) || r.next() == "" {
			t.Errorf("%s: %s, next %q: %s\nwant ...%s...", r.ID, r.Status, r.next(), r.said(), cause)
		}
	}
	for id := range want {
		t.Errorf("no line %s", id)
	}
}
