package migrate

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math/bits"
	"slices"

	"github.com/stellarescrow/escrowctl/internal/sqldump"
)

// Table is what a dump holds of a table: its rows, and a sum over them in which
// their order does not count.
type Table struct {
	Rows int64
	Sum  [4]uint64 // of the rows' SHA-256, modulo 2^256
}

func (t *Table) add(row []byte) {
	h := sha256.Sum256(row)
	var carry uint64
	for i := range t.Sum {
		t.Sum[i], carry = bits.Add64(t.Sum[i], binary.LittleEndian.Uint64(h[8*i:]), carry)
	}
	t.Rows++
}

// Dump is what a plain dump holds.
type Dump struct {
	Tables map[string]Table
	// Statements are all others, and how often each is there. Values of
	// sequences are not among them: they move while a platform runs.
	Statements map[string]int
	Sequences  int
}

// Digest reads a dump, compressed or not, to its end. A dump without pg_dump's
// end mark is sqldump.ErrTruncated.
func Digest(ctx context.Context, file io.Reader) (*Dump, error) {
	in := bufio.NewReaderSize(file, 1<<20)
	codec, _, err := sqldump.Sniff(in)
	if err != nil {
		return nil, err
	}
	text, err := sqldump.Decompress(in, codec)
	if err != nil {
		return nil, err
	}
	defer func() { _ = text.Close() }()
	d := &Dump{Tables: map[string]Table{}, Statements: map[string]int{}}
	info, err := sqldump.Pieces(ctx, text, func(p *sqldump.Piece, known sqldump.Info) error { return d.piece(p, known.EscapeStrings) })
	if err != nil {
		return nil, err
	}
	if !info.Complete {
		return nil, fmt.Errorf("%w: pg_dump's end mark is missing", sqldump.ErrTruncated)
	}
	return d, nil
}

func (d *Dump) piece(p *sqldump.Piece, escapes bool) error {
	if p.Table != "" {
		block, err := sqldump.ParseCopy(p.SQL, escapes)
		if err != nil {
			return err
		}
		t := d.Tables[block.Table]
		for row := range bytes.Lines(block.Body) {
			t.add(row)
		}
		d.Tables[block.Table] = t
		d.Statements[block.Statement] = 1 // a long block is closed and opened again
		return nil
	}
	return sqldump.EachStatement(p.SQL, escapes, func(s sqldump.Statement) error {
		switch {
		case s.Meta: // \restrict and its token
		case bytes.HasPrefix(s.Text, []byte("SELECT pg_catalog.setval(")):
			d.Sequences++
		default:
			d.Statements[string(s.Text)]++
		}
		return nil
	})
}

// Outcome is what a comparison shows.
type Outcome uint8

// The outcomes.
const (
	Same     Outcome = iota // nothing differs that did not change meanwhile
	Unproven                // too much changed meanwhile to tell
	Differs                 // the old dump holds what the new ones do not, or lacks what they hold
)

// Comparison is the old script's dump beside two of escrowctl's, one made before
// it and one after.
type Comparison struct {
	Outcome Outcome
	Equal   []string // tables whose rows are the same in all three
	Moved   []string // tables that changed meanwhile, with their rows
	Faults  []string // what differs
	Unsure  []string // what could not be told
}

// Compare judges the old dump by escrowctl's before and after it: what those two
// agree on, it must hold too.
func Compare(before, old, after *Dump) Comparison {
	var c Comparison
	if len(before.Tables) == 0 {
		c.Unsure = append(c.Unsure, "there are no tables to compare")
	}
	names := map[string]bool{}
	for _, d := range []*Dump{before, old, after} {
		for name := range d.Tables {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		c.table(name, before, old, after)
	}
	c.statements(before, old, after)
	if before.Sequences == after.Sequences && old.Sequences != before.Sequences {
		c.Faults = append(c.Faults, fmt.Sprintf("the script's dump sets %d sequences, escrowctl's %d", old.Sequences, before.Sequences))
	}
	switch {
	case len(c.Faults) > 0:
		c.Outcome = Differs
	case len(c.Unsure) > 0 || len(c.Equal) == 0:
		c.Outcome = Unproven
	}
	return c
}

func (c *Comparison) table(name string, before, old, after *Dump) {
	b, inBefore := before.Tables[name]
	o, inOld := old.Tables[name]
	a, inAfter := after.Tables[name]
	switch {
	case inBefore != inAfter:
		c.Unsure = append(c.Unsure, name+" came or went meanwhile")
	case inBefore && !inOld:
		c.Faults = append(c.Faults, name+" is missing in the script's dump")
	case inOld && !inBefore:
		c.Faults = append(c.Faults, name+" is missing in escrowctl's dumps")
	case a == b && o == b:
		c.Equal = append(c.Equal, name)
	case a == b:
		c.Faults = append(c.Faults, fmt.Sprintf("%s has %d rows in the script's dump and %d in escrowctl's, whose contents differ", name, o.Rows, b.Rows))
	case o.Rows < min(a.Rows, b.Rows) || o.Rows > max(a.Rows, b.Rows):
		c.Unsure = append(c.Unsure, fmt.Sprintf("%s changed meanwhile: %d, then %d in the script's, then %d rows", name, b.Rows, o.Rows, a.Rows))
	default:
		c.Moved = append(c.Moved, fmt.Sprintf("%s (%d, %d, %d rows)", name, b.Rows, o.Rows, a.Rows))
	}
}

// statements compares what is no row: the schema.
func (c *Comparison) statements(before, old, after *Dump) {
	all := maps.Clone(before.Statements)
	maps.Copy(all, old.Statements)
	maps.Copy(all, after.Statements)
	for _, s := range slices.SortedFunc(maps.Keys(all), cmp.Compare[string]) {
		b, o, a := before.Statements[s], old.Statements[s], after.Statements[s]
		switch {
		case a == b && a == o:
		case a != b:
			c.Unsure = append(c.Unsure, "the schema changed meanwhile: "+short(s))
		default:
			c.Faults = append(c.Faults, fmt.Sprintf("%d in the script's dump, %d in escrowctl's: %s", o, b, short(s)))
		}
	}
}

// shown is how many bytes of a statement are shown: enough to find it.
const shown = 70

func short(s string) string {
	line, _, more := bytes.Cut([]byte(s), []byte("\n"))
	if len(line) > shown {
		line, more = line[:shown], true
	}
	if more {
		return string(line) + " ..."
	}
	return string(line)
}
