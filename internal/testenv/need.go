package testenv

import (
	"os"
	"strconv"
	"testing"
)

// Need stops the test when a part of the machine it runs on is missing: it
// fails where CI=true, so that a green run proves that everything ran, and
// skips elsewhere. what names the part, how says how to get it.
func Need(t testing.TB, ok bool, what, how string) {
	t.Helper()
	if ok {
		return
	}
	if inCI() {
		t.Fatalf("testenv: %s is missing, and CI=true allows no skipping: %s", what, how)
	}
	t.Skipf("testenv: SKIPPED, %s is missing: %s", what, how)
}

// Long leaves a test of many minutes to `make storm`, which sets STORM=full; why
// says what else holds what it proves meanwhile.
func Long(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("STORM") != "full" {
		t.Skipf("testenv: SKIPPED, only with STORM=full (make storm): %s", why)
	}
}

func inCI() bool {
	on, err := strconv.ParseBool(os.Getenv("CI"))
	return err == nil && on
}
