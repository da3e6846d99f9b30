package inflate

import "encoding/binary"

// bitReader reads bits, the least first. Above the bits that it has, bits may
// hold those that follow in src.
type bitReader struct {
	src  []byte
	pos  int // bytes taken into bits
	bits uint64
	have uint
}

// fill takes in whole bytes while there are any, to less than 64 bits.
func (r *bitReader) fill() {
	for r.have < 56 && r.pos < len(r.src) {
		r.bits |= uint64(r.src[r.pos]) << r.have
		r.pos++
		r.have += 8
	}
}

// take returns the next n bits, at most 16.
func (r *bitReader) take(n uint) (uint64, bool) {
	r.fill()
	if r.have < n {
		return 0, false
	}
	v := r.bits & (1<<n - 1)
	r.bits >>= n
	r.have -= n
	return v, true
}

// symbol returns the entry of the next symbol.
func (r *bitReader) symbol(t *table) (uint32, bool) {
	r.fill()
	e := t.entries[r.bits&(1<<t.width-1)]
	if e&subtable != 0 {
		if r.have < t.width {
			return 0, false
		}
		r.bits >>= t.width
		r.have -= t.width
		e = t.entries[uint64(e>>16)+r.bits&(1<<(e>>8&15)-1)]
	}
	n := uint(e & 63)
	if r.have < n {
		return 0, false
	}
	r.bits >>= n
	r.have -= n
	return e, true
}

// align drops the rest of the byte, and gives back what was taken in ahead.
func (r *bitReader) align() {
	r.pos -= int(r.have / 8)
	r.bits, r.have = 0, 0
}

// stored copies a block that is not compressed.
func (r *bitReader) stored(dst []byte, out int) (int, bool) {
	r.align()
	const head = 4
	if len(r.src)-r.pos < head {
		return out, false
	}
	n := binary.LittleEndian.Uint16(r.src[r.pos:])
	if n != ^binary.LittleEndian.Uint16(r.src[r.pos+2:]) {
		return out, false
	}
	r.pos += head
	if int(n) > len(r.src)-r.pos || int(n) > len(dst)-out {
		return out, false
	}
	out += copy(dst[out:], r.src[r.pos:r.pos+int(n)])
	r.pos += int(n)
	return out, true
}

// atEnd reports whether nothing but the rest of a byte is left.
func (r *bitReader) atEnd() bool {
	r.align()
	return r.pos == len(r.src)
}
