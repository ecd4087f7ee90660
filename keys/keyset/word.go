package keyset

import (
	"fmt"
	"slices"
)

// words spells the values of an enumeration that starts at 1: value n is words[n-1].
type words []string

func (w words) spell(v uint8) string {
	if v < 1 || int(v) > len(w) {
		return fmt.Sprintf("invalid(%d)", v)
	}
	return w[v-1]
}

func (w words) known(v uint8) bool { return v >= 1 && int(v) <= len(w) }

// marshal refuses values without a word, the zero value among them.
func (w words) marshal(what string, v uint8) ([]byte, error) {
	if !w.known(v) {
		return nil, fmt.Errorf("keyset: %s has no value", what)
	}
	return []byte(w[v-1]), nil
}

func (w words) parse(what, s string) (uint8, error) {
	i := slices.Index(w, s)
	if i < 0 {
		return 0, fmt.Errorf("keyset: unknown %s, want one of %v", what, []string(w))
	}
	return uint8(i + 1), nil
}

func parseWord[T ~uint8](w words, what, s string) (T, error) {
	v, err := w.parse(what, s)
	return T(v), err
}

func unmarshalWord[T ~uint8](dst *T, w words, what string, text []byte) error {
	v, err := w.parse(what, string(text))
	if err != nil {
		return err
	}
	*dst = T(v)
	return nil
}
