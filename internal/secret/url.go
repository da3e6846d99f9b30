package secret

import (
	"net/url"
	"strings"
)

// Unparsable is what RedactURL shows in place of a text it does not understand
// well enough to know where the secret ends.
const Unparsable = "<unparsable URL>"

// mask stands for a secret inside a shown URL; net/url uses the same one.
const mask = "xxxxx"

// RedactURL returns raw with its secrets masked: the password before the @, and
// the values of query parameters or key=value settings whose names say that
// they are secret (password, token, ...). User, host and path remain. What is
// neither a URL nor a list of settings, and what may hide a password outside of
// its place (an unescaped / or # in it), is shown as Unparsable.
func RedactURL(raw string) string {
	trimmed := strings.TrimSpace(raw)
	switch {
	case trimmed == "":
		return ""
	case strings.Contains(trimmed, "://"):
		if shown, ok := redactURL(trimmed); ok {
			return shown
		}
	case strings.Contains(trimmed, "="):
		if shown, ok := redactSettings(trimmed); ok {
			return shown
		}
	}
	return Unparsable
}

func redactURL(raw string) (string, bool) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme == "" || u.Opaque != "" {
		return "", false
	}
	// A password with an unescaped /, ? or # ends the authority early, and its
	// rest lands in the path, the query or the fragment, followed by the @.
	if strings.ContainsAny(u.Path+u.RawQuery+u.Fragment, "@") {
		return "", false
	}
	if _, has := u.User.Password(); has {
		u.User = url.UserPassword(u.User.Username(), mask)
	}
	u.RawQuery = redactQuery(u.RawQuery)
	return u.String(), true
}

// redactQuery masks in place rather than through url.Values, which would sort.
func redactQuery(query string) string {
	var out strings.Builder
	for query != "" {
		pair, sep := query, ""
		if i := strings.IndexAny(query, "&;"); i >= 0 {
			pair, sep = query[:i], query[i:i+1]
		}
		query = query[len(pair)+len(sep):]
		key, _, found := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(key); found && (err != nil || secretName(name)) {
			pair = key + "=" + mask
		}
		out.WriteString(pair)
		out.WriteString(sep)
	}
	return out.String()
}

// redactSettings handles libpq's other form: host=db user=u password='it\'s'.
func redactSettings(raw string) (string, bool) {
	settings, ok := parseSettings(raw)
	if !ok {
		return "", false
	}
	shown := make([]string, 0, len(settings))
	for _, s := range settings {
		if secretName(s.key) {
			s.raw = mask
		}
		shown = append(shown, s.key+"="+s.raw)
	}
	return strings.Join(shown, " "), true
}

// setting is one key=value of a connection string; raw is the value as it was
// written, value the same without quotes and backslashes.
type setting struct{ key, raw, value string }

// parseSettings reads libpq's key=value connection string. Blanks may stand
// around the =, values may be quoted, a backslash escapes the next byte.
func parseSettings(text string) ([]setting, bool) {
	const blanks = " \t\r\n\f\v"
	var out []setting
	for {
		text = strings.TrimLeft(text, blanks)
		if text == "" {
			return out, true
		}
		key, rest, found := strings.Cut(text, "=")
		key = strings.TrimRight(key, blanks)
		if !found || !settingName(key) {
			return nil, false
		}
		rest = strings.TrimLeft(rest, blanks)
		raw, value, ok := settingValue(rest, blanks)
		if !ok {
			return nil, false
		}
		out = append(out, setting{key: key, raw: raw, value: value})
		text = rest[len(raw):]
	}
}

// settingName says whether key can name a setting: letters and underscores, as
// all of libpq's do. Anything else is a sign of some other syntax.
func settingName(key string) bool {
	for _, c := range key {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return key != ""
}

// settingValue cuts the value off the front of text.
func settingValue(text, blanks string) (raw, value string, ok bool) {
	var plain strings.Builder
	quoted := strings.HasPrefix(text, "'")
	i := 0
	if quoted {
		i = 1
	}
	for ; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && i+1 < len(text):
			i++
			plain.WriteByte(text[i])
		case quoted && c == '\'':
			return text[:i+1], plain.String(), true
		case !quoted && strings.IndexByte(blanks, c) >= 0:
			return text[:i], plain.String(), true
		default:
			plain.WriteByte(c)
		}
	}
	return text, plain.String(), !quoted
}

// secretName tells by its name whether a parameter's value is a secret. It
// masks a file name like sslkey too: a mask too many costs nothing.
func secretName(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"pass", "pwd", "secret", "token", "key", "credential", "signature", "auth"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// passwords returns the secrets inside a URL or connection string.
func passwords(raw string) []string {
	var out []string
	if !strings.Contains(raw, "://") {
		settings, _ := parseSettings(raw)
		for _, s := range settings {
			if secretName(s.key) {
				out = append(out, s.value)
			}
		}
		return out
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil
	}
	if password, has := u.User.Password(); has {
		out = append(out, password)
	}
	for name, values := range u.Query() {
		if secretName(name) {
			out = append(out, values...)
		}
	}
	return out
}
