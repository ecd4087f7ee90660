package enginetest

import (
	"bytes"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/pin"
)

const cardNumber = "4111111111111111"

func pinRoundTrip(t *testing.T, b *bench) {
	eachSide(t, func(t *testing.T, s side) {
		term := b.terminal(t, s.bdk, s.keyID)
		pan := newPAN(t, cardNumber)
		for _, digits := range []string{"1234", "00000", "987654321098"} {
			tx := term.next()
			block, err := tx.EncryptPIN(nil, s.format, newPIN(t, digits), pan)
			if err != nil {
				t.Fatal(err)
			}
			ops := b.begin(t, s.bdk, tx.KSN())
			tx.End()
			in := dukpt.PINBlock{Format: s.format, PAN: pan, Block: block}
			out := engine.PINOut{Format: s.format, PAN: pan, Key: b.refs[s.zone], Fill: [8]byte{9}}
			got, err := ops.TranslatePIN(nil, in, out)
			if err != nil {
				t.Fatalf("%s: %v", digits, err)
			}
			again, err := ops.TranslatePIN(nil, in, out)
			if err != nil || !bytes.Equal(got, again) {
				t.Errorf("the same translation again: got %X, %v; want %X", again, err, got)
			}
			p, err := b.openZone(t, s.zone, got, pan)
			if err != nil || !samePIN(t, p, digits, pan) {
				t.Errorf("%s: the zone finds another PIN (%v)", digits, err)
			}
		}
	})
}

// formatsAndPANs asks for what PCI PIN 3-3 forbids.
func formatsAndPANs(t *testing.T, b *bench) {
	pan, other := newPAN(t, cardNumber), newPAN(t, "4000000000000002")
	eachSide(t, func(t *testing.T, s side) {
		tx := b.terminal(t, s.bdk, s.keyID).next()
		block, err := tx.EncryptPIN(nil, s.format, newPIN(t, "1234"), pan)
		if err != nil {
			t.Fatal(err)
		}
		ops := b.begin(t, s.bdk, tx.KSN())
		_, err = ops.TranslatePIN(nil, dukpt.PINBlock{Format: s.format, PAN: pan, Block: block},
			engine.PINOut{Format: s.format, PAN: other, Key: b.refs[s.zone]})
		want(t, "another PAN on the way out", err, pin.ErrTranslation)
		for _, f := range []pin.Format{0, pin.Format1, pin.Format2} {
			_, err := ops.TranslatePIN(nil, dukpt.PINBlock{Format: s.format, PAN: pan, Block: block},
				engine.PINOut{Format: f, PAN: pan, Key: b.refs[s.zone]})
			if err == nil {
				t.Errorf("translation to format %v went through", f)
			}
		}
		for _, n := range []int{0, len(block) - 1, len(block) + 1} {
			_, err := ops.TranslatePIN(nil, dukpt.PINBlock{Format: s.format, PAN: pan, Block: append(bytes.Clone(block), 0)[:n]},
				engine.PINOut{Format: s.format, PAN: pan, Key: b.refs[s.zone]})
			want(t, "block of another length", err, dukpt.ErrLength)
		}
	})
}

func wrongPAN(t *testing.T, b *bench) {
	eachSide(t, func(t *testing.T, s side) {
		tx := b.terminal(t, s.bdk, s.keyID).next()
		block, err := tx.EncryptPIN(nil, s.format, newPIN(t, "1234"), newPAN(t, cardNumber))
		if err != nil {
			t.Fatal(err)
		}
		ops := b.begin(t, s.bdk, tx.KSN())
		other := newPAN(t, "4000005678901235")
		got, err := ops.TranslatePIN(nil, dukpt.PINBlock{Format: s.format, PAN: other, Block: block},
			engine.PINOut{Format: s.format, PAN: other, Key: b.refs[s.zone]})
		b.refused(t, "another PAN than that of the block", s, other, got, err)
		block[0] ^= 1
		pan := newPAN(t, cardNumber)
		got, err = ops.TranslatePIN(nil, dukpt.PINBlock{Format: s.format, PAN: pan, Block: block},
			engine.PINOut{Format: s.format, PAN: pan, Key: b.refs[s.zone]})
		b.refused(t, "altered block", s, pan, got, err)
	})
}

