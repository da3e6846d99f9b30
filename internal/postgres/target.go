package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// DialFunc opens the connection to the server; see net.Dialer.DialContext.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// Target is a database as DATABASE_URL names it. It is immutable.
type Target struct {
	config *pgx.ConnConfig
	extra  map[string]string // what libpq needs beyond config, by environment variable
	dial   DialFunc
}

// extraSettings are the connection parameters that pg_dump must get as they were
// given, because pgx turns them into something else, with libpq's variable for
// each. PGOPTIONS of the environment is left out on purpose: options meant for
// psql sessions have no business in a dump.
func extraSettings() []struct{ key, env string } {
	return []struct{ key, env string }{
		{"sslmode", "PGSSLMODE"},
		{"sslrootcert", "PGSSLROOTCERT"},
		{"sslcert", "PGSSLCERT"},
		{"sslkey", "PGSSLKEY"},
		{"sslcrl", "PGSSLCRL"},
		{"sslsni", "PGSSLSNI"},
		{"sslnegotiation", "PGSSLNEGOTIATION"},
		{"sslcertmode", "PGSSLCERTMODE"},
		{"ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"},
		{"channel_binding", "PGCHANNELBINDING"},
		{"require_auth", "PGREQUIREAUTH"},
		{"gssencmode", "PGGSSENCMODE"},
		{"krbsrvname", "PGKRBSRVNAME"},
		{"target_session_attrs", "PGTARGETSESSIONATTRS"},
		{"connect_timeout", "PGCONNECT_TIMEOUT"},
	}
}

// Parse reads a connection URL or a keyword/value string as libpq does, with
// the PG* variables and the password file filling in what it leaves out. Its
// errors say what is wrong without quoting any of it, since in a malformed URL
// any part may be the password.
func Parse(database string) (*Target, error) {
	if strings.TrimSpace(database) == "" && os.Getenv("PGHOST") == "" && os.Getenv("PGSERVICE") == "" {
		return nil, errors.New("postgres: no database URL: set DATABASE_URL (postgres://user:password@host:5432/database)")
	}
	given, err := settings(database)
	if err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(database)
	if err != nil {
		return nil, fmt.Errorf("postgres: database URL: %s", diagnose(err))
	}
	if _, ok := given["options"]; !ok {
		delete(config.RuntimeParams, "options") // PGOPTIONS
	}
	t := &Target{config: config, extra: map[string]string{}}
	for _, s := range extraSettings() {
		if v, ok := given[s.key]; ok {
			t.extra[s.env] = v
		} else if v, ok := os.LookupEnv(s.env); ok {
			t.extra[s.env] = v
		}
	}
	if v := config.RuntimeParams["options"]; v != "" {
		t.extra["PGOPTIONS"] = v
	}
	if t.extra["PGSSLMODE"] == "" { // a service file's, or the default
		t.extra["PGSSLMODE"] = sslMode(&config.Config)
	}
	return t, nil
}

// diagnose turns pgx's error into one without a byte of the URL in it.
func diagnose(err error) string {
	text := err.Error()
	if parse := (*pgconn.ParseConfigError)(nil); errors.As(err, &parse) {
		// Its own text quotes the string, redacted as well as can be.
		_, text, _ = strings.Cut(text, "`: ")
	}
	known := []struct{ part, says string }{
		{"invalid port", "the port is not a number from 1 to 65535: if the password has one of : / ? # @ in it, write it percent-encoded (/ is %2F)"},
		{"match", "hosts and ports differ in number"},
		{"failed to configure TLS", "its TLS settings are wrong: check sslmode (disable, allow, prefer, require, verify-ca, verify-full) and that the files of sslrootcert, sslcert and sslkey can be read"},
		{"sslmode", "sslmode is not one of disable, allow, prefer, require, verify-ca, verify-full"},
		{"failed to read service", "the service is not in the service file, or the file cannot be read"},
		{"connect_timeout", "connect_timeout is not a number of seconds"},
		{"target_session_attrs", "target_session_attrs is not one of any, read-write, read-only, primary, standby, prefer-standby"},
		{"keyword/value", "it is neither a URL (postgres://user:password@host:5432/database) nor keyword=value pairs"},
		{"parse as URL", "it is no valid URL: % and spaces, and : / ? # @ in the password, must be percent-encoded (/ is %2F)"},
	}
	for _, k := range known {
		if strings.Contains(text, k.part) {
			return k.says
		}
	}
	return "it cannot be understood: the form is postgres://user:password@host:5432/database"
}

// sslMode is the mode that gave the parsed configuration.
func sslMode(c *pgconn.Config) string {
	plainNext := slices.ContainsFunc(c.Fallbacks, func(f *pgconn.FallbackConfig) bool { return f.TLSConfig == nil })
	tlsNext := slices.ContainsFunc(c.Fallbacks, func(f *pgconn.FallbackConfig) bool { return f.TLSConfig != nil })
	switch tls := c.TLSConfig; {
	case tls == nil && tlsNext:
		return "allow"
	case tls == nil:
		return "disable"
	case plainNext:
		return "prefer"
	case !tls.InsecureSkipVerify:
		return "verify-full"
	case tls.VerifyPeerCertificate != nil || tls.VerifyConnection != nil:
		return "verify-ca"
	default:
		return "require"
	}
}

// Database is the database's name.
func (t *Target) Database() string { return t.config.Database }

