package backup

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
	"github.com/stellarescrow/escrowctl/internal/store"
)

func TestRunToBucket(t *testing.T) {
	o, _ := fakeOptions(t)
	remote := bucket(t)
	o.Remote = remote
	res := mustRun(t, o)
	if !res.Uploaded || res.UploadErr != nil || res.Receipt.Evidence != store.BySHA256 || res.Receipt.Size != res.Manifest.Size {
		t.Fatalf("upload: %+v, %v", res.Receipt, res.UploadErr)
	}
	want := []string{"stellar_escrow_20260301T020000Z.globals.sql", "stellar_escrow_20260301T020000Z.sql.gz", "stellar_escrow_20260301T020000Z.sql.gz.json"}
	for _, s := range []store.Reader{o.Local, remote} {
		if diff := cmp.Diff(want, names(t, s)); diff != "" {
			t.Errorf("%s: %s", s.Location(), diff)
		}
		if rep := verify(t, s, res.Name); rep.Verdict != Pass || rep.Rows != 300 || len(rep.Tables) != 3 {
			t.Errorf("%s: %+v", s.Location(), rep)
		}
	}
	entries, err := List(t.Context(), o.Local, remote, naming, nil)
	if err != nil || len(entries) != 1 || entries[0].Local == nil || entries[0].Remote == nil || !entries[0].Good() {
		t.Errorf("list: %+v %v", entries, err)
	}
}

// TestRunFailures: no failing dump may leave a name behind, here or there.
func TestRunFailures(t *testing.T) {
	remote := bucket(t)
	whole := len(fakeDumper{rows: 100, tables: 3}.text())
	for name, d := range map[string]fakeDumper{
		"exit status":        {rows: 100, tables: 3, err: errors.New("pg_dump: exit status 1: connection lost")},
		"cut in rows":        {rows: 100, tables: 3, cutAt: whole / 2},
		"cut at end mark":    {rows: 100, tables: 3, cutAt: whole - 5},
		"cut in a statement": {rows: 100, tables: 3, cutAt: 200},
		"nothing":            {rows: 100, tables: 3, cutAt: 1},
		"both":               {rows: 100, tables: 3, cutAt: whole / 3, err: errors.New("pg_dump: exit status 1: connection lost")},
	} {
		t.Run(name, func(t *testing.T) {
			o, _ := fakeOptions(t)
			o.Remote = remote
			o.Dumper = d
			res, err := Run(t.Context(), o)
			if !errors.Is(err, ErrNoBackup) {
				t.Fatalf("%+v %v", res, err)
			}
			if d.err != nil && !strings.Contains(err.Error(), "connection lost") {
				t.Errorf("pg_dump's words are missing: %v", err)
			}
			for _, s := range []store.Reader{o.Local, remote} {
				if got := names(t, s); len(got) > 0 {
					t.Errorf("%s holds %v", s.Location(), got)
				}
			}
			if left, _ := filepath.Glob(filepath.Join(o.Local.Location(), ".*")); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			if up, err := remote.Sweep(t.Context(), time.Now().Add(time.Hour), naming.Owns); err != nil || len(up) > 0 {
				t.Errorf("unfinished uploads: %v %v", up, err)
			}
		})
	}
}

func TestRunWithDeadBucket(t *testing.T) {
	o, c := fakeOptions(t)
	remote := bucket(t)
	o.Remote = brokenStore{Store: remote}
	res := mustRun(t, o)
	if res.UploadErr == nil || res.Uploaded || verify(t, o.Local, res.Name).Verdict != Pass {
		t.Fatalf("%+v", res)
	}
	if got := names(t, remote); len(got) > 0 {
		t.Errorf("the bucket holds %v", got)
	}
	// The next run sends what is missing.
	o.Remote = remote
	c.now = c.now.Add(24 * time.Hour)
	next := mustRun(t, o)
	if !slices.Equal(next.CaughtUp, []string{res.Name}) || verify(t, remote, res.Name).Verdict != Pass {
		t.Errorf("caught up: %v", next.CaughtUp)
	}
}

// brokenStore takes parts and refuses to complete.
type brokenStore struct{ store.Store }

func (b brokenStore) Upload(ctx context.Context, name string, src store.Source) (store.Receipt, error) {
	_, _, err := src.Wait(ctx, 1<<40)
	return store.Receipt{}, errors.Join(err, errors.New("bucket is gone"))
}

