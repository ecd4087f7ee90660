package des

import "runtime"

// matrix turns blocks, a word for each lane, into planes, a word for each bit, and back. As planes, word i is bit i of all
// lanes, counted from the left. On 32-bit machines it is two squares, one for each half of the blocks.
type matrix [64]word

// load takes the blocks of at most Lanes lanes and turns them into planes.
func (m *matrix) load(blocks []uint64) {
	*m = matrix{}
	for i, x := range blocks[:min(len(blocks), Lanes)] {
		if Lanes == 64 {
			m[63-i] = word(x)
		} else {
			m[31-i&31], m[63-i] = word(x>>32), word(x)
		}
	}
	m.transpose()
}

// store turns planes into blocks and takes those of the first lanes out.
func (m *matrix) store(blocks []uint64) {
	m.transpose()
	for i := range blocks[:min(len(blocks), Lanes)] {
		if Lanes == 64 {
			blocks[i] = uint64(m[63-i])
		} else {
			blocks[i] = uint64(m[31-i&31])<<32 | uint64(m[63-i])
		}
	}
}

// transpose swaps squares of half the size off the diagonal, then those inside each quarter, and so on. Three sizes at a time
// concern eight rows only, which stay in registers.
func (m *matrix) transpose() {
	const all = ^word(0)
	for i := range 8 {
		a, b, c, d := m[i], m[8+i], m[16+i], m[24+i]
		e, f, g, h := m[32+i], m[40+i], m[48+i], m[56+i]
		if Lanes == 64 {
			const mask = all / (1<<(Lanes/2) + 1)
			a, e = swap(a, e, Lanes/2, mask)
			b, f = swap(b, f, Lanes/2, mask)
			c, g = swap(c, g, Lanes/2, mask)
			d, h = swap(d, h, Lanes/2, mask)
		}
		a, c = swap(a, c, 16, all/(1<<16+1))
		b, d = swap(b, d, 16, all/(1<<16+1))
		e, g = swap(e, g, 16, all/(1<<16+1))
		f, h = swap(f, h, 16, all/(1<<16+1))
		a, b = swap(a, b, 8, all/(1<<8+1))
		c, d = swap(c, d, 8, all/(1<<8+1))
		e, f = swap(e, f, 8, all/(1<<8+1))
		g, h = swap(g, h, 8, all/(1<<8+1))
		m[i], m[8+i], m[16+i], m[24+i] = a, b, c, d
		m[32+i], m[40+i], m[48+i], m[56+i] = e, f, g, h
	}
	for i := range 8 {
		r := (*[8]word)(m[8*i:])
		a, b, c, d, e, f, g, h := r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]
		a, e = swap(a, e, 4, all/(1<<4+1))
		b, f = swap(b, f, 4, all/(1<<4+1))
		c, g = swap(c, g, 4, all/(1<<4+1))
		d, h = swap(d, h, 4, all/(1<<4+1))
		a, c = swap(a, c, 2, all/(1<<2+1))
		b, d = swap(b, d, 2, all/(1<<2+1))
		e, g = swap(e, g, 2, all/(1<<2+1))
		f, h = swap(f, h, 2, all/(1<<2+1))
		r[0], r[1] = swap(a, b, 1, all/(1<<1+1))
		r[2], r[3] = swap(c, d, 1, all/(1<<1+1))
		r[4], r[5] = swap(e, f, 1, all/(1<<1+1))
		r[6], r[7] = swap(g, h, 1, all/(1<<1+1))
	}
}

// swap swaps the left bits of b that are size wide with the right bits of a; mask has ones in the right half of every 2 size
// bits.
func swap(a, b word, size uint, mask word) (word, word) {
	t := (a ^ b>>size) & mask
	return a ^ t, b ^ t<<size
}

func (m *matrix) wipe() {
	*m = matrix{}
	runtime.KeepAlive(m)
}
