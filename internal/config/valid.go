package config

import (
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"filippo.io/age"

	"github.com/stellarescrow/escrowctl/internal/secret"
)

func anyText(string) *problem { return nil }

// oneOf accepts the given words.
func oneOf(words ...string) func(string) *problem {
	return func(s string) *problem {
		if slices.Contains(words, s) {
			return nil
		}
		if near := nearest(s, words); near != "" {
			return faulty("not one of "+strings.Join(words, ", "), "did you mean %s?", near)
		}
		return faulty("not one of "+strings.Join(words, ", "), "write one of them")
	}
}

// matching accepts what the pattern matches as a whole.
func matching(pattern, what, remedy string) func(string) *problem {
	return func(s string) *problem {
		if ok, err := regexp.MatchString("^(?:"+pattern+`)\z`, s); err != nil || !ok {
			return faulty(what, "%s", remedy)
		}
		return nil
	}
}

func serviceName(s string) *problem {
	return matching(`[a-zA-Z0-9._-]{1,255}`, "not the name of a compose service", "write it as under services: in the compose file, for example postgres")(s)
}

// relationName is the name of a table, with its schema or not, or of a column.
// By hand: to compile a pattern with all letters would take every command
// milliseconds.
func relationName(s string) *problem {
	const most = 63
	parts := strings.Split(s, ".")
	for _, part := range parts {
		first, _ := utf8.DecodeRuneInString(part)
		odd := strings.ContainsFunc(part, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) && r != '_' && r != '$' })
		if odd || !unicode.IsLetter(first) && first != '_' || utf8.RuneCountInString(part) > most || len(parts) > 2 {
			return faulty("not the name of a table or column", "write it as psql shows it, for example events or public.events")
		}
	}
	return nil
}

func imageName(s string) *problem {
	return matching(`([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@sha256:[0-9a-f]{64})?`, "not the name of an image", "write for example postgres:15-alpine")(s)
}

func tableName(s string) *problem {
	return matching(`("[^"]+"|[A-Za-z_][A-Za-z0-9_$]*)(\.("[^"]+"|[A-Za-z_][A-Za-z0-9_$]*))?`, "not the name of a table", "write table or schema.table")(s)
}

func columnName(s string) *problem {
	return matching(`(("[^"]+"|[A-Za-z_][A-Za-z0-9_$]*)\.){1,2}[A-Za-z_][A-Za-z0-9_$]*`, "not the name of a column", "write table.column, for example trades.created_at")(s)
}

func projectName(s string) *problem {
	return matching(`[a-z0-9][a-z0-9_-]{0,254}`, "not the name of a compose project",
		"write it as docker compose ls shows it: lower-case letters, digits, - and _")(s)
}

func region(s string) *problem {
	return matching(`[A-Za-z0-9][A-Za-z0-9-]{0,62}`, "not the name of a region", "write for example eu-central-1")(s)
}

func storageClass(s string) *problem {
	return matching(`[A-Z][A-Z0-9_]{0,62}`, "not a storage class", `write for example STANDARD_IA, or "" for the bucket's default`)(s)
}

func hostName(s string) *problem {
	const label = `[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?`
	return matching(label+`(\.`+label+`)*`, "not a host name", "write for example stellarescrow.app, without https:// and port")(s)
}

// hostAndPort accepts a host name or address, with or without a port.
func hostAndPort(s string) *problem {
	const remedy = "write HOST, HOST:PORT or [IPv6]:PORT, for example grafana.stellarescrow.app:443"
	name, port := s, "443"
	if h, p, err := net.SplitHostPort(s); err == nil {
		name, port = h, p
	}
	if _, err := netip.ParseAddr(name); strings.Contains(s, "/") || err != nil && hostName(name) != nil {
		return faulty("neither a host name nor an address", remedy)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return faulty("not a port", remedy)
	}
	return nil
}

// backupName keeps names that are safe in a path, a bucket and a shell, short
// enough for time and suffixes, and that never begin with a dot or dash.
func backupName(s string) *problem {
	return matching(`[A-Za-z0-9_][A-Za-z0-9._-]{0,99}`, "not usable as the beginning of a file name",
		"use up to 100 letters, digits, dots, dashes and underscores, for example stellar_escrow")(s)
}

