package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAssertions(t *testing.T) {
	const file = "dr_test:\n  assertions:\n    - {name: a, query: 'SELECT 1', expect: 1}\n    - name: b\n      query: SELECT count(*) FROM t, u\n      expect: \"> 0\"\n"
	want := []Assertion{{"a", "SELECT 1", "1"}, {"b", "SELECT count(*) FROM t, u", "> 0"}}
	fromFile, err := load(t, file, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, fromFile.DRTest.Assertions); d != "" {
		t.Error(d)
	}
	fromEnv, err := load(t, "", Options{Environ: []string{`ESCROWCTL_DR_TEST_ASSERTIONS=[{"name":"a","query":"SELECT 1","expect":"1"},{"name":"b","query":"SELECT count(*) FROM t, u","expect":"> 0"}]`}})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, fromEnv.DRTest.Assertions); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{
		"[{name: a, query: SELECT 1}]", "[{name: a, query: SELECT 1, expect: 1, extra: 2}]", "[SELECT 1]", "SELECT 1", "{name: a}",
		"[{name: a, query: q, expect: 1}, {name: a, query: r, expect: 2}]",
	} {
		_, err := load(t, "dr_test:\n  assertions: "+bad+"\n", Options{})
		if err == nil || !strings.Contains(err.Error(), "dr_test.assertions") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if empty, err := load(t, "dr_test: {assertions: [], tables: []}\n", Options{}); err != nil || len(empty.DRTest.Assertions)+len(empty.DRTest.Tables) > 0 {
		t.Errorf("%v, %v, %v", empty.DRTest.Assertions, empty.DRTest.Tables, err)
	}
}
