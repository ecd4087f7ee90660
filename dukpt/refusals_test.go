package dukpt

import (
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/testvec"
)

var refusalHandlers = map[string]testvec.Handler{
	"ksn":       refusedKSN(ParseKSNHex),
	"short_ksn": refusedKSN(parseShortHex),
	"descriptor": func(v testvec.Vector) (int, error) {
		return refusedKSN(func(s string) (KSN, error) {
			d, err := ParseDescriptor(v.String("descriptor"))
			if err != nil {
				return KSN{}, err
			}
			return d.Parse(s)
		})(v)
	},
	"key_id": func(v testvec.Vector) (int, error) {
		id, err := ParseKeyID(v.String("input"))
		return judge(v, err, err == nil && !id.IsZero())
	},
}

// TestVectorsRefusals runs what is published as vectors with failure classes.
func TestVectorsRefusals(t *testing.T) {
	t.Parallel()
	testvec.Run(t, "refusals-ksn", refusalHandlers)
}

func TestVectorsRefusalsFlipped(t *testing.T) {
	t.Parallel()
	testvec.Flip(t, "refusals-ksn", refusalHandlers, map[string][]string{})
}

func parseShortHex(s string) (KSN, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return KSN{}, fmt.Errorf("%w: %v", ErrKSN, err)
	}
	return ParseShortKSN(b)
}

func refusedKSN(parse func(string) (KSN, error)) testvec.Handler {
	return func(v testvec.Vector) (int, error) {
		ksn, err := parse(v.String("input"))
		return judge(v, err, err == nil && fmt.Sprintf("%08X", ksn.Counter()) == v.String("counter"))
	}
}

// judge holds how a parser ended against the class of the vector.
func judge(v testvec.Vector, err error, right bool) (int, error) {
	switch class := v.String("class"); {
	case class == "ok" && right, class == "ksn" && errors.Is(err, ErrKSN):
		return 1, nil
	default:
		return 1, fmt.Errorf("ended with %v, want class %s (%s)", err, class, v.String("why"))
	}
}