func pathText(s string) *problem {
	switch {
	case s == "":
		return faulty("an empty path", "write a path")
	case strings.ContainsFunc(s, unicode.IsControl):
		return faulty("a path with a control character", "write a plain path")
	case s == "~" || strings.HasPrefix(s, "~/"):
		return faulty("~ stands for the home directory in a shell only", "write the whole path")
	case strings.HasPrefix(s, "file://"):
		return faulty("a URI in place of a path", "write the path alone, without file://")
	}
	return nil
}

// bucketURI accepts s3://bucket[/prefix] and file:///directory.
func bucketURI(s string) *problem {
	const bucketPattern = `[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]`
	bare := matching(bucketPattern+`(/[^\s?#@:]*)?`, "", "")
	if !strings.Contains(s, "://") {
		if bare(s) == nil {
			return faulty("not a bucket URI", "write s3://%s", s)
		}
		if filepath.IsAbs(s) && !strings.ContainsAny(s, "@:?#") && !strings.ContainsFunc(s, unicode.IsControl) {
			return faulty("not a bucket URI", "write file://%s", s)
		}
		return faulty("not a bucket URI", "write s3://bucket, s3://bucket/prefix or file:///directory")
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return faulty("not a bucket URI", "write s3://bucket, s3://bucket/prefix or file:///directory")
	case u.User != nil:
		return faulty("a bucket URI with credentials in it", "leave them out: they come from AWS_ACCESS_KEY_ID, a profile or an IAM role")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return faulty("a bucket URI with ? or #", "write s3://bucket, s3://bucket/prefix or file:///directory")
	}
	switch u.Scheme {
	case "s3":
		return s3URI(u, bucketPattern)
	case "file":
		if u.Host != "" || !filepath.IsAbs(u.Path) {
			return faulty("not an absolute directory", "write three slashes: file:///directory")
		}
		return nil
	case "http", "https":
		return faulty("a web address in place of a bucket", "write s3://bucket here, and the address of the store as s3.endpoint")
	default:
		return faulty("neither s3:// nor file://", "write s3://bucket, s3://bucket/prefix or file:///directory")
	}
}

func s3URI(u *url.URL, bucketPattern string) *problem {
	if matching(bucketPattern, "", "")(u.Host) != nil || strings.Contains(u.Host, "..") {
		return faulty("not the name of a bucket", "use 3 to 63 lower-case letters, digits, dots and dashes")
	}
	prefix := strings.TrimPrefix(u.Path, "/")
	if strings.ContainsFunc(prefix, unicode.IsControl) || strings.Contains(prefix, "//") || strings.HasPrefix(prefix, "/") {
		return faulty("not usable as a prefix", "use single slashes and no control characters")
	}
	for part := range strings.SplitSeq(prefix, "/") {
		if part == "." || part == ".." {
			return faulty("a prefix with . or ..", "write the prefix that is meant")
		}
	}
	return nil
}

// httpURL accepts http and https without a password, because it is shown.
func httpURL(s string) *problem {
	if p := secretHTTPURL(s); p != nil {
		return p
	}
	if u, err := url.Parse(s); err != nil || u.User != nil {
		return faulty("a URL with credentials in it", "leave them out: this setting is shown in messages")
	}
	return nil
}

// orOff accepts the word off besides what valid does.
func orOff(valid func(string) *problem) func(string) *problem {
	return func(s string) *problem {
		if s == Off {
			return nil
		}
		p := valid(s)
		if p != nil {
			p.remedy += ", or off"
		}
		return p
	}
}

// checkID accepts what may be the ID of a check; which there are, the shift
// check knows.
func checkID(s string) *problem {
	return matching(`[a-z][a-z0-9-]*`, "not the ID of a check", "write it as 'escrowctl shift-check' prints it, for example grafana")(s)
}

