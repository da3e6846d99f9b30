package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/envfile"
	"github.com/stellarescrow/escrowctl/internal/journal"
	"github.com/stellarescrow/escrowctl/internal/keys"
	"github.com/stellarescrow/escrowctl/internal/secret"
	"github.com/stellarescrow/escrowctl/internal/store"
	"github.com/stellarescrow/escrowctl/internal/store/s3store"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// s3Word is what the S3 credentials are called on the command line.
const s3Word = "S3"

const (
	credentialsMax = 64 << 10 // bytes of a file of credentials
	identityLimit  = 10 * time.Second
)

// exchanger builds the exchange of the S3 credentials.
func (d *deps) exchanger(ctx context.Context) (*keys.Exchanger, error) {
	addr, err := store.Parse(d.cfg.S3.Bucket)
	if err != nil || addr.Bucket == "" {
		return nil, &misuse{"S3 credentials are proven on the bucket: set s3.bucket (S3_BUCKET) to s3://bucket[/prefix]"}
	}
	r, project, err := d.rotation(ctx, keys.CredentialsName)
	if err != nil {
		return nil, err
	}
	hidden := d.program(project, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
	x := &keys.Exchanger{Swapper: keys.Swapper{Rotator: *r, Users: &passwordUsers{program: hidden}, Steady: steady}, Bucket: &bucketAccess{d.bucketOptions(addr)}}
	if d.cfg.Credentials.AccessKeyID != "" {
		return x, nil // escrowctl's own are those of .env, and go with it
	}
	limited, cancel := context.WithTimeout(ctx, identityLimit)
	defer cancel()
	var source string
	if x.Own, source = s3store.Own(limited, d.bucketOptions(addr)); x.Own != "" {
		d.app.io.Debug("escrowctl's own access key is %s (%s)", x.Own, source)
	}
	return x, nil
}

// bucketAccess tries credentials on the bucket.
type bucketAccess struct{ opt s3store.Options }

func (b *bucketAccess) with(c keys.Credentials) s3store.Options {
	opt := b.opt
	opt.AccessKeyID, opt.SecretAccessKey, opt.SessionToken = c.ID, c.Secret.Reveal(), ""
	return opt
}

// Try lists the bucket, and writes, reads and deletes an object.
func (b *bucketAccess) Try(ctx context.Context, c keys.Credentials) error {
	st, err := s3store.New(ctx, b.with(c))
	if err != nil {
		return err
	}
	err = tryStore(ctx, st)
	if errors.Is(err, store.ErrCredentials) {
		return fmt.Errorf("%w: %w", keys.ErrRefused, err)
	}
	return err
}

// TryWrong tries made-up credentials.
func (b *bucketAccess) TryWrong(ctx context.Context) error {
	return b.Try(ctx, keys.Credentials{ID: "AKIA" + rand.Text()[:16], Secret: secret.New(rand.Text())})
}

func tryStore(ctx context.Context, st store.Store) error {
	if _, err := st.List(ctx); err != nil {
		return err
	}
	name, body := "escrowctl-credentials-test-"+rand.Text(), []byte("written to try out S3 credentials; it may be deleted\n")
	if err := st.Put(ctx, name, body); err != nil {
		return err
	}
	r, err := st.Open(ctx, name, 0, -1)
	if err == nil {
		var got []byte
		got, err = io.ReadAll(r)
		_ = r.Close()
		if err == nil && !bytes.Equal(got, body) {
			err = fmt.Errorf("read %s: it is not what was written", name)
		}
	}
	return errors.Join(err, st.Delete(context.WithoutCancel(ctx), name))
}

// identity says whose the credentials are, where somebody tells.
func (b *bucketAccess) identity(ctx context.Context, c keys.Credentials) string {
	ctx, cancel := context.WithTimeout(ctx, identityLimit)
	defer cancel()
	arn, err := s3store.Identity(ctx, b.with(c))
	if err != nil {
		return "not known, " + ui.Clean(err.Error())
	}
	return ui.Clean(arn)
}

// readCredentials reads a file of AWS_ACCESS_KEY_ID=... and
// AWS_SECRET_ACCESS_KEY=..., or one profile of an AWS credentials file; "-" is
// standard input.
func (a *App) readCredentials(path string) (keys.Credentials, error) {
	wrong := func(format string, args ...any) (keys.Credentials, error) {
		return keys.Credentials{}, &misuse{fmt.Sprintf("--new %s: ", path) + fmt.Sprintf(format, args...)}
	}
	in := a.io.In
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return wrong("%v", errors.Unwrap(err))
		}
		defer f.Close()
		in = f
		if info, err := f.Stat(); err == nil && info.Mode().Perm()&0o077 != 0 {
			a.io.Warn("%s can be read by others (mode %04o): chmod 600 it", ui.Clean(path), info.Mode().Perm())
		}
	}
	body, err := io.ReadAll(io.LimitReader(in, credentialsMax))
	if err != nil {
		return wrong("%v", err)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(body)) {
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		name = strings.ToUpper(strings.TrimSpace(name))
		if !ok || !strings.HasPrefix(name, "AWS_") {
			continue
		}
		if _, twice := found[name]; twice {
			return wrong("%s stands there twice: leave one pair", name)
		}
		found[name] = strings.Trim(strings.TrimSpace(value), `"'`)
	}
	c := keys.Credentials{ID: found["AWS_ACCESS_KEY_ID"], Secret: secret.New(found["AWS_SECRET_ACCESS_KEY"])}
	switch {
	case found["AWS_SESSION_TOKEN"] != "":
		return wrong("these are temporary credentials, with a session token: make an access key")
	case c.ID == "" || c.Secret.IsZero():
		return wrong("it needs the lines AWS_ACCESS_KEY_ID=... and AWS_SECRET_ACCESS_KEY=...")
	case strings.ContainsFunc(c.ID, func(r rune) bool { return r <= ' ' || r > '~' }):
		return wrong("AWS_ACCESS_KEY_ID has characters that none has")
	}
	return c, nil
}

