package backup

import "time"

// Verification is the last check of a copy's contents.
type Verification struct {
	At      time.Time `json:"at"`
	By      string    `json:"by"`    // the command: verify, restore, dr-test
	Where   string    `json:"where"` // the store that was read
	Verdict Verdict   `json:"verdict"`
}

// Verifications are the last checks of copies, by where each copy lies: what is
// damaged in one place, or on the way from it, may be sound in another.
type Verifications map[string]Verification

// Record keeps a check of the backup called name.
func (v Verifications) Record(name string, x Verification) { v[copyKey(x.Where, name)] = x }

// Forget drops the oldest until at most n are left.
func (v Verifications) Forget(n int) {
	for len(v) > n {
		oldest := ""
		for key, x := range v {
			if oldest == "" || x.At.Before(v[oldest].At) {
				oldest = key
			}
		}
		delete(v, oldest)
	}
}

// Mark tells the copies in one store of their last check.
func (v Verifications) Mark(where string, copies []Copy) {
	for i := range copies {
		if x, ok := v[copyKey(where, copies[i].Name)]; ok {
			copies[i].Verified = &x
		}
	}
}

func copyKey(where, name string) string { return where + "/" + name }
