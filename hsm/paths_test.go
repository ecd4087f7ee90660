package hsm

import (
	"fmt"
	"slices"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/pin"
)

// keysOf derives, in the host, every key that the token has to keep to itself for a transaction.
func keysOf(t *testing.T, ksn dukpt.KSN) (all [][]byte) {
	t.Helper()
	node := unhex(aesBDK)
	all = append(all, node)
	encrypt := func(d dukpt.Derivation) []byte {
		out := make([]byte, len(d.Data))
		for at := 0; at < len(out); at += 16 {
			inAES(node).Encrypt(out[at:], d.Data[at:at+16])
		}
		return out[:d.Key.Algorithm().KeyBytes()]
	}
	first, err := ksn.KeyID().InitialDerivation(dukpt.KeyAES128)
	if err != nil {
		t.Fatal(err)
	}
	_, steps, err := ksn.Derivations(dukpt.KeyAES128)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range append([]dukpt.Derivation{first}, steps...) {
		node = encrypt(d)
		all = append(all, node)
	}
	sealed := dukpt.PINBlock{Format: pin.Format4, PAN: must(pin.ParsePAN("4111111111111111"))}
	all = append(all, encrypt(must(sealed.Derivation(ksn, dukpt.KeyAES128))))
	for _, way := range []dukpt.Direction{dukpt.Request, dukpt.Response} {
		data := dukpt.AES.DefaultData()
		data.Direction = way
		all = append(all, encrypt(must(dukpt.AES.DefaultMAC().Derivation(ksn, dukpt.KeyAES128, way))))
		all = append(all, encrypt(must(data.Derivation(ksn, dukpt.KeyAES128, way))))
	}
	return all
}

// TestConsecutive counts what the transactions of one terminal cost, and sees that no key passes into or out of the token.
func TestConsecutive(t *testing.T) {
	t.Parallel()
	const transactions = 200
	o, faults := withFaults(Options{}, nil)
	token := open(t, o)
	f, e := *faults, token.Engine()
	base, till := put(t, token, keys.AES128), newTill(t, keys.AES128, "1234567890123456")
	first := till.send(t)
	if err := first.verify(t, e, base); err != nil { // the way to a terminal that was never here
		t.Fatal(err)
	}
	work := make([]sent, transactions)
	for i := range work {
		work[i] = till.send(t)
		secrets := keysOf(t, work[i].ksn)
		f.mu.Lock()
		f.secrets = append(f.secrets, secrets...)
		f.mu.Unlock()
	}
	before := map[string]int{}
	names := []string{"deriveKey", "destroyObject", "findObjects", "attributes", "openSession", "sign"}
	for _, name := range names {
		before[name] = f.count(name)
	}
	for _, s := range work {
		if err := s.verify(t, e, base); err != nil {
			t.Fatal(err)
		}
	}
	made := map[string]int{}
	for _, name := range names {
		made[name] = f.count(name) - before[name]
	}
	if per := float64(made["deriveKey"]) / transactions; per > 2.1 {
		t.Errorf("%.2f C_DeriveKey for each transaction, want 2.1 at most", per)
	}
	if made["findObjects"] != 0 || made["attributes"] != 0 || made["sign"] != transactions {
		t.Errorf("calls: %v", made)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.leaks) > 0 {
		t.Errorf("%d keys pass, the first: %s", len(f.leaks), f.leaks[0])
	}
	t.Logf("%d transactions: %v", transactions, made)
}