// s3Step is one of the three steps of an exchange.
type s3Step struct {
	do     keys.Action // Swap, Retire or Rollback
	file   string      // of the new credentials
	why    string
	dryRun bool
}

// exchange does one step of the exchange of the S3 credentials.
func (a *App) exchange(ctx context.Context, step s3Step) error {
	var fresh keys.Credentials
	if step.file != "" {
		var err error
		if fresh, err = a.readCredentials(step.file); err != nil {
			return err
		}
	}
	d, err := a.open(unless(step.dryRun))
	if err != nil {
		return err
	}
	defer d.close()
	run := func(ctx context.Context) (Outcome, error) {
		x, err := d.exchanger(ctx)
		if err != nil {
			return Outcome{}, err
		}
		rot, found, err := x.Current()
		if err != nil {
			return Outcome{}, err
		}
		if step.do == keys.Swap && fresh.ID == "" && (!found || rot.Doing != keys.Swap) {
			return Outcome{}, &misuse{"rotate-keys S3: make a second access key (IAM), put it into a file of mode 0600 as AWS_ACCESS_KEY_ID=... and AWS_SECRET_ACCESS_KEY=..., and name it with --new"}
		}
		if step.dryRun {
			return Outcome{}, rotationError(a.exchangePlan(ctx, x, step.do, fresh))
		}
		out, err := a.exchangeStep(ctx, d, x, step, fresh)
		return out, rotationError(err)
	}
	if step.dryRun {
		_, err := run(ctx)
		return err
	}
	return a.job(ctx, d, rotateJob, run)
}

