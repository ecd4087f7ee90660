package keyblock

import (
	"errors"
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/testvec"
)

// TestVectorsRefusals runs what is published as vectors with failure classes.
func TestVectorsRefusals(t *testing.T) {
	t.Parallel()
	testvec.Run(t, "refusals-keyblock", map[string]testvec.Handler{"unwrap": refused})
}

func refused(v testvec.Vector) (int, error) {
	version := map[string]byte{"AES": 'D', "TDES": 'B'}[v.String("kbpk_algorithm")]
	p, err := protectorOf(version, v.Hex("kbpk"))
	if err != nil {
		return 0, err
	}
	content, err := p.Unwrap(v.String("block"))
	content.Wipe()
	switch class := v.String("class"); {
	case class == "ok" && err == nil,
		class == "block" && errors.Is(err, ErrBlock),
		class == "refused" && (errors.Is(err, ErrBlock) || errors.Is(err, ErrVersion)):
		return 1, nil
	default:
		return 1, fmt.Errorf("ended with %v, want class %s (%s)", err, class, v.String("why"))
	}
}