// TestLeakNoticed makes sure that the test above can fail: what is decrypted passes, and is noticed.
func TestLeakNoticed(t *testing.T) {
	t.Parallel()
	o, faults := withFaults(Options{}, nil)
	token := open(t, o)
	base := put(t, token, keys.AES128)
	ksn := newTill(t, keys.AES128, "1234567890123456").send(t).ksn
	ops, err := token.Engine().Begin(t.Context(), base, ksn)
	if err != nil {
		t.Fatal(err)
	}
	defer ops.End()
	plain, err := ops.DecryptData(nil, dukpt.AES.DefaultData(), make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	f := *faults
	f.mu.Lock()
	f.secrets = [][]byte{plain}
	f.mu.Unlock()
	if _, err := ops.DecryptData(nil, dukpt.AES.DefaultData(), make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.leaks) != 1 {
		t.Errorf("noticed %v", f.leaks)
	}
}

// TestCacheBound has more terminals than the cache has room for, and one transaction after another out of order.
func TestCacheBound(t *testing.T) {
	t.Parallel()
	for _, most := range []int{-1, 10, 4096} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			t.Parallel()
			o, faults := withFaults(Options{CacheObjects: most}, nil)
			token := open(t, o)
			f, e := *faults, token.Engine()
			base := put(t, token, keys.AES128)
			var work []sent
			for n := range 12 {
				x := newTill(t, keys.AES128, fmt.Sprintf("12345678901234%02d", n))
				for range 5 {
					work = append(work, x.send(t))
				}
			}
			again := slices.Clone(work)
			slices.Reverse(again)
			for _, s := range append(work, again...) {
				if err := s.verify(t, e, base); err != nil {
					t.Fatalf("%v: %v", s.ksn, err)
				}
				if _, objects, _ := f.live(); objects > max(most, 0) {
					t.Fatalf("%d objects in the token, want %d at most", objects, most)
				}
			}
			stats := token.Stats()
			if stats.CachedKeys > max(most, 0) || (stats.Evictions > 0) != (most < 4096) {
				t.Errorf("%+v", stats)
			}
			if _, objects, _ := f.live(); objects != stats.CachedKeys {
				t.Errorf("%d objects, %d cached", objects, stats.CachedKeys)
			}
		})
	}
}

// TestUnsupported asks for working keys that the token has no mechanism for.
func TestUnsupported(t *testing.T) {
	t.Parallel()
	token := open(t, Options{})
	base := put(t, token, keys.AES128)
	ksn := newTill(t, keys.AES128, "1234567890123456").send(t).ksn
	ops, err := token.Engine().Begin(t.Context(), base, ksn)
	if err != nil {
		t.Fatal(err)
	}
	defer ops.End()
	for name, s := range map[string]dukpt.MACSpec{
		"retail MAC":           {Algorithm: dukpt.MACRetail, Key: dukpt.KeyTDES2, Padding: dukpt.MACPadding2, Length: 8},
		"HMAC under 128 bits":  {Algorithm: dukpt.MACHMACSHA256, Key: dukpt.KeyHMAC128, Length: 32},
		"no algorithm":         {Key: dukpt.KeyAES128, Length: 16},
		"no such working key":  {Algorithm: dukpt.MACCMAC, Key: 99, Length: 16},
		"TDES MAC without key": {Algorithm: dukpt.MACCMAC, Length: 8},
	} {
		if err := expect(ops.VerifyMAC(s, message, make([]byte, s.Length)), dukpt.ErrUnsupported); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if out, err := ops.MACResponse(nil, s, message); len(out) != 0 || expect(err, dukpt.ErrUnsupported) != nil {
			t.Errorf("response, %s: %X, %v", name, out, err)
		}
	}
	if err := expect(ops.VerifyMAC(dukpt.MACSpec{Algorithm: dukpt.MACCMAC, Key: dukpt.KeyAES256, Length: 16}, message, make([]byte, 16)), dukpt.ErrStrength); err != nil {
		t.Error(err)
	}
	if n := token.Stats().CachedKeys; n != 2 {
		t.Errorf("%d cached keys, want the initial key and that of the transaction", n)
	}
}

// TestDroppedPath has a caller come to a path that was dropped while it waited: it takes another one.
func TestDroppedPath(t *testing.T) {
	t.Parallel()
	p := newPaths(&connection{owners: []*owner{{turn: newTurn()}}}, 0, &counts{})
	id := pathID{newID(), must(dukpt.ParseKeyID("1234567890123456"))}
	way := must(p.take(t.Context(), id))
	way.turn.give()
	p.objects = 1
	if err := p.settle(t.Context(), 0); err != nil || !way.gone {
		t.Fatalf("%v, gone: %v", err, way.gone)
	}
	p.byKey[id] = way // as a caller has it that looked before
	found := make(chan *path)
	go func() { found <- must(p.take(t.Context(), id)) }()
	p.mu.Lock()
	delete(p.byKey, id)
	p.mu.Unlock()
	if next := <-found; next == way {
		t.Error("a dropped path is used again")
	}
}
