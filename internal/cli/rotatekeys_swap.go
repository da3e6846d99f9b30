package cli

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stellarescrow/escrowctl/internal/cache"
	"github.com/stellarescrow/escrowctl/internal/compose"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/journal"
	"github.com/stellarescrow/escrowctl/internal/keys"
	"github.com/stellarescrow/escrowctl/internal/postgres"
	"github.com/stellarescrow/escrowctl/internal/secret"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// passwords are the secrets of which a server takes one.
func passwords() []string {
	return []string{"POSTGRES_PASSWORD", "REDIS_PASSWORD", "GRAFANA_ADMIN_PASSWORD"}
}

// swapper builds the change of one password on the compose project.
func (d *deps) swapper(ctx context.Context, name string) (*keys.Swapper, error) {
	r, project, err := d.rotation(ctx, name)
	if err != nil {
		return nil, err
	}
	users := &passwordUsers{program: d.program(project, name, "DATABASE_URL", "REDIS_URL")}
	s := &keys.Swapper{Rotator: *r, Users: users, Steady: steady}
	switch name {
	case "POSTGRES_PASSWORD":
		users.server = d.cfg.Dump.Service
		u, err := url.Parse(d.cfg.Database.URL.Reveal())
		if err != nil || u.User == nil || u.Host == "" {
			return nil, &misuse{"rotating POSTGRES_PASSWORD needs database.url (DATABASE_URL) as postgres://user:password@host/database"}
		}
		s.Server = &postgresServer{url: u, dial: project.Service(users.server).Dial}
	case "REDIS_PASSWORD":
		users.server = d.cfg.Redis.Service
		s.Server = &redisServer{addr: users.server + ":6379", dial: project.Service(users.server).Dial}
	case "GRAFANA_ADMIN_PASSWORD":
		users.server = grafanaService
		if d.cfg.Grafana.URL == config.Off {
			return nil, &misuse{"grafana.url is off: the password is changed by Grafana's API: set grafana.url"}
		}
		s.Server = &grafanaServer{url: strings.TrimRight(d.cfg.Grafana.URL, "/"), user: d.cfg.Grafana.User, client: probeClient()}
	}
	return s, nil
}

// steady is 2 s of readiness.
const steady = 10

// passwordUsers are the services of the project that hold a password.
type passwordUsers struct {
	program compose.Program
	server  string
}

func (u *passwordUsers) Holders(ctx context.Context, text secret.Value) ([]string, error) {
	all, err := u.program.Project.Holders(ctx, text)
	if i := slices.Index(all, u.server); i > 0 {
		all = slices.Insert(slices.Delete(all, i, i+1), 0, u.server)
	}
	return all, err
}

func (u *passwordUsers) Recreate(ctx context.Context, service string) error {
	return u.program.Recreate(ctx, service)
}

func (u *passwordUsers) Ready(ctx context.Context, service string) error {
	lives, err := u.program.Project.Live(ctx, service, "")
	if err == nil && len(lives) == 0 {
		err = errors.New("it has no container")
	}
	for _, l := range lives {
		if l.State != "running" || l.Health == "starting" || l.Health == "unhealthy" {
			err = fmt.Errorf("container %s is %s", l.Name, strings.TrimSpace(l.State+" "+l.Health))
		}
	}
	return err
}

// postgresServer is the database, reached in its container but by its name, as
// the other services do: connections from the loopback are often trusted.
type postgresServer struct {
	url  *url.URL
	dial postgres.DialFunc
}

func (s *postgresServer) connect(ctx context.Context, password string) (*pgx.Conn, error) {
	u := *s.url
	u.User = url.UserPassword(u.User.Username(), password)
	target, err := postgres.Parse(u.String())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	return postgres.Connect(ctx, target.WithDial(s.dial), "escrowctl rotate-keys")
}

// Check logs in.
func (s *postgresServer) Check(ctx context.Context, password string) error {
	conn, err := s.connect(ctx, password)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "28P01" || pg.Code == "28000") {
		return fmt.Errorf("%w: %w", keys.ErrRefused, err)
	}
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// CheckWrong logs in with a password that nobody has.
func (s *postgresServer) CheckWrong(ctx context.Context) error { return s.Check(ctx, rand.Text()) }

// Add changes the role's password. The server gets the verifier only, so that
// the password itself is in no log of its statements.
func (s *postgresServer) Add(ctx context.Context, with, fresh string) error {
	conn, err := s.connect(ctx, with)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	verifier, err := scramVerifier(fresh)
	if err != nil {
		return err
	}
	// The server ends it, before we would: one that was only given up here might
	// come true after the old password was put back.
	ctx, cancel := context.WithTimeout(ctx, alterLimit+connectLimit)
	defer cancel()
	if _, err := conn.Exec(ctx, fmt.Sprintf("SET statement_timeout = %d", alterLimit.Milliseconds())); err != nil {
		return fmt.Errorf("alter role: %w", err)
	}
	_, err = conn.Exec(ctx, "ALTER ROLE "+pgx.Identifier{s.url.User.Username()}.Sanitize()+" PASSWORD '"+verifier+"'")
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && pg.Code == "57014":
		return fmt.Errorf("alter role: not done within %s: another session holds the role: look in pg_stat_activity for a transaction that is open: %w", alterLimit, err)
	case err != nil:
		return fmt.Errorf("alter role: %w", err)
	}
	return nil
}

