package keyring

import (
	"errors"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// TestRequestAllocations: a TDES request costs the one allocation of its HostOps, once transactions have ended before. The room
// of a new transaction has some 6 KB.
func TestRequestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector a pool drops some of what it is given")
	}
	r, _ := create(t)
	generate(t, r, "bdk", bdkTDES, keyset.Test)
	e, base, ksn := r.Engine(), alias(t, "bdk"), mustKSN(t)
	msg, mac, room := make([]byte, 64), make([]byte, 8), make([]byte, 0, 64)
	request := func() {
		ops, err := e.Begin(t.Context(), base, ksn)
		if err != nil {
			t.Fatal(err)
		}
		defer ops.End()
		if err := ops.VerifyMAC(dukpt.TDES.DefaultMAC(), msg, mac); !errors.Is(err, dukpt.ErrVerify) {
			t.Fatal(err)
		}
		if _, err := ops.DecryptData(room, dukpt.TDES.DefaultData(), msg); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(100, request); n > 1 {
		t.Errorf("%v allocations for a request", n)
	}
}

// TestEndedOpsStayEnded: the transaction of ended operations is another's soon, whom they must not reach.
func TestEndedOpsStayEnded(t *testing.T) {
	t.Parallel()
	r, _ := create(t)
	for name, a := range map[string]keys.Attributes{"tdes": bdkTDES, "aes": bdkAES} {
		generate(t, r, name, a, keyset.Test)
	}
	aesKSN, err := dukpt.ParseKSNHex("123456789012345600000001")
	if err != nil {
		t.Fatal(err)
	}
	begin := func(name string, ksn dukpt.KSN) *ops {
		t.Helper()
		o, err := r.Engine().Begin(t.Context(), alias(t, name), ksn)
		if err != nil {
			t.Fatal(err)
		}
		return o.(*ops)
	}
	first := begin("tdes", mustKSN(t))
	reused := false
	for range 100 { // a pool may forget what it is given
		tx := first.tx
		first.End()
		first.End()
		second, third := begin("aes", aesKSN), begin("aes", aesKSN)
		if second.tx == third.tx {
			t.Fatal("two requests have one transaction")
		}
		if second.tx.KSN() != aesKSN {
			t.Fatalf("a request has the KSN %v", second.tx.KSN())
		}
		if _, err := first.MACResponse(nil, dukpt.TDES.DefaultMAC(), nil); !errors.Is(err, engine.ErrEnded) {
			t.Fatalf("after End: %v", err)
		}
		reused = reused || second.tx == tx || third.tx == tx
		third.End()
		first = second
	}
	if !reused {
		t.Error("no transaction was used again")
	}
	// A base key that refuses a KSN leaves nothing behind.
	if _, err := r.Engine().Begin(t.Context(), alias(t, "aes"), mustKSN(t)); !errors.Is(err, engine.ErrUsage) {
		t.Errorf("a KSN of the other scheme: %v", err)
	}
	first.End()
}
