package config

import (
	"slices"
	"strings"
)

// nearest returns the candidate that word was probably meant to be, or "". Case,
// dashes and underscores do not count, nor does the end of a longer word.
func nearest(word string, candidates []string) string {
	word = folded(word)
	if word == "" {
		return ""
	}
	best, bestDistance := "", max(1, min(3, len(word)/3))+1
	for _, c := range candidates {
		if d := distance(word, folded(c), bestDistance); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	if best != "" || len(word) < 2 {
		return best
	}
	i := slices.IndexFunc(candidates, func(c string) bool { return strings.HasPrefix(folded(c), word) })
	if i < 0 {
		return ""
	}
	return candidates[i]
}

// nearestKey returns the setting or section that an unknown name probably means.
func nearestKey(name string, keys []*key) string {
	var names []string
	for _, k := range keys {
		names = append(names, k.name)
	}
	names = append(names, sections(keys)...)
	if near := nearest(name, names); near != "" {
		return near
	}
	// The right name in the wrong section.
	last := folded(name[strings.LastIndexByte(name, '.')+1:])
	for _, k := range keys {
		if last != "" && folded(k.name[strings.LastIndexByte(k.name, '.')+1:]) == last {
			return k.name
		}
	}
	return ""
}

// sections returns the names of all sections: backup, backup.retention, ...
func sections(keys []*key) []string {
	var out []string
	for _, k := range keys {
		for i, c := range k.name {
			if c == '.' && !slices.Contains(out, k.name[:i]) {
				out = append(out, k.name[:i])
			}
		}
	}
	return out
}

func folded(s string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s))
}

// distance is the number of letters to add, drop, change or swap with their
// neighbour to make b of a. It gives up at limit, which it then returns.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return min(last[len(b)], limit)
}