func secretHTTPURL(s string) *problem {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return faulty("not a web address", "write http://host[:port] or https://host[:port]")
	}
	return nil
}

// showHost shows only the host of a URL whose path is the secret.
func showHost(s string) string {
	if u, err := url.Parse(s); err == nil && u.Hostname() != "" && secretHTTPURL(s) == nil && secret.RedactURL(s) != secret.Unparsable {
		return u.Scheme + "://" + u.Host + " (" + secret.Fingerprint(s) + ")"
	}
	return secret.Fingerprint(s)
}

// databaseURL accepts both of libpq's forms.
func databaseURL(s string) *problem {
	const remedy = "write postgres://user:password@host:5432/database, with special characters of the password percent-encoded"
	if !strings.Contains(s, "://") {
		if secret.RedactURL(s) == secret.Unparsable {
			return faulty("not a connection string", remedy)
		}
		return nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return faulty("not a URL", remedy)
	case strings.HasPrefix(u.Scheme, "jdbc") || u.Scheme == "postgresql+asyncpg" || u.Scheme == "postgresql+psycopg2":
		return faulty("a URL for another library", remedy)
	case u.Scheme != "postgres" && u.Scheme != "postgresql":
		return faulty("not the URL of a PostgreSQL database", remedy)
	case secret.RedactURL(s) == secret.Unparsable:
		return faulty("a URL with an unescaped /, ? or # in its password", remedy)
	case strings.Trim(u.Path, "/") == "" && u.Query().Get("dbname") == "":
		return faulty("a URL without a database", remedy)
	}
	return nil
}

func redisURL(s string) *problem {
	const remedy = "write redis://[:password@]host:6379, rediss:// for TLS, with special characters of the password percent-encoded"
	u, err := url.Parse(s)
	if err != nil || !slices.Contains([]string{"redis", "rediss", "unix"}, u.Scheme) || secret.RedactURL(s) == secret.Unparsable {
		return faulty("not the URL of a Redis server", remedy)
	}
	if u.Scheme != "unix" && u.Hostname() == "" {
		return faulty("a URL without a host", remedy)
	}
	return nil
}

func dockerHost(s string) *problem {
	const remedy = "write unix:///var/run/docker.sock or tcp://host:port"
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return faulty("not the address of a Docker engine", remedy)
	case u.Scheme == "ssh" && !hasPassword(u):
		return nil // docker's own DOCKER_HOST may be that; it matters only to those who need Docker
	case u.User != nil:
		return faulty("an address with credentials in it", remedy)
	case u.Scheme == "unix" && u.Host == "" && filepath.IsAbs(u.Path):
		return nil
	case slices.Contains([]string{"tcp", "http", "https"}, u.Scheme) && u.Hostname() != "" && strings.Trim(u.Path, "/")+u.RawQuery+u.Fragment == "":
		return nil
	}
	return faulty("not the address of a Docker engine", remedy)
}

func hasPassword(u *url.URL) bool {
	_, has := u.User.Password()
	return has
}

// recipient accepts the public keys that age itself reads.
func recipient(s string) *problem {
	const remedy = "write the public key that age-keygen prints: age1..."
	if strings.HasPrefix(strings.ToUpper(s), "AGE-SECRET-KEY-") {
		return faulty("a secret key in place of a public one", "write its public key (age-keygen -y), and treat the secret key as leaked if others can read this")
	}
	// ParseRecipients reads lines, and takes those with # for comments.
	if strings.ContainsAny(s, "#\r\n") {
		return faulty("not an age recipient", remedy)
	}
	if _, err := age.ParseRecipients(strings.NewReader(s)); err != nil {
		return faulty("not an age recipient", remedy)
	}
	return nil
}

func urlPath(s string) *problem {
	return matching(`/[!-~]*`, "not the path of a URL", "begin it with /, for example /api/trades")(s)
}

func keyHeader(s string) *problem {
	return matching(`[A-Za-z0-9-]+: [ -~]*\{key\}[ -~]*`, "not a header with {key} in it", "write for example X-API-Key: {key}, or Authorization: Bearer {key}")(s)
}
