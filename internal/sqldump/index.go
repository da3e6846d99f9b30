package sqldump

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// Member is one compressed member of an indexed dump.
type Member struct {
	Section Section `json:"section"`
	Table   string  `json:"table,omitempty"` // as SQL names it; "" for other SQL
	Rows    int64   `json:"rows,omitempty"`
	Lines   int64   `json:"lines"`      // newlines of the SQL
	Offset  int64   `json:"offset"`     // in the compressed stream, before any encryption
	Size    int64   `json:"size_bytes"` // compressed
	SQLSize int64   `json:"sql_bytes"`
	SHA256  string  `json:"sha256"` // of the compressed bytes
}

// UnmarshalJSON refuses at once what is no member. Millions of empty ones, of two
// bytes each, would take a hundred times their own room before Validate sees the
// first.
func (m *Member) UnmarshalJSON(b []byte) error {
	type fields Member
	if err := json.Unmarshal(b, (*fields)(m)); err != nil {
		return err
	}
	if m.Section == "" || m.Size <= 0 || m.SQLSize <= 0 || m.SHA256 == "" {
		return fmt.Errorf("%w: a member without section, size or SHA-256", ErrBadIndex)
	}
	return nil
}

// Table is what a dump holds of one table.
type Table struct {
	Table string `json:"table"` // as SQL names it: public."Mixed Case"
	Rows  int64  `json:"rows"`
	SQL   int64  `json:"sql_bytes"`
	Size  int64  `json:"size_bytes"` // compressed
}

// UnmarshalJSON refuses at once what is no table.
func (t *Table) UnmarshalJSON(b []byte) error {
	type fields Table
	if err := json.Unmarshal(b, (*fields)(t)); err != nil {
		return err
	}
	if t.Table == "" {
		return fmt.Errorf("%w: a table without a name", ErrBadIndex)
	}
	return nil
}

// Index is what a dump holds and where. All sizes are bytes.
type Index struct {
	Codec         Codec    `json:"compression"`
	ServerVersion string   `json:"server_version"`
	DumpVersion   string   `json:"pg_dump_version"`
	Encoding      string   `json:"encoding"`                 // client_encoding of the SQL: "UTF8"
	EscapeStrings bool     `json:"escape_strings,omitempty"` // standard_conforming_strings is off
	Size          int64    `json:"compressed_bytes"`
	SQLSize       int64    `json:"sql_bytes"`
	Rows          int64    `json:"rows"`
	Tables        []Table  `json:"tables"`
	Members       []Member `json:"members"`
}

// ErrBadIndex says that an index contradicts itself.
var ErrBadIndex = errors.New("the index is not valid")

// add takes in the next member and keeps the sums.
func (x *Index) add(m Member) {
	x.Members = append(x.Members, m)
	x.Size += m.Size
	x.SQLSize += m.SQLSize
	x.Rows += m.Rows
	if m.Table == "" {
		return
	}
	if n := len(x.Tables); n == 0 || x.Tables[n-1].Table != m.Table {
		x.Tables = append(x.Tables, Table{Table: m.Table})
	}
	t := &x.Tables[len(x.Tables)-1]
	t.Rows += m.Rows
	t.SQL += m.SQLSize
	t.Size += m.Size
}

// The most that a codec can expand: an index that claims more is hostile or
// damaged. Of deflate zlib's own figure is 1032:1; zstd makes 128 KiB of a block
// of four bytes.
const (
	maxGzipRatio = 1040
	maxZstdRatio = 128 << 10 / 4
)

// Validate checks that the members follow each other without gap, that the
// sums are theirs, and that no size is one to allocate blindly.
func (x *Index) Validate() error {
	if x.Codec != Gzip && x.Codec != Zstd {
		return fmt.Errorf("%w: compression %q", ErrBadIndex, x.Codec)
	}
	for i := range len(x.Encoding) {
		if !isWordPart(x.Encoding[i]) && x.Encoding[i] != '-' {
			return fmt.Errorf("%w: encoding %q", ErrBadIndex, x.Encoding)
		}
	}
	sum := Index{Codec: x.Codec}
	section := PreData
	for i, m := range x.Members {
		switch {
		case m.Offset != sum.Size:
			return fmt.Errorf("%w: member %d begins at %d, not at %d", ErrBadIndex, i, m.Offset, sum.Size)
		case m.Size <= 0 || m.Size > math.MaxInt64/2-sum.Size || m.SQLSize <= 0 || m.SQLSize > maxStatement+MemberSize:
			return fmt.Errorf("%w: member %d has a size of %d and %d bytes", ErrBadIndex, i, m.Size, m.SQLSize)
		case x.Codec == Gzip && m.SQLSize/maxGzipRatio > m.Size, x.Codec == Zstd && m.SQLSize/maxZstdRatio > m.Size:
			return fmt.Errorf("%w: member %d cannot expand from %d to %d bytes", ErrBadIndex, i, m.Size, m.SQLSize)
		case m.Size > m.SQLSize+m.SQLSize/8+4<<10:
			return fmt.Errorf("%w: member %d has %d bytes for %d of SQL", ErrBadIndex, i, m.Size, m.SQLSize)
		case m.Rows < 0 || m.Rows > m.SQLSize || m.Lines < m.Rows || m.Lines > m.SQLSize:
			return fmt.Errorf("%w: member %d has %d rows in %d bytes", ErrBadIndex, i, m.Rows, m.SQLSize)
		case (m.Table != "") && m.Section != Data, m.Table == "" && m.Rows != 0:
			return fmt.Errorf("%w: member %d has rows of %q in section %s", ErrBadIndex, i, m.Table, m.Section)
		case !follows(section, m.Section):
			return fmt.Errorf("%w: member %d of section %q follows %q", ErrBadIndex, i, m.Section, section)
		case len(m.SHA256) != 64:
			return fmt.Errorf("%w: member %d has no SHA-256", ErrBadIndex, i)
		}
		section = m.Section
		sum.add(m)
	}
	if sum.Size != x.Size || sum.SQLSize != x.SQLSize || sum.Rows != x.Rows || len(sum.Tables) != len(x.Tables) {
		return fmt.Errorf("%w: its sums are not its members'", ErrBadIndex)
	}
	for i, t := range sum.Tables {
		if t != x.Tables[i] {
			return fmt.Errorf("%w: table %s has %d rows in its members, not %d", ErrBadIndex, t.Table, t.Rows, x.Tables[i].Rows)
		}
	}
	return nil
}

func follows(prev, next Section) bool {
	order := map[Section]int{PreData: 1, Data: 2, PostData: 3}
	return order[next] >= order[prev] && order[next] > 0
}
