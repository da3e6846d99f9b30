package year

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// settings are the seed and how many nights: STORM=full is a whole year,
// STORM_NIGHTS and STORM_SEED choose.
func settings(t *testing.T) (seed uint64, nights int) {
	t.Helper()
	seed, nights = fewSeed, fewNights
	if os.Getenv("STORM") == "full" {
		seed, nights = uint64(time.Now().UnixNano()), yearNights
	}
	if text := os.Getenv("STORM_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("STORM_SEED: %v", err)
		}
		seed = n
	}
	if text := os.Getenv("STORM_NIGHTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("STORM_NIGHTS: %q: a number from 1", text)
		}
		nights = n
	}
	return seed, nights
}

// progress writes how far the year has come to $STORM_REPORT/year.txt, so that a
// run that is stopped has told it.
func (y *year) progress(seed uint64, nights int) {
	y.t.Helper()
	y.tally.restores = y.w.restores
	dir := os.Getenv("STORM_REPORT")
	if dir == "" {
		return
	}
	text := fmt.Sprintf("STORM_SEED=%d, %d of %d nights, %d finds\n%s\n%s\n", seed, y.tally.nights, nights, len(y.finds), y.tally, strings.Join(y.finds, "\n"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		y.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "year.txt"), []byte(text), 0o644); err != nil {
		y.t.Fatal(err)
	}
}
