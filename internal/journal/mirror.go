package journal

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	copyPrefix = "escrowctl-change-"
	copySuffix = ".json"
	copyTime   = "20060102T150405Z"
	copyHash   = 12 // digits of the entry's hash
)

// Copy is an entry's copy in the bucket, as its name tells.
type Copy struct {
	Host string // on which the entry was written
	Seq  int
	Hash string // its beginning
}

// CopyName is the name of the entry's copy. Another entry has another name, so
// that a bucket where names are never overwritten keeps both.
func (e Entry) CopyName() string {
	return fmt.Sprintf("%s%s-%s-%06d-%s%s", copyPrefix, e.At.UTC().Format(copyTime), e.host(), e.Seq, e.Hash[:min(copyHash, len(e.Hash))], copySuffix)
}

// host is that of By, with nothing in it that a name may not have.
func (e Entry) host() string {
	return HostName(e.By[strings.LastIndexByte(e.By, '@')+1:])
}

// HostName is a host as it stands in the names of copies.
func HostName(host string) string {
	if host == "" {
		return "_"
	}
	return strings.Map(func(r rune) rune {
		if r == '.' || r == '-' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return '_'
	}, host)
}

// ParseCopy takes a name apart; false if it is none of a copy.
func ParseCopy(name string) (Copy, bool) {
	rest, ok := strings.CutPrefix(name, copyPrefix)
	rest, json := strings.CutSuffix(rest, copySuffix)
	hash := strings.LastIndexByte(rest, '-')
	if !ok || !json || hash < 0 {
		return Copy{}, false
	}
	seq := strings.LastIndexByte(rest[:hash], '-')
	if seq <= len(copyTime) {
		return Copy{}, false
	}
	n, err := strconv.Atoi(rest[seq+1 : hash])
	c := Copy{Host: rest[len(copyTime)+1 : seq], Seq: n, Hash: rest[hash+1:]}
	return c, err == nil && len(c.Hash) == copyHash
}

// Compare holds the journal against its copies in the bucket, which others may
// share: those of this host, and of the hosts in the journal, count. It finds
// what Verify cannot: a journal that was replaced together with its head.
func Compare(entries []Entry, copies []Copy, host string) []Finding {
	hosts, here, there := map[string]bool{HostName(host): true}, map[Copy]bool{}, map[Copy]bool{}
	for _, e := range entries {
		hosts[e.host()] = true
		here[Copy{e.host(), e.Seq, e.Hash[:min(copyHash, len(e.Hash))]}] = true
	}
	var gone, uncopied []int
	for _, c := range copies {
		there[c] = true
		if hosts[c.Host] && !here[c] {
			gone = append(gone, c.Seq)
		}
	}
	for c := range here {
		if !there[c] {
			uncopied = append(uncopied, c.Seq)
		}
	}
	var out []Finding
	if len(gone) > 0 {
		out = append(out, Finding{What: "the bucket has other entries, or entries that are gone, as " + ranges(gone) + ": the journal was edited or replaced"})
	}
	if len(uncopied) > 0 {
		out = append(out, Finding{What: "the bucket has no copy of " + ranges(uncopied), Minor: true})
	}
	return out
}

// ranges writes numbers as 1 to 3, 7.
func ranges(n []int) string {
	slices.Sort(n)
	n = slices.Compact(n)
	var out []string
	for i := 0; i < len(n); {
		j := i
		for j+1 < len(n) && n[j+1] == n[j]+1 {
			j++
		}
		text := strconv.Itoa(n[i])
		if j > i {
			text += " to " + strconv.Itoa(n[j])
		}
		out = append(out, text)
		i = j + 1
	}
	return "number " + strings.Join(out, ", ")
}
