package pin

import (
	"errors"
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/testvec"
)

var refusalClasses = map[string]error{"block": ErrBlock, "pin": ErrPIN, "pan": ErrPAN}

var refusalHandlers = map[string]testvec.Handler{
	"decode": func(v testvec.Vector) (int, error) {
		f, err := ParseFormat(v.String("format"))
		if err != nil {
			return 0, err
		}
		pan, err := ParsePAN(v.String("pan"))
		if err != nil {
			return 0, err
		}
		p := NewOpened()
		defer p.Wipe()
		err = f.Decode(&p, v.Hex("block"), pan)
		right := false
		if v.Has("pin") {
			want, wrong := ParsePIN([]byte(v.String("pin")))
			if wrong != nil {
				return 0, wrong
			}
			right = err == nil && *p.bytes().pin() == *want.bytes()
		}
		return judgeRefusal(v, err, right)
	},
	"pin": func(v testvec.Vector) (int, error) {
		p, err := ParsePIN([]byte(v.String("pin")))
		return judgeRefusal(v, err, err == nil && !p.IsZero())
	},
	"pan": func(v testvec.Vector) (int, error) {
		_, err := ParsePAN(v.String("pan"))
		return judgeRefusal(v, err, err == nil)
	},
}

// TestVectorsRefusals runs what is published as vectors with failure classes.
func TestVectorsRefusals(t *testing.T) {
	t.Parallel()
	testvec.Run(t, "refusals-pin", refusalHandlers)
}

// judgeRefusal holds how a parser ended against the class of the vector.
func judgeRefusal(v testvec.Vector, err error, right bool) (int, error) {
	class := v.String("class")
	want, refused := refusalClasses[class]
	if class == "ok" && right || refused && errors.Is(err, want) {
		return 1, nil
	}
	return 1, fmt.Errorf("ended with %v, want class %s (%s)", err, class, v.String("why"))
}