// User is the role.
func (t *Target) User() string { return t.config.User }

// Address is the network and address of the first host, as net.Dial takes them.
func (t *Target) Address() (network, addr string) {
	return pgconn.NetworkAddress(t.config.Host, t.config.Port)
}

// Display names the database without secrets: host:5432/db.
func (t *Target) Display() string {
	hosts, ports := t.hosts()
	names := make([]string, len(hosts))
	for i := range hosts {
		names[i] = net.JoinHostPort(hosts[i], ports[i])
	}
	return strings.Join(names, ",") + "/" + t.config.Database
}

// With is the same server and role with another database.
func (t *Target) With(database string) *Target {
	c := t.copy()
	c.config.Database = database
	return c
}

// WithDial is the same target reached through dial, which then also resolves
// its host name.
func (t *Target) WithDial(dial DialFunc) *Target {
	c := t.copy()
	c.dial = dial
	return c
}

func (t *Target) copy() *Target {
	return &Target{config: t.config.Copy(), extra: t.extra, dial: t.dial}
}

// hosts are the hosts and ports in the order in which they are tried.
func (t *Target) hosts() (hosts, ports []string) {
	add := func(host string, port uint16) {
		p := strconv.Itoa(int(port))
		for i := range hosts {
			if hosts[i] == host && ports[i] == p {
				return // the same again, with or without TLS
			}
		}
		hosts, ports = append(hosts, host), append(ports, p)
	}
	add(t.config.Host, t.config.Port)
	for _, f := range t.config.Fallbacks {
		add(f.Host, f.Port)
	}
	return hosts, ports
}

// Env is the environment by which pg_dump and its kin reach the target, sorted:
// PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE and so on. It holds
// the password. The process must not get other PG* variables: see CleanEnv.
func (t *Target) Env() []string {
	hosts, ports := t.hosts()
	env := []string{
		"PGHOST=" + strings.Join(hosts, ","),
		"PGPORT=" + strings.Join(ports, ","),
		"PGUSER=" + t.config.User,
		"PGDATABASE=" + t.config.Database,
		"PGAPPNAME=escrowctl",
	}
	if t.config.Password != "" {
		env = append(env, "PGPASSWORD="+t.config.Password)
	}
	for name, value := range t.extra {
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	return env
}

// envInside is Env for a program inside the container, where the server is at
// host. Over the container's own loopback or socket nothing needs encryption;
// elsewhere the mode stays, and without its files libpq refuses rather than
// trusts.
func (t *Target) envInside(host string) []string {
	port := strconv.Itoa(int(t.config.Port))
	own := host == "127.0.0.1" || host == "localhost" || host == "::1" || strings.HasPrefix(host, "/")
	var env []string
	for _, e := range t.Env() {
		name, _, _ := strings.Cut(e, "=")
		switch {
		case name == "PGHOST":
			e = "PGHOST=" + host
		case name == "PGPORT":
			e = "PGPORT=" + port
		case name == "PGSSLMODE" && own:
			e = "PGSSLMODE=prefer"
		case name == "PGSSLROOTCERT", name == "PGSSLCERT", name == "PGSSLKEY", name == "PGSSLCRL":
			continue // files of the host, which the container does not have
		}
		env = append(env, e)
	}
	return env
}

// CleanEnv is environ without the PG* variables, which would change what a
// PostgreSQL program does, and without DATABASE_URL.
func CleanEnv(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(e string) bool {
		return strings.HasPrefix(e, "PG") || strings.HasPrefix(e, "DATABASE_URL=")
	})
}

// settings are the parameters that the string itself gives, by libpq's keyword.
func settings(database string) (map[string]string, error) {
	given := map[string]string{}
	if strings.HasPrefix(database, "postgres://") || strings.HasPrefix(database, "postgresql://") {
		u, err := url.Parse(database)
		if err != nil {
			// libpq's form with several hosts is no URL to net/url; its
			// parameters are nevertheless after the question mark.
			_, query, _ := strings.Cut(database, "?")
			u = &url.URL{RawQuery: query}
		}
		for key, values := range u.Query() {
			given[key] = values[len(values)-1]
		}
		return given, nil
	}
	if err := keywordValues(database, given); err != nil {
		return nil, err
	}
	return given, nil
}

// keywordValues reads libpq's keyword = value form: values may stand in single
// quotes, and a backslash takes the next character as it is.
func keywordValues(s string, into map[string]string) error {
	bad := errors.New("postgres: database URL: it is neither a URL (postgres://user:password@host:5432/database) nor keyword=value pairs")
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		key, rest, ok := strings.Cut(s, "=")
		if key = strings.TrimSpace(key); !ok || key == "" || strings.ContainsAny(key, " \t\n'\\") {
			return bad
		}
		rest = strings.TrimLeft(rest, " \t\n")
		value, after, ok := keywordValue(rest)
		if !ok {
			return bad
		}
		into[key], s = value, after
	}
	return nil
}

func keywordValue(s string) (value, rest string, ok bool) {
	quoted := strings.HasPrefix(s, "'")
	i := 0
	if quoted {
		i = 1
	}
	var b strings.Builder
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case quoted && c == '\'':
			return b.String(), s[i+1:], true
		case !quoted && strings.ContainsRune(" \t\n", rune(c)):
			return b.String(), s[i:], true
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", !quoted
}