func (a *App) exchangeStep(ctx context.Context, d *deps, x *keys.Exchanger, step s3Step, fresh keys.Credentials) (Outcome, error) {
	if fresh.ID != "" {
		a.io.Log("the new access key %s: whose it is: %s", fresh.ID, x.Bucket.(*bucketAccess).identity(ctx, fresh))
	}
	var rot keys.Rotation
	var services []string
	var err error
	var done string
	switch step.do {
	case keys.Retire:
		rot, err = x.Retire(ctx, step.why)
		done = "are retired: the bucket refuses the old ones and takes the new ones"
	case keys.Rollback:
		rot, services, err = x.Undo(ctx, step.why)
		done = "are rolled back: the old ones are in force; made anew: " + orNothing(services)
	default:
		rot, services, err = x.Switch(ctx, fresh, step.why)
		done = "are the new ones: they list, write, read and delete in the bucket; made anew: " + orNothing(services)
	}
	out := Outcome{Figures: map[string]any{"secret": x.Secret, "action": string(step.do), "stage": string(rot.Stage), "services": services}}
	e := journal.Entry{Type: "config", Command: "rotate-keys " + string(step.do) + " " + s3Word, Why: step.why, Outcome: "ok", Fingerprints: slices.Concat(rot.Old, rot.New)}
	if err == nil {
		out.Verdict = x.Secret + " " + done
		_, _ = fmt.Fprintf(a.io.Out, "%s  %s\n", a.io.Paint("ok", "OK"), out.Verdict)
		if next := nextStep(rot, a.io.Now()); next != "" {
			_, _ = fmt.Fprintf(a.io.Out, "next: %s\n", next)
		}
		if step.do == keys.Swap && x.Own != "" && x.Own != fresh.ID {
			a.io.Warn("escrowctl itself reaches the bucket with the access key %s: if that is the old one, change it where it comes from (environment, ~/.aws) before it is deactivated", x.Own)
		}
		e.Summary = out.Verdict
	} else {
		e.Outcome, e.Summary = "failed", err.Error()
	}
	d.journal(ctx, e)
	return out, err
}

// exchangePlan says what a step would do. That of the new credentials tries
// them, also where .env holds none.
func (a *App) exchangePlan(ctx context.Context, x *keys.Exchanger, do keys.Action, fresh keys.Credentials) error {
	if do != keys.Swap || fresh.ID == "" {
		rot, found, err := x.Current()
		if err != nil || !found || rot.Stage.Ended() {
			return errors.Join(err, fmt.Errorf("%s: %w", x.Secret, keys.ErrNone))
		}
		text := map[keys.Action]string{
			keys.Retire:   "would try both pairs on the bucket, and end the rotation if the old one is refused and the new one taken",
			keys.Rollback: "would try the old pair on the bucket, put it back into " + ui.Clean(x.EnvFile) + " and make its services anew",
			keys.Swap:     "would go on where it was interrupted",
		}[do]
		_, err = fmt.Fprintln(a.io.Out, text)
		return err
	}
	services, err := x.Rehearse(ctx, fresh)
	none := errors.Is(err, envfile.ErrMissing)
	if err != nil && !none {
		return err
	}
	_, _ = fmt.Fprintf(a.io.Out, "the new access key %s is good: it lists, writes, reads and deletes in %s\nwhose it is    %s\n",
		fresh.ID, ui.Clean(x.Bucket.(*bucketAccess).location()), x.Bucket.(*bucketAccess).identity(ctx, fresh))
	if none {
		_, err = fmt.Fprintf(a.io.Out, "%s holds no S3 credentials: put the new ones where the old ones are (~/.aws, instance role), then escrowctl rotate-keys record S3\n", ui.Clean(x.EnvFile))
		return err
	}
	_, err = fmt.Fprintf(a.io.Out, "would change   AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in %s\nwould recreate %s\nwould prove    that they are taken, and that no container was made with the old ones\n", ui.Clean(x.EnvFile), orNothing(services))
	return err
}

func (b *bucketAccess) location() string {
	return store.Address{Bucket: b.opt.Bucket, Prefix: b.opt.Prefix}.String()
}
