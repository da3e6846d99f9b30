package perf

import "math"

// The sizes of PostgreSQL's page layout, in bytes (storage/bufpage.h,
// access/htup_details.h, access/itup.h, access/nbtree.h).
const (
	pageHeader     = 24
	linePointer    = 4
	tupleHeader    = 23 // without the bitmap of nulls
	maxAlign       = 8
	indexTuple     = 8
	btreeSpecial   = 16
	shortVarlena   = 127 // a longer value is aligned
	defaultBlock   = 8192
	nullBitsPerRow = 8
)

// estimateBloat fills in the bloat of tables and B-trees, by the statistics
// method: the pages that so many rows of such a width would fill, against the
// pages that there are. Unlike the usual queries it walks the columns in their
// order, so that alignment counts as what it is and not as bloat
// (docs/decisions, bloat).
func estimateBloat(db *Database) {
	block := int64(defaultBlock)
	if n := settingInt(db.Settings, "block_size"); n > 0 {
		block = n
	}
	columns := map[int64][]Column{}
	for _, c := range db.Columns {
		columns[c.Table] = append(columns[c.Table], c)
	}
	for i := range db.Tables {
		t := &db.Tables[i]
		if cols := columns[t.OID]; len(cols) > 0 && t.Rows >= 0 && t.Pages > 0 {
			t.BloatBytes = tableBloat(t, cols, block)
		}
	}
	for i := range db.Indexes {
		x := &db.Indexes[i]
		if cols := columns[x.Table]; len(cols) > 0 && x.Method == "btree" && x.Rows > 0 && x.Pages > 1 && x.Expressions == "" {
			x.BloatBytes = indexBloat(x, cols, block)
		}
	}
}

func tableBloat(t *Table, cols []Column, block int64) *int64 {
	o, nullable, ok := rowWidth(cols)
	if !ok {
		return nil
	}
	header := roundUp(tupleHeader, maxAlign)
	if nullable {
		header = roundUp(tupleHeader+math.Ceil(float64(len(cols))/nullBitsPerRow), maxAlign)
	}
	o.pad(maxAlign)
	perPage := float64(block-pageHeader) * float64(t.FillFactor) / 100 / (header + o.at + linePointer)
	if varies(cols) {
		perPage -= 0.5 // the next row does not fit: on average half of one is lost
	} else {
		perPage = math.Floor(perPage)
	}
	needed := int64(math.Ceil(t.Rows/math.Max(1, perPage))) * block
	// The rows were counted when the pages were: what came since is no bloat.
	bloat := max(0, t.Pages*block-needed)
	return &bloat
}

// varies says whether the rows differ in width.
func varies(cols []Column) bool {
	for _, c := range cols {
		if c.Length < 0 || c.NullShare != nil && *c.NullShare > 0 && *c.NullShare < 1 {
			return true
		}
	}
	return false
}

// offset is a place in a row, on average over the rows, and what is known of it
// for all of them: at = rest (mod known).
type offset struct {
	at          float64
	known, rest int
}

// pad moves the offset to the next multiple of to. Where only a part of it is
// known, the other part is every value equally often.
func (o *offset) pad(to int) {
	lost := (o.known - o.rest) % o.known
	if to <= o.known {
		lost %= to
		o.at += float64(lost)
		o.rest = (o.rest + lost) % o.known
		return
	}
	o.at += float64(lost) + float64(to-o.known)/2
	o.known, o.rest = to, 0
}

// rowWidth walks the columns of a row: its average width, the padding that
// alignment costs included. Without statistics of every column it is not ok.
func rowWidth(cols []Column) (o offset, nullable, ok bool) {
	o = offset{known: maxAlign}
	for _, c := range cols {
		present := 1.0
		if c.NullShare != nil {
			present = 1 - *c.NullShare
			nullable = nullable || *c.NullShare > 0
		}
		if c.Length < 0 && c.Width == nil {
			return o, false, false
		}
		if present == 0 {
			continue
		}
		before := o.at
		switch {
		case c.Length > 0:
			o.pad(alignment(c.Align))
			o.at += float64(c.Length)
			o.rest = (o.rest + c.Length) % o.known
		case *c.Width > shortVarlena:
			o.pad(alignment(c.Align))
			o.at += *c.Width
			o.known, o.rest = 1, 0
		default: // up to here a value has a header of one byte, and no alignment
			o.at += *c.Width
			o.known, o.rest = 1, 0
		}
		if present < 1 { // a null takes no room, and no padding either
			o.at = before + present*(o.at-before)
			o.known, o.rest = 1, 0
		}
	}
	return o, nullable, true
}

func indexBloat(x *Index, cols []Column, block int64) *int64 {
	var keys []Column
	for _, number := range x.Keys {
		found := false
		for _, c := range cols {
			if c.Number == number {
				keys, found = append(keys, c), true
			}
		}
		if !found {
			return nil
		}
	}
	o, nullable, ok := rowWidth(keys)
	if !ok {
		return nil
	}
	header := float64(indexTuple)
	if nullable {
		header += maxAlign // the bitmap, aligned
	}
	o.pad(maxAlign)
	tuple := header + o.at + linePointer
	perPage := math.Max(1, math.Floor(float64(block-pageHeader-btreeSpecial)*float64(x.FillFactor)/100/tuple))
	leaves := math.Ceil(x.Rows / perPage)
	pages := leaves + math.Ceil(leaves/perPage) + 1 // inner pages and the first
	bloat := max(0, x.Pages*block-int64(pages)*block)
	return &bloat
}

func roundUp(n, to float64) float64 { return math.Ceil(n/to) * to }

func alignment(code string) int {
	switch code {
	case "d":
		return 8
	case "i":
		return 4
	case "s":
		return 2
	default:
		return 1
	}
}
