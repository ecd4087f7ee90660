package decrypt

import (
	"fmt"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// imported says in the feed that the keys of a terminal were used elsewhere, up to an ordinal.
func imported(floor uint32) func(*keyset.Terminal) {
	return func(t *keyset.Terminal) {
		for i := range t.Slots {
			t.Slots[i].Floor = floor
		}
	}
}

// TestImportedFloors has a terminal whose keys another host has answered up to ordinal 5. What is at or below that is never answered here, on
// either path, from the first record of the feed on; a higher floor of another list holds too, a service that is started anew knows it
// from its own store, and a registry that forgets it does not lower it.
func TestImportedFloors(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	o := openOffice(t, p)
	o.publish("T-1", imported(5))
	r := start(t, p, following(t, o, c))
	r.ready()
	for n := uint32(1); n <= 5; n++ {
		r.expect("answered elsewhere", r.sale(n, 100), "KsnTooOld")
	}
	sixth := r.sale(6, 100)
	r.expect("the next one", sixth, "FRESH")
	floor := func() (least uint32) {
		t.Helper()
		res := must[*api.CountersResponse](t)(r.api().Counters(t.Context(), "T-1"))
		for i, s := range res.Slots {
			if i == 0 || s.Floor < least {
				least = s.Floor
			}
		}
		return least
	}
	if got := floor(); got != 5 {
		t.Errorf("the floor is %d, want 5", got)
	}
	kept := func(n int) {
		t.Helper()
		want := fmt.Sprintf("\nlatchkey_imported_floors_total %d\n", n)
		until(t, want, func() bool { _, body := r.admin("/metrics"); return strings.Contains(body, want) })
	}
	kept(2) // the terminal has two keys
	o.publish("T-1", imported(20))
	r.knows(2)
	r.expect("below the higher floor", r.sale(20, 100), "KsnTooOld")
	r.expect("what was answered here", sixth, "RESEND")
	kept(4)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	o.publish("T-1", imported(0)) // a registry that was restored has lost it
	r = start(t, p, following(t, o, c))
	r.ready()
	r.expect("with a registry that has forgotten", r.sale(19, 100), "KsnTooOld")
	if got := floor(); got != 20 {
		t.Errorf("the floor is %d, want 20", got)
	}
	r.expect("above", r.sale(21, 100), "FRESH")
}