// TestRunOutOfTime: a time limit that ends in the upload costs the bucket's copy and
// says so; the backup that lies here counts, and nothing is pruned.
func TestRunOutOfTime(t *testing.T) {
	o, c := fakeOptions(t)
	old := mustRun(t, o)
	c.now = c.now.Add(60 * 24 * time.Hour)
	o.Remote = slowStore{Store: bucket(t)}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, errors.New("the run took too long"))
	defer cancel()
	res, err := Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if res.UploadErr == nil || !strings.Contains(res.UploadErr.Error(), "the run took too long") || res.Uploaded || verify(t, o.Local, res.Name).Verdict != Pass {
		t.Errorf("%+v", res)
	}
	if len(res.Pruned) > 0 || verify(t, o.Local, old.Name).Verdict != Pass {
		t.Errorf("pruned: %v", res.Pruned)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, o); err == nil {
		t.Error("an interrupted run ended well")
	}
}

// slowStore takes longer for an upload than there is time.
type slowStore struct{ store.Store }

func (slowStore) Upload(ctx context.Context, _ string, _ store.Source) (store.Receipt, error) {
	<-ctx.Done()
	return store.Receipt{}, context.Cause(ctx)
}

// TestUnfinishedIsNeverGood: an object without its manifest.
func TestUnfinishedIsNeverGood(t *testing.T) {
	o, c := fakeOptions(t)
	remote := bucket(t)
	o.Remote = remote
	res := mustRun(t, o)
	for _, s := range []store.Store{o.Local, remote} {
		if err := s.Delete(t.Context(), ManifestName(res.Name)); err != nil {
			t.Fatal(err)
		}
		copies, err := Copies(t.Context(), s, naming)
		if err != nil || len(copies) != 1 || copies[0].Kind != Unfinished || copies[0].Good() {
			t.Errorf("%s: %+v %v", s.Location(), copies, err)
		}
		if rep := verify(t, s, res.Name); rep.Verdict != CouldNot {
			t.Errorf("%s: verdict %s", s.Location(), rep.Verdict)
		}
	}
	c.now = c.now.Add(48 * time.Hour)
	next := mustRun(t, o)
	if diff := cmp.Diff([]string{res.Name, res.Name}, next.Pruned); diff != "" {
		t.Errorf("pruned: %s", diff)
	}
}

func TestEncrypted(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, codec := range []sqldump.Codec{sqldump.Gzip, sqldump.Zstd} {
		o, _ := fakeOptions(t)
		o.Codec, o.Recipients = codec, []age.Recipient{id.Recipient()}
		res := mustRun(t, o)
		for _, name := range names(t, o.Local) {
			body, err := os.ReadFile(o.Local.Path(name))
			if err != nil || !strings.HasSuffix(name, ".json") && !bytes.HasPrefix(body, []byte(ageHeader)) {
				t.Errorf("%s is not encrypted: %v", name, err)
			}
		}
		for want, ids := range map[Verdict][]age.Identity{Pass: {other, id}, CouldNot: nil} {
			rep, err := Verify(t.Context(), VerifyOptions{Store: o.Local, Name: res.Name, Identities: ids, Now: time.Now})
			if err != nil || rep.Verdict != want {
				t.Errorf("%v: %+v %v", want, rep, err)
			}
		}
		rep, err := Verify(t.Context(), VerifyOptions{Store: o.Local, Name: res.Name, Identities: []age.Identity{other}, Now: time.Now})
		if err != nil || rep.Verdict != CouldNot {
			t.Errorf("wrong identity: %+v %v", rep, err)
		}
		plain, _ := fakeOptions(t)
		plain.Codec = codec
		ours := mustRun(t, plain)
		rep, err = Verify(t.Context(), VerifyOptions{Store: plain.Local, Name: ours.Name, Identities: []age.Identity{id}, Now: time.Now})
		if err != nil || rep.Verdict != Pass {
			t.Errorf("not encrypted, with an identity at hand: %+v %v", rep, err)
		}
		for _, at := range []int{3, 100, 250, int(res.Manifest.Size) / 2, int(res.Manifest.Size) - 1} {
			spoil(t, o.Local, res.Name, func(b []byte) []byte { b[at] ^= 4; return b })
			rep, err := Verify(t.Context(), VerifyOptions{Store: o.Local, Name: res.Name, Identities: []age.Identity{id}, Now: time.Now})
			if err == nil && rep.Verdict == Pass {
				t.Errorf("byte %d flipped, and it passes", at)
			}
			spoil(t, o.Local, res.Name, func(b []byte) []byte { b[at] ^= 4; return b })
		}
	}
}

