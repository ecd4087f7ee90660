package hsm

import (
	"errors"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/decrypt/engine/enginetest"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/pin"
)

// TestOpencryptoki runs the tests of the software token of opencryptoki, one after the other: it has one.
func TestOpencryptoki(t *testing.T) {
	t.Parallel()
	if !Built {
		hsmtest.Absent(t, ErrNoBridge)
	}
	hsmtest.Apart(t, "^TestSlot")
}

// slots lets one test at a time have the token.
var slots sync.Mutex

// slot makes the software token anew, for this test alone.
func slot(t *testing.T) URI {
	t.Helper()
	slots.Lock()
	t.Cleanup(slots.Unlock)
	return mustURI(t, hsmtest.Opencryptoki(t).URI())
}

// TestSlotConformance runs the suite on a token that derives nothing: every initial key comes out for one request.
func TestSlotConformance(t *testing.T) {
	mustURI(t, hsmtest.Opencryptoki(t).URI())
	enginetest.Run(t, func(t *testing.T) enginetest.Fixture {
		token := openAgain(t, slot(t), Options{})
		return fixture(t, token, engine.BDKInToken)
	})
}

// TestSlotProbe holds what the page of tokens says of opencryptoki against what it does.
func TestSlotProbe(t *testing.T) {
	token := openAgain(t, slot(t), Options{})
	put(t, token, keys.AES128)
	put(t, token, keys.TDES2)
	r, err := token.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	can := map[string]bool{
		CheckAESECB: true, CheckAESCBC: true, CheckDES3ECB: true, CheckDES3CBC: true, CheckHMAC: true, CheckShortHMAC: true, CheckBlockWrap: true,
		CheckBlockDES3: true,
	}
	for _, c := range r.Checks {
		if c.OK != can[c.Name] || !c.OK && c.Why != rvMechanism.Error() {
			t.Errorf("%+v", c)
		}
	}
	for _, k := range r.Keys {
		if k.KeyMode != engine.BDKInToken || k.PINExposure != engine.HostMemory {
			t.Errorf("%+v", k)
		}
	}
}

// TestSlotPINs goes the way to a locked token: a wrong PIN is tried once, the one before the last not at all.
func TestSlotPINs(t *testing.T) {
	u := slot(t)
	try := func(pin string, o Options) error {
		token, err := Open(t.Context(), u, secret.From([]byte(pin)), o)
		if err == nil {
			err = token.Close()
		}
		return err
	}
	for _, step := range []struct {
		name string
		pin  string
		o    Options
		want error
		rv   rv // 0: the token was not asked
	}{
		{"wrong once", "00000000", Options{}, ErrPIN, rvPINIncorrect},
		{"right: the count begins anew", hsmtest.PIN, Options{}, nil, 0},
		{"wrong", "00000000", Options{}, ErrPIN, rvPINIncorrect},
		{"wrong again", "00000000", Options{}, ErrPIN, rvPINIncorrect},
		{"one try is left: it is not taken", hsmtest.PIN, Options{}, ErrPINTries, 0},
		{"nor by a wrong PIN", "00000000", Options{}, ErrPINTries, 0},
		{"forced, and right", hsmtest.PIN, Options{FinalTry: true}, nil, 0},
		{"wrong", "00000000", Options{}, ErrPIN, rvPINIncorrect},
		{"wrong again", "00000000", Options{}, ErrPIN, rvPINIncorrect},
		{"forced, and wrong", "00000000", Options{FinalTry: true}, ErrPIN, rvPINIncorrect},
		{"locked", hsmtest.PIN, Options{FinalTry: true}, ErrPINTries, 0},
	} {
		err := try(step.pin, step.o)
		if !errors.Is(err, step.want) {
			t.Fatalf("%s: got %v, want %v", step.name, err, step.want)
		}
		if asked := err != nil && errors.As(err, new(rv)); asked != (step.rv != 0) || asked && !errors.Is(err, step.rv) {
			t.Errorf("%s: got %v, want return value 0x%X", step.name, err, uint(step.rv))
		}
	}
}

// TestSlotCarries carries PIN blocks of every format between keys of the token with the uses of those in service, and compares
// with the blocks that software makes. The token derives nothing, so the PIN keys are put there.
func TestSlotCarries(t *testing.T) {
	token := openAgain(t, slot(t), Options{CarryPINs: true})
	pan, fill, p := must(pin.ParsePAN("4111111111111111")), pin.Fill{7}, must(pin.ParsePIN([]byte("1234")))
	for _, f := range []pin.Format{pin.Format0, pin.Format1, pin.Format3, pin.Format4, pin.Format4PAN12} {
		a, code, uses := keys.AES128, uint(mechAESECB), carryAES
		if f.BlockSize() == 8 {
			a, code, uses = keys.TDES2, mechDES3ECB, carryDES3
		}
		block := must(f.Encrypt(nil, must(blockOf(a, unhex(tdesBDK))), p, pan, fill))
		want := must(f.Encrypt(nil, must(blockOf(a, unhex(zoneKey))), p, pan, fill))
		err := token.use(t.Context(), func(c *connection, l *lease) error {
			prober := &prober{device: c.device, session: l.session, shape: token.shape}
			defer prober.tidy()
			from, err := prober.put(a, unhex(tdesBDK), uses...)
			if err != nil {
				return err
			}
			to, err := prober.put(a, unhex(zoneKey), carryZone...)
			if err != nil {
				return err
			}
			way := token.shape.carriageOf(f.BlockSize() == 8)
			w := carrier{device: c.device, lease: l, connection: c, mechanism: mechanism{code: code}, template: way.template()}
			got, err := w.carry(from, to, dukpt.PINBlock{Format: f, PAN: pan, Block: block}, pan)
			if err != nil {
				return err
			}
			return compare(f.String(), got, want)
		})
		if err != nil {
			t.Errorf("%v: %v", f, err)
		}
	}
	// A base key whose initial keys come out has PIN keys in the host: its label does not say none.
	base := put(t, token, keys.AES128)
	if info := must(token.Engine().Describe(t.Context(), base)); info.Labels.PINExposure != engine.HostMemory {
		t.Errorf("%+v", info)
	}
}