// refused wants a block that does not open to be refused, or to become one that does not open where the engine cannot tell.
func (b *bench) refused(t *testing.T, what string, s side, pan pin.PAN, got []byte, err error) {
	t.Helper()
	if b.Blind && err == nil {
		if p, err := b.openZone(t, s.zone, got, pan); err == nil {
			t.Errorf("%s: the zone finds a PIN (%v)", what, p)
		}
		return
	}
	want(t, what, err, dukpt.ErrVerify)
	if len(got) != 0 {
		t.Errorf("a refused block gave %X", got)
	}
}

func wrongMAC(t *testing.T, b *bench) {
	eachSide(t, func(t *testing.T, s side) {
		term := b.terminal(t, s.bdk, s.keyID)
		tx := term.next()
		msg := []byte("a message of more than one block")
		mac, err := tx.MAC(nil, s.mac, msg)
		if err != nil {
			t.Fatal(err)
		}
		ops := b.begin(t, s.bdk, tx.KSN())
		if err := ops.VerifyMAC(s.mac, msg, mac); err != nil {
			t.Fatalf("right MAC: %v", err)
		}
		for i := range 8 * len(mac) {
			bad := bytes.Clone(mac)
			bad[i/8] ^= 1 << (i % 8)
			want(t, "MAC with a flipped bit", ops.VerifyMAC(s.mac, msg, bad), dukpt.ErrVerify)
		}
		for name, m := range map[string][]byte{"shorter": msg[1:], "longer": append(bytes.Clone(msg), 0), "empty": nil} {
			want(t, name+" message", ops.VerifyMAC(s.mac, m, mac), dukpt.ErrVerify)
		}
		for name, m := range map[string][]byte{"no": nil, "short": mac[:4], "long": append(bytes.Clone(mac), 0)} {
			if err := ops.VerifyMAC(s.mac, msg, m); err == nil {
				t.Errorf("%s MAC was accepted", name)
			}
		}
		tx.End()
		next := b.begin(t, s.bdk, term.next().KSN())
		want(t, "MAC of the transaction before", next.VerifyMAC(s.mac, msg, mac), dukpt.ErrVerify)
	})
}

func dataRoundTrip(t *testing.T, b *bench) {
	eachSide(t, func(t *testing.T, s side) {
		tx := b.terminal(t, s.bdk, s.keyID).next()
		plain := bytes.Repeat([]byte("0123456789abcdef"), 3)
		ct, err := tx.EncryptData(nil, s.data, plain)
		if err != nil {
			t.Fatal(err)
		}
		ops := b.begin(t, s.bdk, tx.KSN())
		got, err := ops.DecryptData(nil, s.data, ct)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("got %q, %v; want %q", got, err, plain)
		}
		withIV := s.data
		withIV.IV = bytes.Repeat([]byte{0xa5}, s.block)
		got, err = ops.DecryptData(nil, withIV, ct)
		if err != nil || bytes.Equal(got, plain) {
			t.Errorf("the IV makes no difference (%v)", err)
		}
		for _, n := range []int{0, 1, len(ct) - 1} {
			_, err := ops.DecryptData(nil, s.data, ct[:n])
			want(t, "ciphertext that is no whole blocks", err, dukpt.ErrLength)
		}
		wrong := s.data
		wrong.Direction = dukpt.Response
		if _, err := ops.DecryptData(nil, wrong, ct); err == nil {
			t.Error("request data was opened as a response")
		}
		if _, err := ops.DecryptData(nil, dukpt.DataSpec{}, ct); err == nil {
			t.Error("data was opened without saying how it was encrypted")
		}
	})
}

// responseDirection checks that answers reach the terminal and are no requests.
func responseDirection(t *testing.T, b *bench) {
	eachSide(t, func(t *testing.T, s side) {
		tx := b.terminal(t, s.bdk, s.keyID).next()
		ops := b.begin(t, s.bdk, tx.KSN())
		msg := []byte("approved")
		mac, err := ops.MACResponse(nil, s.mac, msg)
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.VerifyResponse(s.mac, msg, mac); err != nil {
			t.Errorf("the terminal refuses the response: %v", err)
		}
		want(t, "response MAC sent back as a request", ops.VerifyMAC(s.mac, msg, mac), dukpt.ErrVerify)
		plain := bytes.Repeat([]byte("r"), 2*s.block)
		ct, err := ops.EncryptResponse(nil, s.response, plain)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tx.DecryptResponse(nil, s.response, ct)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("the terminal reads %q, %v; want %q", got, err, plain)
		}
		if got, err := ops.DecryptData(nil, s.data, ct); err == nil && bytes.Equal(got, plain) {
			t.Error("response data opens under the request key")
		}
		if _, err := ops.EncryptResponse(nil, s.data, plain); err == nil {
			t.Error("the host made request data")
		}
		if _, err := ops.EncryptResponse(nil, s.response, plain[1:]); err == nil {
			t.Error("the host padded")
		}
	})
}

