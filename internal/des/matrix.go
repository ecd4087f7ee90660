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

// transpose swaps squares of half the size off the diagonal, then those inside each quarter, and so on.
func (m *matrix) transpose() {
	const all = ^word(0)
	if Lanes == 64 {
		m.swap(Lanes/2, all/(1<<(Lanes/2)+1))
	}
	m.swap(16, all/(1<<16+1))
	m.swap(8, all/(1<<8+1))
	m.swap(4, all/(1<<4+1))
	m.swap(2, all/(1<<2+1))
	m.swap(1, all/(1<<1+1))
}

// swap swaps squares of one size; mask has ones in the right half of every 2 size bits.
func (m *matrix) swap(size int, mask word) {
	for top := 0; top < 64; top += 2 * size {
		for i := top; i < top+size; i++ {
			a, b := m[i&63], m[(i+size)&63]
			t := (a ^ b>>size) & mask
			m[i&63], m[(i+size)&63] = a^t, b^t<<size
		}
	}
}

func (m *matrix) wipe() {
	*m = matrix{}
	runtime.KeepAlive(m)
}
