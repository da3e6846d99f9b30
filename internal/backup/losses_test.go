package backup

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestLossIsNotedFirst: once the smaller backup counts, the next one is compared
// with it. A run that is killed in between must not have kept the loss to itself.
func TestLossIsNotedFirst(t *testing.T) {
	o, c := fakeOptions(t)
	mustRun(t, o)
	c.now = c.now.Add(24 * time.Hour)
	o.Dumper = fakeDumper{rows: 100, tables: 2}
	var noted []string
	o.Hold = func(name string, losses []string) error {
		noted = losses
		for _, file := range names(t, o.Local) {
			if strings.HasPrefix(file, name) {
				t.Errorf("%s is there before its loss is noted", file)
			}
		}
		return errors.New("no room for a note")
	}
	res := mustRun(t, o)
	if len(noted) != 1 || !slices.Equal(noted, res.Losses) || !slices.Contains(res.Warnings, "no room for a note") {
		t.Errorf("noted %q, losses %q, warnings %q", noted, res.Losses, res.Warnings)
	}
}

// TestNewTableHidesNoLoss: as many tables as before, and one of those is gone.
func TestNewTableHidesNoLoss(t *testing.T) {
	o, c := fakeOptions(t)
	mustRun(t, o)
	c.now = c.now.Add(24 * time.Hour)
	o.Dumper = textDumper(strings.ReplaceAll(fakeDumper{rows: 100, tables: 3}.text(), "public.t2", "public.other"))
	if res := mustRun(t, o); len(res.Losses) != 1 || !strings.Contains(res.Losses[0], "missing: public.t2") {
		t.Errorf("losses %q", res.Losses)
	}
}
