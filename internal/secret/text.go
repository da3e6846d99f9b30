package secret

import "regexp"

var (
	textURL = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>|]+`)
	// A name that says that its value is a secret, and the value: as in a line of
	// .env, of JSON, of a header.
	textSetting = regexp.MustCompile(`(?i)([a-z0-9_.-]*(?:passw(?:or)?d|passphrase|pwd|secret|token|api[_-]?keys?|admin[_-]?keys?|credentials?|access[_-]?key[a-z_-]*)["']?\s*[:=]\s*["']?)([^\s"',;&|}\]]+)`)
	textBearer  = regexp.MustCompile(`(?i)\b((?:bearer|basic)\s+)([A-Za-z0-9._~+/=-]{8,})`)
)

// RedactText masks what looks like a secret in a text of others': passwords in
// URLs, values whose names say that they are secret, credentials of HTTP. It is
// for what no Scrubber knows. A mask too many costs nothing.
func RedactText(text string) string {
	text = textURL.ReplaceAllStringFunc(text, func(raw string) string {
		if shown := RedactURL(raw); shown != raw {
			return shown
		}
		return raw
	})
	text = textBearer.ReplaceAllString(text, "${1}"+mask)
	return textSetting.ReplaceAllString(text, "${1}"+mask)
}