func TestLossesHoldPruning(t *testing.T) {
	o, c := fakeOptions(t)
	o.Retention = Retention{Days: 1}
	first := mustRun(t, o)
	c.now = c.now.Add(72 * time.Hour)
	o.Dumper = fakeDumper{rows: 20, tables: 2}
	res := mustRun(t, o)
	if len(res.Losses) != 3 || len(res.Pruned) > 0 {
		t.Fatalf("losses %q, pruned %v", res.Losses, res.Pruned)
	}
	if all := strings.Join(res.Losses, "\n"); !strings.Contains(all, "public.t2") || !strings.Contains(all, "300") {
		t.Errorf("losses do not name what is lost: %s", all)
	}
	// The next backup is like the last, but nobody has acknowledged the loss.
	c.now = c.now.Add(72 * time.Hour)
	o.Held = true
	if res := mustRun(t, o); len(res.Losses) > 0 || len(res.Pruned) > 0 {
		t.Errorf("held: losses %v, pruned %v", res.Losses, res.Pruned)
	}
	c.now = c.now.Add(72 * time.Hour)
	o.Held = false
	if res := mustRun(t, o); len(res.Pruned) != 3 || res.Pruned[0] == "" || !slices.Contains(res.Pruned, first.Name) {
		t.Errorf("pruned %v", res.Pruned)
	}
}

