package cronhost

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	backupService = "[Service]\nExecStart=/usr/bin/escrowctl backup\nStandardOutput=append:/var/log/b.log\n"
	backupTimer   = "[Timer]\n# at night\nOnCalendar=*-*-* 02:00:00 UTC\n"
	enabled       = "etc/systemd/system/timers.target.wants/escrowctl-backup.timer"
	units         = "usr/lib/systemd/system/escrowctl-backup"
)

// timerHost is a host with systemd on which the backup's timer is enabled.
func timerHost(t *testing.T, more map[string]string) Host {
	t.Helper()
	files := map[string]string{units + ".service": backupService, units + ".timer": backupTimer, enabled: "", "run/systemd/system/.keep": ""}
	for name, text := range more {
		files[name] = text
	}
	return Host{Root: tree(t, files)}
}

func TestTimers(t *testing.T) {
	t.Parallel()
	const drop = "etc/systemd/system/escrowctl-backup.timer.d/override.conf"
	for name, tt := range map[string]struct {
		more map[string]string
		want string // spec, zone and command of each row
		err  string
	}{
		"as shipped": {nil, "0 2 * * * UTC /usr/bin/escrowctl backup >> /var/log/b.log", ""},
		"moved":      {map[string]string{drop: "[Timer]\nOnCalendar=\nOnCalendar=Sun 03:30\n"}, "30 3 * * sun host /usr/bin/escrowctl backup >> /var/log/b.log", ""},
		"added":      {map[string]string{drop: "[Timer]\nOnCalendar=*-*-01 04:00 UTC\n"}, "0 2 * * * UTC /usr/bin/escrowctl backup >> /var/log/b.log; 0 4 1 * * UTC /usr/bin/escrowctl backup >> /var/log/b.log", ""},
		"own unit":   {map[string]string{"etc/systemd/system/escrowctl-backup.service": "[Service]\nUser=ops\nExecStart=-/usr/bin/escrowctl backup \\\n --quiet\n"}, "0 2 * * * UTC /usr/bin/escrowctl backup   --quiet", ""},
		"odd time":   {map[string]string{drop: "[Timer]\nOnCalendar=\nOnCalendar=quarterly\n"}, "", "OnCalendar=quarterly is none that escrowctl reads"},
		"no hour":    {map[string]string{drop: "[Timer]\nOnCalendar=\nOnCalendar=*-*-* 25:00\n"}, "", "OnCalendar=*-*-* 25:00: "},
		"no time":    {map[string]string{drop: "[Timer]\nOnCalendar=\n"}, "", "it has no OnCalendar"},
		"no service": {map[string]string{units + ".service": "[Service]\n"}, "", "its service no ExecStart"},
		"no unit":    {map[string]string{"etc/systemd/system/timers.target.wants/escrowctl-gone.timer": ""}, "0 2 * * * UTC /usr/bin/escrowctl backup >> /var/log/b.log", "there is no unit escrowctl-gone.timer"},
	} {
		h := timerHost(t, tt.more)
		sources, err := h.Timers()
		var rows []string
		for _, s := range sources {
			for _, r := range s.Rows {
				zone := "host"
				if r.Zone != nil {
					zone = r.Zone.String()
				}
				rows = append(rows, r.Spec.String()+" "+zone+" "+r.Command)
			}
		}
		if got := strings.Join(rows, "; "); got != tt.want {
			t.Errorf("%s: rows are %q, want %q", name, got, tt.want)
		}
		if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, want %q", name, err, tt.err)
		}
	}
}

// Without systemd an enabled timer runs nothing, and one that is not enabled is
// none.
func TestTimersThatDoNotRun(t *testing.T) {
	t.Parallel()
	h := timerHost(t, nil)
	if since := h.TimerEnabled("backup"); time.Since(since) > time.Hour || !h.TimerEnabled("perf").IsZero() {
		t.Errorf("enabled since %v", since)
	}
	if err := os.RemoveAll(filepath.Join(h.Root, "run/systemd")); err != nil {
		t.Fatal(err)
	}
	if sources, err := h.Timers(); err == nil || !strings.Contains(err.Error(), "systemd does not run here") || len(sources) > 1 {
		t.Errorf("%+v, %v", sources, err)
	}
	if err := os.Remove(filepath.Join(h.Root, enabled)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Timers(); err != nil {
		t.Error(err)
	}
}
