package cli

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

const soundConfig = `env: staging
database: {url: "postgres://indexer:hunter2-pass@db/x"}
s3:
  bucket: s3://here
`

func TestConfigShow(t *testing.T) {
	inv := invoke(t, "S3_BUCKET=s3://there", "BACKUP_ALERT_WEBHOOK=https://hooks.example.com/services/t0ken")
	write(t, "escrowctl.yaml", soundConfig)
	if code := inv.run(t, "config", "show"); code != 0 || inv.errs.Len() > 0 {
		t.Fatalf("exit %d: %s", code, &inv.errs)
	}
	lines := map[string]string{}
	for line := range strings.Lines(inv.out.String()) {
		fields := strings.Fields(line)
		lines[fields[0]] = strings.Join(fields[1:], " ")
		// Only what is too long by itself goes beyond 80 columns.
		if n := len(line) - 1; n > 80 && strings.HasSuffix(line, " default\n") {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	for key, want := range map[string]string{
		"KEY": "VALUE FROM", "env": "staging file escrowctl.yaml:1", "backup.retention.days": "30 default",
		"s3.bucket": "s3://there env S3_BUCKET", "database.url": "postgres://indexer:xxxxx@db/x file escrowctl.yaml:2",
	} {
		if lines[key] != want {
			t.Errorf("%s: %q, want %q", key, lines[key], want)
		}
	}
	if got := lines["report.webhook"]; !strings.Contains(got, "hooks.example.com") || !strings.HasSuffix(got, "env BACKUP_ALERT_WEBHOOK") {
		t.Errorf("report.webhook: %q", got)
	}
	for _, bad := range []string{"hunter2-pass", "t0ken"} {
		if strings.Contains(inv.out.String(), bad) {
			t.Errorf("shows the secret %s", bad)
		}
	}
}

func TestConfigShowJSON(t *testing.T) {
	inv := invoke(t)
	write(t, "escrowctl.yaml", soundConfig)
	if code := inv.run(t, "config", "show", "--json"); code != 0 {
		t.Fatalf("exit %d: %s", code, &inv.errs)
	}
	var got struct {
		SchemaVersion int `json:"schema_version"`
		File          string
		Values        []struct{ Key, Value, Origin string }
	}
	if err := json.Unmarshal(inv.out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, v := range got.Values {
		found[v.Key] = v.Value + " " + v.Origin
	}
	if got.SchemaVersion != 1 || !strings.HasSuffix(got.File, "escrowctl.yaml") || found["env"] != "staging file escrowctl.yaml:1" || len(found) < 40 {
		t.Errorf("got %+v", got)
	}
	if strings.Contains(inv.out.String(), "hunter2-pass") {
		t.Error("shows the password")
	}
}

const faultyConfig = `env: prod
buckup: {level: 3}
backup: {level: 12}
`

func TestConfigFaultsAreAllNamed(t *testing.T) {
	for _, args := range []string{"config check", "config show"} {
		inv := invoke(t)
		write(t, "escrowctl.yaml", faultyConfig)
		if code := inv.run(t, strings.Fields(args)...); code != 3 {
			t.Errorf("%s: exit %d", args, code)
		}
		errs := inv.errs.String()
		if !strings.HasPrefix(errs, "escrowctl: configuration: 3 faults:\n") || strings.Count(errs, "\n") != 4 {
			t.Errorf("%s: stderr\n%s", args, errs)
		}
		for _, want := range []string{"escrowctl.yaml:1", "escrowctl.yaml:2", "escrowctl.yaml:3", "did you mean backup"} {
			if !strings.Contains(errs, want) {
				t.Errorf("%s: stderr lacks %q:\n%s", args, want, errs)
			}
		}
		if shown := strings.Contains(inv.out.String(), "backup.level"); shown != (args == "config show") {
			t.Errorf("%s: stdout\n%s", args, &inv.out)
		}
	}
	inv := invoke(t)
	write(t, "escrowctl.yaml", faultyConfig)
	code := inv.run(t, "config", "check", "--json")
	var got errorJSON
	if err := json.Unmarshal(inv.out.Bytes(), &got); err != nil || code != 3 || len(got.Faults) != 3 || got.Faults[2].Key != "backup.level" || got.Faults[2].Origin != "file escrowctl.yaml:3" {
		t.Errorf("exit %d, %v, %+v", code, err, got)
	}
}

func TestConfigCheckNamesItsFile(t *testing.T) {
	inv := invoke(t)
	write(t, "other.yaml", soundConfig)
	if code := inv.run(t, "config", "check", "--config", "other.yaml"); code != 0 || inv.out.String() != "OK  configuration is sound (other.yaml)\n" {
		t.Errorf("exit %d: %q %s", code, &inv.out, &inv.errs)
	}
	inv = invoke(t)
	if code := inv.run(t, "config", "check"); code != 0 || inv.out.String() != "OK  configuration is sound (no file, only defaults and the environment)\n" {
		t.Errorf("exit %d: %q", code, &inv.out)
	}
}

func TestConfigCheckWarns(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		inv := invoke(t)
		write(t, "escrowctl.yaml", soundConfig)
		if err := os.Chmod("escrowctl.yaml", 0o644); err != nil {
			t.Fatal(err)
		}
		args, want := []string{"config", "check", "-q"}, "WARNING  configuration is usable, 1 warning (escrowctl.yaml)\n"
		if asJSON {
			args, want = append(args, "--json"), "{\n  \"schema_version\": 1,\n  \"status\": \"warning\",\n"
		}
		if code := inv.run(t, args...); code != 1 || !strings.HasPrefix(inv.out.String(), want) {
			t.Errorf("exit %d: %q", code, &inv.out)
		}
		if !strings.Contains(inv.errs.String(), "warning: escrowctl.yaml holds database.url") {
			t.Errorf("stderr %q", &inv.errs)
		}
	}
}
