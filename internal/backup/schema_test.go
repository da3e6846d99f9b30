package backup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/stellarescrow/escrowctl/internal/schema"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

// duringDump does something once pg_dump has ended and the run has not.
type duringDump struct {
	Dumper
	then func()
}

func (d duringDump) Dump(ctx context.Context, w io.Writer) error {
	err := d.Dumper.Dump(ctx, w)
	d.then()
	return err
}

// editedDump is pg_dump's text with something replaced.
type editedDump struct {
	Dumper
	old, new string
}

func (d editedDump) Dump(ctx context.Context, w io.Writer) error {
	var out bytes.Buffer
	if err := d.Dumper.Dump(ctx, &out); err != nil {
		return err
	}
	if !strings.Contains(out.String(), d.old) {
		return errors.New("the dump does not hold " + d.old)
	}
	_, err := io.WriteString(w, strings.ReplaceAll(out.String(), d.old, d.new))
	return err
}

// TestSchemaIsProven: a restore is compared with the schema that the manifest
// recorded.
func TestSchemaIsProven(t *testing.T) {
	pg := testenv.Postgres(t)
	pg.CreateDB(t, "db")
	pg.Psql(t, "db", `CREATE TABLE public.trades (id integer PRIMARY KEY, state varchar(9) CHECK (state IN ('open', 'done')));
INSERT INTO public.trades VALUES (1, 'open'); CREATE TABLE public.fees (trade integer REFERENCES public.trades (id));
CREATE FUNCTION public.secret_sauce() RETURNS integer LANGUAGE sql AS 'SELECT 42';`)
	restored := func(o Options, res *Result, db string, ids ...age.Identity) (*Restored, error) {
		ro := restoreOptions(t, pg, o.Local, res.Name, db)
		ro.Identities = ids
		return Restore(t.Context(), ro)
	}
	t.Run("a constraint lost", func(t *testing.T) {
		o := options(t, pg, "db")
		o.Dumper = editedDump{o.Dumper, "ALTER TABLE ONLY public.fees\n    ADD CONSTRAINT fees_trade_fkey FOREIGN KEY (trade) REFERENCES public.trades(id);", ""}
		_, err := restored(o, mustRun(t, o), "lost")
		if !errors.Is(err, ErrSchemaDiffers) || !strings.Contains(err.Error(), "constraint public.fees.fees_trade_fkey is missing") {
			t.Errorf("%v", err)
		}
		ro := restoreOptions(t, pg, o.Local, mustRunName(t, o), "swapped")
		ro.Swap = true
		pg.CreateDB(t, "swapped")
		if _, err := Restore(t.Context(), ro); !errors.Is(err, ErrSchemaDiffers) {
			t.Errorf("swap: %v", err)
		}
		if n := pg.Psql(t, "swapped", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"); n != "0" {
			t.Error("the names were exchanged")
		}
	})
	t.Run("changed meanwhile", func(t *testing.T) {
		o := options(t, pg, "db")
		o.Dumper = duringDump{o.Dumper, func() {
			pg.Psql(t, "db", "ALTER TABLE public.fees ADD COLUMN late integer; DROP FUNCTION public.secret_sauce(); CREATE OR REPLACE FUNCTION public.secret_sauce() RETURNS integer LANGUAGE sql AS 'SELECT 43'")
		}}
		res := mustRun(t, o)
		s, err := res.Manifest.SourceSchema(nil)
		if err != nil || !slices.Equal(s.Moved, []string{"column public.fees.late", "function public.secret_sauce()"}) {
			t.Errorf("%v %v", s.Moved, err)
		}
		if r, err := restored(o, res, "meanwhile"); err != nil || r.SchemaObjects == 0 {
			t.Errorf("%+v %v", r, err)
		}
	})
	t.Run("encrypted", func(t *testing.T) {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		o := options(t, pg, "db")
		o.Recipients = []age.Recipient{id.Recipient()}
		res := mustRun(t, o)
		if !bytes.HasPrefix(res.Manifest.Schema.Data, []byte(ageHeader)) {
			t.Error("the schema of an encrypted backup can be read")
		}
		if r, err := restored(o, res, "encrypted", id); err != nil || r.SchemaObjects != res.Manifest.Schema.Objects {
			t.Errorf("%+v %v", r, err)
		}
	})
	t.Run("older manifest", func(t *testing.T) {
		o := options(t, pg, "db")
		res := mustRun(t, o)
		m := *res.Manifest
		m.Schema = nil
		spoil(t, o.Local, ManifestName(res.Name), func([]byte) []byte {
			b, err := m.encode()
			if err != nil {
				t.Fatal(err)
			}
			return b
		})
		if r, err := restored(o, res, "older"); err != nil || r.SchemaObjects != 0 {
			t.Errorf("%+v %v", r, err)
		}
	})
	t.Run("damaged record", func(t *testing.T) {
		o := options(t, pg, "db")
		res := mustRun(t, o)
		bad := *res.Manifest.Schema
		bad.Data = slices.Clone(bad.Data)
		bad.Data[len(bad.Data)/2] ^= 1
		m := *res.Manifest
		m.Schema = &bad
		spoil(t, o.Local, ManifestName(res.Name), func([]byte) []byte {
			b, err := m.encode()
			if err != nil {
				t.Fatal(err)
			}
			return b
		})
		if rep := verify(t, o.Local, res.Name); rep.Verdict != Fail || !errors.Is(rep.Faults[0], schema.ErrBadSchema) {
			t.Errorf("%s %v", rep.Verdict, rep.Faults)
		}
	})
	t.Run("unreadable catalogs", func(t *testing.T) {
		o := options(t, pg, "db")
		o.Schema = func(context.Context) (*schema.Schema, error) { return nil, errors.New("no luck") }
		res := mustRun(t, o)
		if res.Manifest.Schema != nil || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "no luck") {
			t.Errorf("%q", res.Warnings)
		}
		if rep := verify(t, o.Local, res.Name); rep.Verdict != Pass {
			t.Errorf("%s", rep.Verdict)
		}
	})
}

func mustRunName(t *testing.T, o Options) string {
	o.Now = func() time.Time { return time.Now().Add(time.Minute) } // names are a second apart
	return mustRun(t, o).Name
}
