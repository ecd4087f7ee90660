package pin

// The separators of ISO/IEC 7813 after the PAN: track 1, track 2, and track 2 as chips and some readers write it.
const (
	separator1    = '^'
	separator2    = '='
	separator2Hex = 'D'
)

// FindPAN returns the PAN that clear card data begins with: track 1 ("%B4111…^"), track 2 (";4111…=" or "4111…D"), with
// or without its start sentinel, several tracks in a row, or the digits alone with zero bytes or 0x80 padding behind them.
// It fails with [ErrPAN] and repairs nothing. The caller still wipes track.
func FindPAN(track []byte) (PAN, error) {
	rest, separators := track, []byte{separator2, separator2Hex, 0x00, 0x80}
	switch {
	case len(rest) > 1 && rest[0] == '%' && rest[1] == 'B':
		rest, separators = rest[2:], []byte{separator1}
	case len(rest) > 0 && rest[0] == 'B':
		rest, separators = rest[1:], []byte{separator1}
	case len(rest) > 0 && rest[0] == ';':
		rest, separators = rest[1:], []byte{separator2}
	}
	n := 0
	for n < len(rest) && '0' <= rest[n] && rest[n] <= '9' {
		n++
	}
	if n == len(rest) && len(rest) == len(track) {
		return parsePAN(rest)
	}
	if n == len(rest) {
		return PAN{}, ErrPAN
	}
	for _, s := range separators {
		if rest[n] == s {
			return parsePAN(rest[:n])
		}
	}
	return PAN{}, ErrPAN
}
