package secret

import (
	"cmp"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// minScrubbed is the length in bytes below which a secret is left alone: to
// replace every "a" of a text would wreck the text and tell the secret.
const minScrubbed = 4

// Scrubber takes known secrets out of text made by other programs: stderr of a
// tool, a server's answer, an error of a library. It may be used by several
// goroutines. A nil Scrubber changes nothing.
type Scrubber struct{ replacer *strings.Replacer }

// NewScrubber makes a Scrubber for the given secrets, in every form in which
// they are likely to be echoed: as they are, escaped for a URL, quoted for JSON
// or Go. Of a URL or a connection string the password inside is scrubbed too.
// Secrets shorter than four bytes are left out.
func NewScrubber(secrets ...string) *Scrubber {
	shown := make(map[string]string)
	for _, s := range secrets {
		for _, part := range append([]string{s}, passwords(s)...) {
			if len(part) < minScrubbed {
				continue
			}
			for _, form := range forms(part) {
				if len(form) >= minScrubbed {
					shown[form] = Fingerprint(part)
				}
			}
		}
	}
	keys := make([]string, 0, len(shown))
	for form := range shown {
		keys = append(keys, form)
	}
	// The longest first: where one secret begins another, the whole one goes.
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
	})
	pairs := make([]string, 0, 2*len(keys))
	for _, form := range keys {
		pairs = append(pairs, form, shown[form])
	}
	return &Scrubber{replacer: strings.NewReplacer(pairs...)}
}

// Scrub returns text with each secret replaced by its fingerprint.
func (s *Scrubber) Scrub(text string) string {
	if s == nil || s.replacer == nil {
		return text
	}
	return s.replacer.Replace(text)
}

// forms returns the ways in which a secret may be written.
func forms(s string) []string {
	out := []string{s, url.QueryEscape(s), url.PathEscape(s)}
	if user := url.UserPassword("u", s).String(); user != "" {
		out = append(out, strings.TrimPrefix(user, "u:"))
	}
	for _, escaped := range slices.Clone(out[1:]) {
		out = append(out, lowerEscapes(escaped))
	}
	if quoted, err := json.Marshal(s); err == nil {
		out = append(out, strings.Trim(string(quoted), `"`))
	}
	quoted := strconv.Quote(s)
	return append(out, quoted[1:len(quoted)-1])
}

// lowerEscapes turns %2F into %2f; both are in use.
func lowerEscapes(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:i+3], strings.ToLower(string(b[i+1:i+3])))
		}
	}
	return string(b)
}
