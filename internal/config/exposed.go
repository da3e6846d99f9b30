package config

import (
	"cmp"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
)

// checkModes warns of files that show secrets to every user of this host: the
// configuration, the compose project's .env and the age identity.
func (l *loader) checkModes() {
	everybody := func(path, what string, mode fs.FileMode) {
		if mode.Perm()&0o004 != 0 {
			l.warn(fmt.Sprintf("%s holds %s and is readable by every user of this host (mode %04o): chmod 600 %s", path, what, mode.Perm(), path))
		}
	}
	if held := held(l.sources[FromFile]); len(held) > 0 {
		everybody(l.loaded.File, strings.Join(held, ", "), l.sources[FromFile].mode)
	}
	if dotenv := l.sources[FromEnvFile]; len(dotenv.vars) > 0 {
		everybody(l.loaded.Compose.EnvFile, "the platform's secrets", dotenv.mode)
	}
	if file := l.loaded.Backup.IdentityFile; file != "" {
		if info, err := os.Stat(file); err == nil { // that it is missing matters to who reads it
			everybody(file, "the key to the backups", info.Mode())
		}
	}
}

// held are the keys of a source whose values are secrets.
func held(s source) (keys []string) {
	for _, set := range s.settings {
		if set.key.secret && !set.empty() && holdsSecret(set) {
			keys = append(keys, set.key.name)
		}
	}
	return keys
}

// holdsSecret says whether anything of the value is hidden when it is shown: a
// URL without a password holds none.
func holdsSecret(s setting) bool {
	return s.key.mask(s.texts) != strings.Join(s.texts, ",")
}

// checkTransport warns of secrets and data that would cross other people's
// networks in the clear, or to whoever answers. Within a host, a compose network
// or a private one that is everybody's own affair.
func (l *loader) checkTransport() {
	c := &l.loaded.Config
	plain := func(key, raw, what string) {
		u, err := url.Parse(raw)
		if err == nil && slices.Contains([]string{"http", "redis", "tcp"}, u.Scheme) && !private(u.Hostname()) {
			l.warn(fmt.Sprintf("%s (%s): %s://%s is not encrypted, and %s: use https, rediss, or a tunnel", key, l.loaded.Origin(key), u.Scheme, u.Host, what))
		}
	}
	plain("s3.endpoint", c.S3.Endpoint, "whoever is on the way reads the backups")
	plain("report.webhook", c.Report.Webhook.Reveal(), "whoever is on the way learns its URL, which is its password")
	plain("certs.webhook", c.Certs.Webhook.Reveal(), "whoever is on the way learns its URL, which is its password")
	if u, err := url.Parse(c.Report.Pushgateway.Reveal()); err == nil && hasPassword(u) {
		plain("report.pushgateway", c.Report.Pushgateway.Reveal(), "whoever is on the way reads its password")
	}
	if u, err := url.Parse(c.Redis.URL.Reveal()); err == nil && u.User != nil {
		plain("redis.url", c.Redis.URL.Reveal(), "whoever is on the way reads its password")
	}
	if !c.Grafana.AdminPassword.IsZero() {
		plain("grafana.url", c.Grafana.URL, "whoever is on the way reads grafana.admin_password")
	}
	if l.vars["DOCKER_CERT_PATH"] == "" {
		plain("compose.docker_host", c.Compose.DockerHost, "whoever is on the way is root on that host")
	}
	l.checkDatabase(c.Database.URL.Reveal())
}

// checkDatabase looks at the TLS that a database's URL asks for.
func (l *loader) checkDatabase(raw string) {
	host, mode, root := l.databaseTLS(raw)
	if raw == "" || private(host) {
		return
	}
	where := fmt.Sprintf("database.url (%s): ", l.loaded.Origin("database.url"))
	const remedy = "sslmode=verify-full and sslrootcert with the file of its authority"
	switch {
	case mode == "disable" || mode == "allow" || mode == "prefer":
		l.warn(where + "sslmode is " + mode + ", so that the data may cross the network unencrypted: use " + remedy)
	case mode == "require" && !root:
		l.warn(where + "sslmode=require encrypts, but believes whoever answers: use " + remedy)
	}
}

// databaseTLS reads of either of libpq's forms what decides about TLS.
func (l *loader) databaseTLS(raw string) (host, mode string, root bool) {
	get := func(name string) string {
		if m := regexp.MustCompile(`(?:^|\s)` + name + `\s*=\s*'?([^'\s]*)`).FindStringSubmatch(raw); m != nil {
			return m[1]
		}
		return ""
	}
	if u, err := url.Parse(raw); err == nil && strings.Contains(raw, "://") {
		get = u.Query().Get
		host = u.Hostname()
	}
	host = cmp.Or(get("host"), host, l.vars["PGHOST"])
	mode = cmp.Or(get("sslmode"), l.vars["PGSSLMODE"], "prefer")
	return host, mode, cmp.Or(get("sslrootcert"), l.vars["PGSSLROOTCERT"]) != ""
}

// private says whether a host is this one, a service of a compose project or in
// a private network, as far as its name tells.
func private(host string) bool {
	if strings.HasPrefix(host, "/") || !strings.ContainsAny(host, ".:") {
		return true // a socket; a name that no other network knows
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsUnspecified()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return slices.ContainsFunc([]string{".localhost", ".local", ".internal", ".lan", ".home.arpa"}, func(suffix string) bool { return strings.HasSuffix(host, suffix) })
}
