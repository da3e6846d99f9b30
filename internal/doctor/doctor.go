// Package doctor checks the installation of escrowctl itself: whether what it is
// configured to use is there, can be reached with these settings, and is nobody
// else's to change. How the platform behind it fares is the shift check's.
//
// Each check is a constructor of a check.Probe. What holds for all of them:
//
//   - OK is said only of what was seen to work.
//   - Every result that is not OK names the fix, in Action.
//   - What is not configured is no check and no OK: cli says that it is off.
package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
)

// Limit is the time limit of a check: longer than a shift check's, since the
// first word through a container takes its time and nobody waits for a screen.
const Limit = 15 * time.Second

// Gather makes one result of parts that can be wrong apart: the gravest says what
// is wrong, and all what is right if nothing is.
func Gather(id string, parts []check.Result, all string) check.Result {
	r := check.Result{ID: id, Status: check.WorstOf(parts), Parts: parts, Summary: all}
	broken := slices.DeleteFunc(slices.Clone(parts), func(p check.Result) bool { return p.Status == check.OK })
	if len(broken) == 0 {
		return r
	}
	// MaxFunc takes the first of equals.
	worst := slices.MaxFunc(broken, func(a, b check.Result) int { return cmp.Compare(a.Status, b.Status) })
	r.Summary, r.Action = worst.Summary, worst.Action
	if n := len(broken) - 1; n > 0 {
		r.Summary += fmt.Sprintf(" (and %d more)", n)
	}
	return r
}