// keysApart checks that one base key does not take what was made under another, nor one key id what another made.
func keysApart(t *testing.T, b *bench) {
	mac := dukpt.TDES.DefaultMAC()
	tx := b.terminal(t, "bdk/tdes", tdesKeyID).next()
	m, err := tx.MAC(nil, mac, []byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	want(t, "MAC under another base key", b.begin(t, "bdk/other", tx.KSN()).VerifyMAC(mac, []byte("m"), m), dukpt.ErrVerify)
	other := ksn(t, "FFFF9876543211000001")
	want(t, "MAC under another key id", b.begin(t, "bdk/tdes", other).VerifyMAC(mac, []byte("m"), m), dukpt.ErrVerify)
}

// appends checks that output goes behind what dst holds, and that a refusal adds nothing.
func appends(t *testing.T, b *bench) {
	eachSide(t, func(t *testing.T, s side) {
		tx := b.terminal(t, s.bdk, s.keyID).next()
		pan := newPAN(t, cardNumber)
		block, err := tx.EncryptPIN(nil, s.format, newPIN(t, "1234"), pan)
		if err != nil {
			t.Fatal(err)
		}
		ct, err := tx.EncryptData(nil, s.data, make([]byte, s.block))
		if err != nil {
			t.Fatal(err)
		}
		ops := b.begin(t, s.bdk, tx.KSN())
		for name, call := range map[string]func(dst []byte) ([]byte, error){
			"TranslatePIN": func(dst []byte) ([]byte, error) {
				return ops.TranslatePIN(dst, dukpt.PINBlock{Format: s.format, PAN: pan, Block: block},
					engine.PINOut{Format: s.format, PAN: pan, Key: b.refs[s.zone]})
			},
			"DecryptData":     func(dst []byte) ([]byte, error) { return ops.DecryptData(dst, s.data, ct) },
			"MACResponse":     func(dst []byte) ([]byte, error) { return ops.MACResponse(dst, s.mac, []byte("m")) },
			"EncryptResponse": func(dst []byte) ([]byte, error) { return ops.EncryptResponse(dst, s.response, make([]byte, s.block)) },
		} {
			bare, err := call(nil)
			if err != nil || len(bare) == 0 {
				t.Fatalf("%s: %X, %v", name, bare, err)
			}
			got, err := call(append(make([]byte, 0, 64), "dst"...))
			if err != nil || string(got[:3]) != "dst" || !bytes.Equal(got[3:], bare) {
				t.Errorf("%s behind a prefix: got %X, %v; want %X", name, got, err, bare)
			}
		}
		got, err := ops.DecryptData([]byte("dst"), s.data, ct[1:])
		if err == nil || len(got) > 3 {
			t.Errorf("a refusal added to dst: %X, %v", got, err)
		}
	})
}

func end(t *testing.T, b *bench) {
	eachSide(t, func(t *testing.T, s side) {
		term := b.terminal(t, s.bdk, s.keyID)
		tx := term.next()
		ops := b.begin(t, s.bdk, tx.KSN())
		ops.End()
		ops.End()
		pan := newPAN(t, cardNumber)
		_, err := ops.TranslatePIN(nil, dukpt.PINBlock{Format: s.format, PAN: pan, Block: make([]byte, s.block)},
			engine.PINOut{Format: s.format, PAN: pan, Key: b.refs[s.zone]})
		want(t, "TranslatePIN after End", err, engine.ErrEnded)
		_, err = ops.DecryptData(nil, s.data, make([]byte, s.block))
		want(t, "DecryptData after End", err, engine.ErrEnded)
		want(t, "VerifyMAC after End", ops.VerifyMAC(s.mac, nil, nil), engine.ErrEnded)
		_, err = ops.MACResponse(nil, s.mac, nil)
		want(t, "MACResponse after End", err, engine.ErrEnded)
		_, err = ops.EncryptResponse(nil, s.response, make([]byte, s.block))
		want(t, "EncryptResponse after End", err, engine.ErrEnded)
		if _, err := b.begin(t, s.bdk, tx.KSN()).MACResponse(nil, s.mac, []byte("m")); err != nil {
			t.Errorf("the same KSN after End: %v", err)
		}
	})
}
