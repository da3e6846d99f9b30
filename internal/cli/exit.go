package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/state"
)

// misuse is a command line that makes no sense.
type misuse struct{ msg string }

func (e *misuse) Error() string { return e.msg }

// Interrupted is the cause of a context that a signal cancelled.
type Interrupted struct{ Signal syscall.Signal }

func (e *Interrupted) Error() string { return "interrupted by " + signalName(e.Signal) }

func signalName(sig syscall.Signal) string {
	switch sig {
	case syscall.SIGINT:
		return "SIGINT"
	case syscall.SIGTERM:
		return "SIGTERM"
	case syscall.SIGHUP:
		return "SIGHUP"
	default:
		return fmt.Sprintf("signal %d", int(sig))
	}
}

// SignalExit returns the exit code of a process that a signal ended, as shells
// have it: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP.
func SignalExit(sig syscall.Signal) int { return 128 + int(sig) }

// told is an outcome whose words are out already.
type told struct{ status check.Status }

func (e *told) Error() string { return e.status.String() }

// exitLocked is EX_TEMPFAIL of sysexits.h: another run is at it.
const exitLocked = 75

// exitCode maps an error to the exit code of every command.
func exitCode(err error) int {
	var (
		sig  *Interrupted
		word *told
		use  *misuse
		conf *config.Error
		stat *check.Error
	)
	switch {
	case err == nil:
		return check.OK.ExitCode()
	case errors.As(err, &sig):
		return SignalExit(sig.Signal)
	case unread(err):
		return SignalExit(syscall.SIGPIPE)
	case errors.Is(err, state.ErrLocked):
		return exitLocked
	case errors.As(err, &word):
		return max(check.Warning, word.status).ExitCode()
	case errors.As(err, &use), errors.As(err, &conf):
		return check.Unknown.ExitCode()
	case errors.As(err, &stat):
		return max(check.Warning, stat.Status).ExitCode() // an error is never OK
	}
	return check.Critical.ExitCode()
}

// interruption returns err, or if ctx was cancelled an error that says so: an
// interrupted run never ends as a success, whatever it returned. What else the
// run had to say, such as what is left, is kept.
func interruption(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	var sig *Interrupted
	if errors.As(err, &sig) {
		return err
	}
	if !errors.As(context.Cause(ctx), &sig) {
		sig = &Interrupted{syscall.SIGINT} // a caller's own cancel
	}
	var word *told
	if err == nil || err.Error() == context.Canceled.Error() || errors.As(err, &word) {
		return sig // the rest says nothing more
	}
	return fmt.Errorf("%w: %w", sig, err)
}

// unread says whether the error is that nobody reads stdout any more, as with
// "escrowctl backup list | head".
func unread(err error) bool {
	var path *fs.PathError
	return errors.Is(err, syscall.EPIPE) && errors.As(err, &path) && path.Path == os.Stdout.Name()
}

// exit tells the error, if nobody has, and returns its code.
func (a *App) exit(err error) int {
	code := exitCode(err)
	var word *told
	if err == nil || errors.As(err, &word) || unread(err) {
		return code
	}
	if a.asJSON() || asksJSON(a.args) {
		a.tellJSON(err, code)
	}
	a.tell(err)
	return code
}

// tellJSON puts the error on stdout, unless a document is there already.
func (a *App) tellJSON(err error, code int) {
	text := err.Error()
	if a.io.Scrub != nil {
		text = a.io.Scrub(text)
	}
	var faults config.Faults
	var conf *config.Error
	if errors.As(err, &conf) {
		faults = conf.Faults
	}
	_ = a.io.JSON(struct {
		SchemaVersion int           `json:"schema_version"`
		Error         string        `json:"error"`
		ExitCode      int           `json:"exit_code"`
		Faults        config.Faults `json:"faults,omitempty"`
	}{1, text, code, faults}) // stderr has it too
}

// tell puts the error on stderr: with the time where it ends the log of a run,
// on one line unless each of several is ours.
func (a *App) tell(err error) {
	if a.logged {
		a.io.Line("escrowctl: %s", err)
		return
	}
	lines := []string{err.Error()}
	var conf *config.Error
	if errors.As(err, &conf) {
		lines = strings.Split(err.Error(), "\n")
	}
	for i, line := range lines {
		lines[i] = a.io.Told(line)
	}
	_, _ = fmt.Fprintln(a.io.Err, "escrowctl: "+strings.Join(lines, "\n"))
}

// asksJSON says whether the arguments ask for JSON. It serves where they could
// not be parsed.
func asksJSON(args []string) bool {
	for i, arg := range args {
		switch arg {
		case "--":
			return false
		case "--json", "--json=true", "--output=json", "-ojson", "-o=json":
			return true
		case "-o", "--output":
			if i+1 < len(args) && args[i+1] == "json" {
				return true
			}
		}
	}
	return false
}