// alterLimit is how long the change of a role may wait for others.
const alterLimit = 10 * time.Second

// Drop has nothing to do: a role has one password.
func (s *postgresServer) Drop(context.Context, string, string) error { return nil }

// scramVerifier is what PostgreSQL keeps of a password (RFC 5803), with its
// default of 4,096 rounds.
func scramVerifier(password string) (string, error) {
	const rounds = 4096
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	salted, err := pbkdf2.Key(sha256.New, password, salt, rounds, sha256.Size)
	if err != nil {
		return "", err
	}
	sign := func(key []byte, text string) []byte {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(text))
		return mac.Sum(nil)
	}
	stored := sha256.Sum256(sign(salted, "Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", rounds, b64(salt), b64(stored[:]), b64(sign(salted, "Server Key"))), nil
}

// redisServer is the cache. Its default user can have several passwords.
type redisServer struct {
	addr string
	dial postgres.DialFunc
}

func (s *redisServer) do(ctx context.Context, password string, words ...string) error {
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	u := url.URL{Scheme: "redis", User: url.UserPassword("", password), Host: s.addr}
	_, err := cache.Do(ctx, cache.Options{URL: u.String(), Dial: s.dial}, words...)
	var refused cache.Error
	if errors.As(err, &refused) && strings.HasPrefix(string(refused), "WRONGPASS") {
		return fmt.Errorf("%w: %w", keys.ErrRefused, err)
	}
	return err
}

// Check logs in.
func (s *redisServer) Check(ctx context.Context, password string) error {
	return s.do(ctx, password, "PING")
}

// CheckWrong logs in with a password that nobody has.
func (s *redisServer) CheckWrong(ctx context.Context) error { return s.Check(ctx, rand.Text()) }

// Add lets a second password in, until the server is made anew.
func (s *redisServer) Add(ctx context.Context, with, fresh string) error {
	return s.do(ctx, with, "ACL", "SETUSER", "default", ">"+fresh)
}

// Drop takes one of them away.
func (s *redisServer) Drop(ctx context.Context, with, gone string) error {
	return s.do(ctx, with, "ACL", "SETUSER", "default", "<"+gone)
}

// swap changes a password, or puts the old one back.
func (a *App) swap(ctx context.Context, name, why string, back, dryRun bool) error {
	d, err := a.open(unless(dryRun))
	if err != nil {
		return err
	}
	defer d.close()
	run := func(ctx context.Context) (Outcome, error) {
		s, err := d.swapper(ctx, name)
		if err != nil {
			return Outcome{}, err
		}
		if dryRun {
			return Outcome{}, rotationError(a.swapPlan(ctx, s))
		}
		do, stage := s.Do, "rotated"
		if back {
			do, stage = s.Undo, "rolled back"
		}
		rot, services, err := do(ctx, why)
		out := Outcome{Figures: map[string]any{"secret": name, "action": stage, "services": services}}
		if err == nil {
			out.Verdict = fmt.Sprintf("%s is %s: the server takes the one in .env and refuses the other; made anew: %s", name, stage, strings.Join(services, ", "))
			_, _ = fmt.Fprintf(a.io.Out, "%s  %s\n", a.io.Paint("ok", "OK"), out.Verdict)
			key := map[string]string{"POSTGRES_PASSWORD": "database.url", "REDIS_PASSWORD": "redis.url", "GRAFANA_ADMIN_PASSWORD": "grafana.admin_password"}[name]
			if from := d.cfg.Origin(key); from.Kind != config.FromEnvFile && !back {
				a.io.Warn("escrowctl's own %s comes from elsewhere (%s): change the password there too", key, from)
			}
		}
		e := journal.Entry{Type: "config", Command: "rotate-keys " + name, Summary: out.Verdict, Why: why, Outcome: "ok", Fingerprints: slices.Concat(rot.Old, rot.New)}
		if err != nil {
			e.Outcome, e.Summary = "failed", err.Error()
		}
		d.journal(ctx, e)
		return out, rotationError(err)
	}
	if dryRun {
		_, err := run(ctx)
		return err
	}
	return a.job(ctx, d, rotateJob, run)
}

func (a *App) swapPlan(ctx context.Context, s *keys.Swapper) error {
	now, services, err := s.Rehearse(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.io.Out, "would change   the password %s on the server, then %s in %s and in its URLs\nwould recreate %s, in this order\nwould prove    the new one taken, %s refused, and no container made with it\n",
		now, s.Secret, ui.Clean(s.EnvFile), strings.Join(services, ", "), now)
	return err
}