func TestPruneKeepsWhatMatters(t *testing.T) {
	o, c := fakeOptions(t)
	var made []string
	for range 40 {
		o.Retention = Retention{}
		made = append(made, mustRun(t, o).Name)
		c.now = c.now.Add(24 * time.Hour)
	}
	// Backups have been failing for three months: everything is old.
	c.now = c.now.Add(90 * 24 * time.Hour)
	check := func(r Retention, verified Verifications, want ...string) {
		t.Helper()
		p, err := PlanPrune(t.Context(), o.Local, naming, r, verified, c.now)
		if err != nil {
			t.Fatal(err)
		}
		var kept []string
		for _, k := range p.Keep {
			kept = append(kept, k.Name)
		}
		slices.Sort(kept)
		if diff := cmp.Diff(want, kept); diff != "" {
			t.Errorf("%+v: %s", r, diff)
		}
		if len(p.Keep)+len(p.Delete) != 40 {
			t.Errorf("%d + %d", len(p.Keep), len(p.Delete))
		}
	}
	check(Retention{Days: 30}, nil, made[39])
	check(Retention{Daily: 3}, nil, made[37:]...)
	check(Retention{Monthly: 2}, nil, made[30], made[39])
	// The newest failed its verification: the one before it must stay too.
	check(Retention{Days: 1}, Verifications{copyKey(o.Local.Location(), made[39]): {Verdict: Fail}}, made[38:]...)
	if err := os.WriteFile(o.Local.Path("stellar_escrow_notes.sql.gz"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := PlanPrune(t.Context(), o.Local, naming, Retention{Days: 1}, nil, c.now)
	if err != nil {
		t.Fatal(err)
	}
	gone, err := p.Apply(t.Context(), o.Local)
	if err != nil || len(gone) != 39 {
		t.Fatalf("%d gone, %v", len(gone), err)
	}
	if left := names(t, o.Local); len(left) != 4 {
		t.Errorf("left %v", left)
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	o, _ := fakeOptions(t)
	o.Dumper = fakeDumper{rows: 200000, tables: 2}
	res := mustRun(t, o)
	size := int(res.Manifest.Size)
	for name, change := range map[string]func([]byte) []byte{
		"flipped":        func(b []byte) []byte { b[size/2] ^= 1; return b },
		"truncated":      func(b []byte) []byte { return b[:size/2] },
		"last byte gone": func(b []byte) []byte { return b[:size-1] },
		"empty":          func([]byte) []byte { return nil },
		"appended":       func(b []byte) []byte { return append(b, 0) },
		"member twice": func(b []byte) []byte {
			m := res.Manifest.Index.Members[1]
			return append(b[:m.Offset+m.Size], b[m.Offset:]...)
		},
		"member cut out": func(b []byte) []byte {
			m := res.Manifest.Index.Members[1]
			return append(b[:m.Offset], b[m.Offset+m.Size:]...)
		},
		"an HTML page": func([]byte) []byte { return []byte("<html>503</html>") },
		"members exchanged": func(b []byte) []byte {
			x, y := res.Manifest.Index.Members[1], res.Manifest.Index.Members[2]
			out := append([]byte(nil), b[:x.Offset]...)
			out = append(out, b[y.Offset:y.Offset+y.Size]...)
			out = append(out, b[x.Offset:x.Offset+x.Size]...)
			return append(out, b[y.Offset+y.Size:]...)
		},
	} {
		good, err := os.ReadFile(o.Local.Path(res.Name))
		if err != nil {
			t.Fatal(err)
		}
		spoil(t, o.Local, res.Name, func(b []byte) []byte { return change(b) })
		rep := verify(t, o.Local, res.Name)
		if rep.Verdict != Fail || len(rep.Faults) == 0 {
			t.Errorf("%s: %s %v", name, rep.Verdict, rep.Faults)
		} else if name == "flipped" && !strings.Contains(rep.Faults[0].Error(), "rows of public.t") {
			t.Errorf("%s: the fault names no table: %v", name, rep.Faults)
		}
		spoil(t, o.Local, res.Name, func([]byte) []byte { return good })
	}
	if rep := verify(t, o.Local, res.Name); rep.Verdict != Pass {
		t.Errorf("restored, it is %s: %v", rep.Verdict, rep.Faults)
	}
	falseSum := func(b []byte) []byte {
		return bytes.Replace(b, []byte(res.Manifest.SHA256), []byte(strings.Repeat("0", 64)), 1)
	}
	good, err := os.ReadFile(o.Local.Path(ManifestName(res.Name)))
	if err != nil {
		t.Fatal(err)
	}
	spoil(t, o.Local, ManifestName(res.Name), falseSum)
	if rep := verify(t, o.Local, res.Name); rep.Verdict != Fail {
		t.Errorf("a wrong checksum of the file passes: %s", rep.Verdict)
	}
	spoil(t, o.Local, ManifestName(res.Name), func([]byte) []byte { return good })
	spoil(t, o.Local, ManifestName(res.Name), func(b []byte) []byte { return bytes.Replace(b, []byte(`"rows":400000`), []byte(`"rows":400001`), 1) })
	if rep := verify(t, o.Local, res.Name); rep.Verdict != Fail {
		t.Errorf("a wrong manifest passes: %s", rep.Verdict)
	}
}

func TestVerifyOldPlain(t *testing.T) {
	dir := store.NewDir(t.TempDir())
	text := fakeDumper{rows: 50, tables: 2}.text()
	var gz bytes.Buffer
	if _, err := sqldump.Write(t.Context(), &gz, strings.NewReader(text), sqldump.Options{MemberSize: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	name := naming.File(time.Now(), sqldump.Gzip, false)
	put := func(b []byte) *Report {
		_ = dir.Delete(t.Context(), name)
		if err := dir.Put(t.Context(), name, b); err != nil {
			t.Fatal(err)
		}
		return verify(t, dir, name)
	}
	if rep := put([]byte(text)); rep.Verdict != Pass || rep.Rows != 100 {
		t.Errorf("%+v", rep)
	}
	if rep := put([]byte(text[:len(text)-40])); rep.Verdict != Fail {
		t.Errorf("without its end: %+v", rep)
	}
	if rep := put([]byte("<html>no such bucket</html>")); rep.Verdict != Fail {
		t.Errorf("a page: %+v", rep)
	}
	if rep := put([]byte(fakeDumper{}.text())); rep.Verdict != CouldNot {
		t.Errorf("without tables: %+v", rep)
	}
	if rep := put(gz.Bytes()); rep.Verdict != CouldNot || rep.Kind != Unfinished {
		t.Errorf("ours without its manifest: %+v", rep)
	}
}

func TestNaming(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, enc := range []bool{false, true} {
		for _, codec := range []sqldump.Codec{sqldump.Gzip, sqldump.Zstd} {
			name := naming.File(at, codec, enc)
			f, ok := naming.Parse(name)
			if !ok || !f.Time.Equal(at) || f.Codec != codec || f.Encrypted != enc {
				t.Errorf("%s: %+v", name, f)
			}
			for _, n := range []string{name, ManifestName(name), naming.globalsName(f)} {
				if !naming.Owns(n) {
					t.Errorf("%s is not owned", n)
				}
			}
		}
	}
	for _, name := range []string{"", "stellar_escrow_.sql.gz", "stellar_escrow_20260102T030405Z.sql.gz.bak", "other_20260102T030405Z.sql.gz", "stellar_escrow_20261302T030405Z.sql.gz", "x.json", "stellar_escrow_20260102T030405Z.sql"} {
		if _, ok := naming.Parse(name); ok || naming.Owns(name) {
			t.Errorf("%q is taken for ours", name)
		}
	}
}
