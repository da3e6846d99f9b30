package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/secret"
	"github.com/stellarescrow/escrowctl/internal/state"
)

func TestExitCode(t *testing.T) {
	failed := errors.New("pg_dump: exit status 1")
	for _, tt := range []struct {
		name string
		err  error
		want int
	}{
		{"nothing", nil, 0},
		{"any error", failed, 2},
		{"warning", &check.Error{Status: check.Warning, Err: failed}, 1},
		{"critical", &check.Error{Status: check.Critical, Err: failed}, 2},
		{"unknown", &check.Error{Status: check.Unknown, Err: failed}, 3},
		{"an error is never ok", &check.Error{Status: check.OK, Err: failed}, 1},
		{"misuse", &misuse{"no"}, 3},
		{"configuration", &config.Error{}, 3},
		{"told", &told{check.Critical}, 2},
		{"locked", &state.LockedError{Name: "backup"}, 75},
		{"locked elsewhere", &check.Error{Status: check.Critical, Err: fmt.Errorf("backup: %w", state.ErrLocked)}, 75},
		{"SIGINT", &Interrupted{syscall.SIGINT}, 130},
		{"SIGTERM", &Interrupted{syscall.SIGTERM}, 143},
		{"SIGHUP", &Interrupted{syscall.SIGHUP}, 129},
		{"a signal outweighs", errors.Join(&check.Error{Status: check.Warning, Err: failed}, &Interrupted{syscall.SIGTERM}), 143},
		{"nobody reads", &fs.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}, 141},
		{"a server hung up", &fs.PathError{Op: "write", Path: "tcp", Err: syscall.EPIPE}, 2},
		{"a cancel that no signal made", context.Canceled, 2},
		{"a time limit", context.DeadlineExceeded, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := exitCode(tt.err); got != tt.want {
				t.Errorf("exit code %d, want %d", got, tt.want)
			}
			if tt.err == nil {
				return
			}
			if got := exitCode(&scrubbed{"x", fmt.Errorf("while at it: %w", tt.err)}); got != tt.want {
				t.Errorf("wrapped: exit code %d, want %d", got, tt.want)
			}
		})
	}
}

func TestInterruptionIsNeverASuccess(t *testing.T) {
	left := errors.New("restore: trades: the target holds half of it")
	term := &Interrupted{syscall.SIGTERM}
	for _, tt := range []struct {
		name  string
		cause error
		err   error
		want  string
		code  int
	}{
		{"success", term, nil, "interrupted by SIGTERM", 143},
		{"cancel", term, context.Canceled, "interrupted by SIGTERM", 143},
		{"outcome told", term, &told{check.Warning}, "interrupted by SIGTERM", 143},
		{"what is left is said", term, left, "interrupted by SIGTERM: " + left.Error(), 143},
		{"said already", term, fmt.Errorf("run: %w", term), "run: interrupted by SIGTERM", 143},
		{"not by a signal", nil, nil, "interrupted by SIGINT", 130},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := interruption(interrupted(t, tt.cause), tt.err)
			if got == nil || got.Error() != tt.want || exitCode(got) != tt.code {
				t.Errorf("got %v, exit code %d; want %q, %d", got, exitCode(got), tt.want, tt.code)
			}
		})
	}
	if got := interruption(t.Context(), left); !errors.Is(got, left) || exitCode(got) != 2 {
		t.Errorf("without a signal: %v", got)
	}
}

func TestInterruptedCommandLine(t *testing.T) {
	inv := invoke(t)
	code := inv.Run(interrupted(t, &Interrupted{syscall.SIGTERM}), []string{"version"})
	if code != 143 || inv.errs.String() != "escrowctl: interrupted by SIGTERM\n" {
		t.Errorf("exit %d: %q", code, &inv.errs)
	}
}

type errorJSON struct {
	SchemaVersion int    `json:"schema_version"`
	Error         string `json:"error"`
	ExitCode      int    `json:"exit_code"`
	Faults        []struct {
		Key    string `json:"key"`
		Origin string `json:"origin"`
	} `json:"faults"`
}

func TestErrorsAsJSON(t *testing.T) {
	for _, args := range []string{
		"bakup --json", "version --nope --json", "version --json --nope", "version --nope -o json", "version --nope --output=json", "-ojson version --nope",
		"config show --json", "--json backup list", "backup list --json --local --s3", "help nosuch --json",
	} {
		t.Run(args, func(t *testing.T) {
			inv := invoke(t, "ESCROWCTL_CONFIG=/does/not/exist")
			code := inv.run(t, strings.Fields(args)...)
			var got errorJSON
			if err := json.Unmarshal(inv.out.Bytes(), &got); err != nil {
				t.Fatalf("stdout is not one document: %v: %q", err, &inv.out)
			}
			if code != 3 || got.ExitCode != 3 || got.SchemaVersion != 1 || got.Error == "" {
				t.Errorf("exit %d, document %+v", code, got)
			}
			if want := "escrowctl: " + got.Error; !strings.HasPrefix(inv.errs.String(), want) {
				t.Errorf("stderr %q, want %q", &inv.errs, want)
			}
		})
	}
	inv := invoke(t)
	if inv.run(t, "version", "--nope", "--", "--json"); inv.out.Len() > 0 {
		t.Errorf("JSON, though nobody asked: %q", &inv.out)
	}
}

func TestJSONIsOneDocument(t *testing.T) {
	inv := invoke(t)
	inv.flags.json = true
	if err := inv.io.JSON(struct {
		SchemaVersion int `json:"schema_version"`
	}{1}); err != nil {
		t.Fatal(err)
	}
	if code := inv.exit(errors.New("and then the bucket was gone")); code != 2 || strings.Count(inv.out.String(), "schema_version") != 1 {
		t.Errorf("exit %d, stdout %q", code, &inv.out)
	}
	if inv.errs.String() != "escrowctl: and then the bucket was gone\n" {
		t.Errorf("stderr %q", &inv.errs)
	}
}

func TestErrorsAreCleanAndScrubbed(t *testing.T) {
	const password = "hunter2-pass"
	for _, asJSON := range []bool{false, true} {
		inv := invoke(t)
		inv.flags.json = asJSON
		inv.io.Scrub = secret.NewScrubber(password).Scrub
		inv.exit(fmt.Errorf("server said \x1b[31m%s\nand more", password))
		if got, want := inv.errs.String(), "escrowctl: server said \\u001b[31m"+secret.Fingerprint(password)+" | and more\n"; got != want {
			t.Errorf("stderr %q, want %q", got, want)
		}
		if strings.Contains(inv.out.String(), password) || strings.Contains(inv.out.String(), "\x1b") {
			t.Errorf("stdout %q", &inv.out)
		}
	}
}

func TestErrorEndsTheLogOfARunWithTheTime(t *testing.T) {
	inv := invoke(t)
	inv.logged = true
	inv.exit(errors.New("pg_dump: no"))
	if got, want := inv.errs.String(), "2026-01-02T03:04:05Z escrowctl: pg_dump: no\n"; got != want {
		t.Errorf("stderr %q, want %q", got, want)
	}
	inv = invoke(t)
	inv.logged, inv.io.ErrTTY = true, true
	inv.exit(errors.New("pg_dump: no"))
	if got, want := inv.errs.String(), "escrowctl: pg_dump: no\n"; got != want {
		t.Errorf("on a terminal: stderr %q, want %q", got, want)
	}
}
