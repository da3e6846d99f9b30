package inflate

import "math/bits"

// A table maps the next bits of the input to what they mean. An entry holds, from
// its low end: 8 bits, how many bits the code takes; 4, how many more belong to
// the value; 4 flags; and the value: a literal, the base of a length or distance,
// or where a subtable begins.
type table struct {
	width   uint // bits that index its first part; longer codes lead to a subtable
	entries []uint32
}

// The flags. An entry that no code leads to is special and nothing else.
const (
	special    = 1 << 12 // no length and no distance
	subtable   = 1 << 13
	endOfBlock = 1 << 14
	literal    = 1 << 15
)

const (
	litBits, distBits = 11, 8
	maxCode           = 15  // bits
	maxLength         = 258 // bytes of a match
	endSymbol         = 256
	litCodes          = 288
	distCodes         = 32
)

// litEntry and distEntry are a symbol's entry, but for the length of its code.
func litEntry(symbol int) uint32 {
	switch {
	case symbol < endSymbol:
		return uint32(symbol)<<16 | literal
	case symbol == endSymbol:
		return special | endOfBlock
	}
	n := symbol - endSymbol - 1
	switch {
	case n < 8:
		return uint32(3+n) << 16
	case n < 28:
		more := uint32(n/4 - 1)
		return (3+uint32(4+n%4)<<more)<<16 | more<<8
	case n == 28:
		return maxLength << 16
	}
	return special
}

func distEntry(symbol int) uint32 {
	switch {
	case symbol < 4:
		return uint32(1+symbol) << 16
	case symbol < 30:
		more := uint32(symbol/2 - 1)
		return (1+uint32(2+symbol%2)<<more)<<16 | more<<8
	}
	return special
}

// build fills the table for codes of the given lengths, 0 for none. It refuses
// codes that overlap, and those that leave gaps unless there is one code alone.
func (t *table) build(lengths []byte, width uint, entry func(symbol int) uint32) bool {
	var count, next [maxCode + 2]int
	for _, n := range lengths {
		count[n]++
	}
	used := len(lengths) - count[0]
	count[0] = 0
	room := 1 // codes of this length that are free
	for n := 1; n <= maxCode; n++ {
		room = room*2 - count[n]
		if room < 0 {
			return false
		}
		next[n+1] = (next[n] + count[n]) * 2
	}
	if room > 0 && used > 1 {
		return false
	}
	t.width = width
	if cap(t.entries) < 1<<width {
		t.entries = make([]uint32, 1<<width, 1<<(width+1))
	}
	t.entries = t.entries[:1<<width]
	for i := range t.entries {
		t.entries[i] = special
	}
	long := maxCode
	for long > 0 && count[long] == 0 {
		long--
	}
	for symbol, n := range lengths {
		if n == 0 {
			continue
		}
		code := uint(bits.Reverse16(uint16(next[n])) >> (16 - n))
		next[n]++
		t.enter(code, uint(n), uint(long), entry(symbol))
	}
	return true
}

// enter puts one code in, of n bits, everywhere that it leads to. Every subtable
// is as wide as the longest code asks for.
func (t *table) enter(code, n, long uint, e uint32) {
	part, step := t.entries[:1<<t.width], uint(1)<<n
	if n > t.width {
		first := code & (1<<t.width - 1)
		wide := long - t.width
		if t.entries[first]&subtable == 0 {
			at := len(t.entries)
			t.entries[first] = uint32(at)<<16 | uint32(wide)<<8 | special | subtable
			for range 1 << wide {
				t.entries = append(t.entries, special)
			}
		}
		at := t.entries[first] >> 16
		part = t.entries[at : at+1<<wide]
		code >>= t.width
		n -= t.width
		step = 1 << n
	}
	for i := code; i < uint(len(part)); i += step {
		part[i] = e | uint32(n)
	}
}

// fixedTables builds the codes that the format itself has.
func (d *Decoder) fixedTables() bool {
	var lengths [litCodes + distCodes]byte
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		case i < litCodes:
			lengths[i] = 8
		default:
			lengths[i] = 5
		}
	}
	return d.lit.build(lengths[:litCodes], litBits, litEntry) && d.dist.build(lengths[litCodes:], distBits, distEntry)
}

// dynamicTables reads the codes that a block brings with it.
func (d *Decoder) dynamicTables() bool {
	head, ok := d.in.take(14)
	lits, dists, metas := int(head&31)+257, int(head>>5&31)+1, int(head>>10)+4
	if !ok || lits > 286 || dists > 30 {
		return false
	}
	order := [19]int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
	var meta [19]byte
	for i := range metas {
		n, ok := d.in.take(3)
		if !ok {
			return false
		}
		meta[order[i]] = byte(n)
	}
	const metaBits = 7
	if !d.dist.build(meta[:], metaBits, func(symbol int) uint32 { return uint32(symbol) << 16 }) {
		return false
	}
	var lengths [litCodes + distCodes]byte
	for i := 0; i < lits+dists; {
		e, ok := d.in.symbol(&d.dist)
		if !ok || e&special != 0 {
			return false
		}
		symbol := e >> 16
		if symbol <= maxCode {
			lengths[i] = byte(symbol)
			i++
			continue
		}
		repeat := [3]struct{ base, more uint }{{3, 2}, {3, 3}, {11, 7}}[symbol-16]
		more, ok := d.in.take(repeat.more)
		n := int(repeat.base) + int(more)
		if !ok || i+n > lits+dists || symbol == 16 && i == 0 {
			return false
		}
		for range n {
			if symbol == 16 {
				lengths[i] = lengths[i-1]
			}
			i++
		}
	}
	return lengths[endSymbol] > 0 && d.lit.build(lengths[:lits], litBits, litEntry) && d.dist.build(lengths[lits:lits+dists], distBits, distEntry)
}
