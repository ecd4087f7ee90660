package hsm

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
)

// Figure is how fast one kind of transaction is: one MAC under the key of a transaction, in transactions a second. Times differ
// from machine to machine and from minute to minute; ratios of one figure were measured in turn, and hold.
type Figure struct {
	Algorithm keys.Algorithm // of the base key
	KeyMode   engine.KeyMode
	OneBits   int  // of the transaction counter: as many derivations from the initial key to that of the transaction
	Cached    bool // the keys down to the last transaction of the terminal are kept in the token

	Ours     float64 // by this token
	Software float64 // by package dukpt, with the base key in memory
	Floor    float64 // by the calls of PKCS#11 alone that the token cannot be spared
}

// The rounds in which the contenders of a figure take turns, and how long one turn is when nothing is said.
const (
	benchRounds = 5
	benchTurn   = 50 * time.Millisecond
)

// Bench measures what the token can do, a turn of each contender at a time; 0: 50 ms. It uses random keys that live as long
// as its sessions, and no key that the token holds. Every MAC is compared with that of package dukpt first. Progress is called
// after each figure, and may be nil. The token goes on serving meanwhile, and its sessions are shared.
func (t *Token) Bench(ctx context.Context, turn time.Duration, progress func(Figure)) ([]Figure, error) {
	if turn <= 0 {
		turn = benchTurn
	}
	if err := t.open(); err != nil {
		return nil, err
	}
	var all []Figure
	for _, f := range t.figures() {
		var made Figure
		err := t.use(ctx, func(c *connection, l *lease) (err error) {
			made, err = t.figure(ctx, c, l, f, turn)
			return err
		})
		if err != nil {
			return all, unsupported(err)
		}
		all = append(all, made)
		if progress != nil {
			progress(made)
		}
	}
	return all, nil
}

// figures are those that this token can give.
func (t *Token) figures() (all []Figure) {
	aes := []int{1, 8, 16} // of 32 bits of the counter, 16 at most are one (X9.24-3:2017, 4.12)
	if t.report.OK(CheckDerive) && t.report.OK(CheckAESCMAC) {
		for _, bits := range aes {
			for _, cached := range []bool{true, false} {
				all = append(all, Figure{Algorithm: keys.AES128, KeyMode: engine.Token, OneBits: bits, Cached: cached})
			}
		}
	}
	if t.report.OK(CheckAESECB) {
		for _, bits := range aes {
			all = append(all, Figure{Algorithm: keys.AES128, KeyMode: engine.BDKInToken, OneBits: bits})
		}
	}
	if t.report.OK(CheckDES3ECB) {
		for _, bits := range []int{1, 8, 10} { // of 21, 10 at most (X9.24-1:2009, A.3)
			all = append(all, Figure{Algorithm: keys.TDES2, KeyMode: engine.BDKInToken, OneBits: bits})
		}
	}
	return all
}

// bench is what the contenders of one figure work with.
type bench struct {
	token      *Token
	connection *connection
	lease      *lease
	entry      *entry
	paths      *paths
	base       *dukpt.BaseKey
	spec       dukpt.MACSpec
	turns      [2]dukpt.KSN // they differ in the last step alone, as those of consecutive transactions mostly do
}

// figure measures one. Its keys are gone when it returns.
func (t *Token) figure(ctx context.Context, c *connection, l *lease, f Figure, turn time.Duration) (Figure, error) {
	b := &bench{token: t, connection: c, lease: l, spec: dukpt.AES.DefaultMAC()}
	if f.Algorithm.IsTDES() {
		b.spec = dukpt.TDES.DefaultMAC()
	}
	end, err := b.begin(f)
	defer end()
	if err != nil {
		return f, err
	}
	for _, ksn := range b.turns {
		want, err := b.software(ksn)
		if err != nil {
			return f, err
		}
		got, err := b.ours(f, ksn)
		if err != nil {
			return f, err
		}
		if !bytes.Equal(got, want) {
			return f, unavailable(errAnswer)
		}
	}
	floor, after, err := b.floor(f)
	defer after()
	if err != nil {
		return f, err
	}
	contenders := []func(dukpt.KSN) error{
		func(ksn dukpt.KSN) error { _, err := b.ours(f, ksn); return err },
		func(ksn dukpt.KSN) error { _, err := b.software(ksn); return err },
		floor,
	}
	rates := make([][]float64, len(contenders))
	for range benchRounds {
		for i, do := range contenders {
			if err := ctx.Err(); err != nil {
				return f, err
			}
			rate, err := b.rate(turn, do)
			if err != nil {
				return f, err
			}
			rates[i] = append(rates[i], rate)
		}
	}
	for i, to := range []*float64{&f.Ours, &f.Software, &f.Floor} {
		slices.Sort(rates[i])
		*to = rates[i][benchRounds/2]
	}
	return f, nil
}

// rate returns how often in a second something can be done.
func (b *bench) rate(turn time.Duration, do func(dukpt.KSN) error) (float64, error) {
	start, done := time.Now(), 0
	for done < 2 || time.Since(start) < turn {
		if err := do(b.turns[done%2]); err != nil {
			return 0, err
		}
		done++
	}
	return float64(done) / time.Since(start).Seconds(), nil
}

// begin makes the keys of a figure and a session that owns what the cache keeps. End takes all of it away, even after an error.
func (b *bench) begin(f Figure) (end func(), err error) {
	var undo []func()
	end = func() {
		for _, u := range slices.Backward(undo) {
			u()
		}
	}
	d, l := b.connection.device, b.lease
	key, err := keys.GenerateKey(bdkAttributes(f.Algorithm))
	if err != nil {
		return end, err
	}
	defer key.Wipe()
	base, err := dukpt.NewBaseKey(key)
	if err != nil {
		return end, err
	}
	b.base = base
	undo = append(undo, base.Wipe)
	put := func(value []byte, u use) (object, error) {
		o, err := d.createObject(l.session, imported(f.Algorithm, value, false, u))
		if err == nil {
			undo = append(undo, func() { l.destroy(b.connection, o) })
		}
		return o, err
	}
	b.entry = &entry{info: engine.KeyInfo{ID: newID(), Attributes: key.Attributes()}}
	u := useEncrypt
	if f.KeyMode == engine.Token {
		u, b.entry.parent = useDerive, dukpt.WorkingKeyOf(f.Algorithm)
	}
	if b.entry.object, err = put(key.Material().Expose(), u); err != nil {
		return end, err
	}
	if f.Algorithm.IsTDES() {
		changed := secret.New(f.Algorithm.KeyBytes())
		defer changed.Wipe()
		xorVariant(changed.Expose(), key.Material().Expose())
		if b.entry.variant, err = put(changed.Expose(), useEncrypt); err != nil {
			return end, err
		}
	}
	if b.turns, err = benchTurns(f); err != nil || f.KeyMode != engine.Token {
		return end, err
	}
	b.entry.base = b.entry.object
	s, err := d.openSession()
	if err != nil {
		return end, err
	}
	undo = append(undo, func() { _ = d.closeSession(s) }) // the kept keys go with it
	most := 0
	if f.Cached {
		most = b.token.options.CacheObjects + 64 // whatever the token is set to: one terminal, 17 keys
	}
	b.paths = newPaths(&connection{device: d, owners: []*owner{{turn: newTurn(), session: s}}}, most, &counts{})
	return end, nil
}

// benchTurns returns two transactions of a random terminal, with so many one bits.
func benchTurns(f Figure) (turns [2]dukpt.KSN, err error) {
	random := make([]byte, 8)
	_, _ = rand.Read(random) // cannot fail
	for i := range turns {
		counter := (uint32(1)<<(f.OneBits-1)-1)<<2 | 1<<i
		text := fmt.Sprintf("%X%08X", random, counter)
		if f.Algorithm.IsTDES() {
			text = fmt.Sprintf("%X%06X", random[:7], counter) // the bits before the counter are of the terminal
		}
		if turns[i], err = dukpt.ParseKSNHex(text); err != nil {
			return turns, err
		}
	}
	return turns, nil
}

// software makes the MAC of a transaction with the base key in memory.
func (b *bench) software(ksn dukpt.KSN) ([]byte, error) {
	tx, err := b.base.Begin(ksn)
	if err != nil {
		return nil, err
	}
	defer tx.End()
	return tx.MACResponse(nil, b.spec, benchMessage)
}

// benchMessage is as long as a request of a terminal.
var benchMessage = bytes.Repeat([]byte("0123456789abcdef"), 8)

// ours makes it as the engine does.
func (b *bench) ours(f Figure, ksn dukpt.KSN) ([]byte, error) {
	c, l := b.connection, b.lease
	if f.KeyMode != engine.Token {
		tx, err := b.entry.outside(c, l, ksn)
		if err != nil {
			return nil, err
		}
		defer tx.End()
		return tx.MACResponse(nil, b.spec, benchMessage)
	}
	step, err := b.spec.Derivation(ksn, b.entry.parent, dukpt.Response)
	if err != nil {
		return nil, err
	}
	var key object
	made := false
	err = b.paths.walk(context.Background(), b.token.shape, b.entry, ksn, func(parent object) (err error) {
		key, err = b.token.shape.derive(c.device, l.session, parent, step, useSign)
		made = err == nil
		return err
	})
	if made {
		defer l.destroy(c, key)
	}
	if err != nil {
		return nil, err
	}
	full, err := c.device.sign(l.session, mechanism{code: mechAESCMAC}, key, benchMessage)
	if err := whole(full, 16, err); err != nil {
		return nil, err
	}
	return full[:b.spec.Length], nil
}

// floor returns the calls alone: two blocks encrypted for an initial key of TDES, one for one of AES, or the derivations that
// the cache leaves, a signature, and the derived keys destroyed. After takes away what was prepared.
func (b *bench) floor(f Figure) (do func(dukpt.KSN) error, after func(), err error) {
	c, l, d, after := b.connection, b.lease, b.connection.device, func() {}
	if f.KeyMode != engine.Token {
		m, blocks, in := mechanism{code: mechAESECB}, []object{b.entry.object}, make([]byte, 16)
		if f.Algorithm.IsTDES() {
			m, blocks, in = mechanism{code: mechDES3ECB}, []object{b.entry.object, b.entry.variant}, make([]byte, 8)
		}
		return func(dukpt.KSN) error {
			for _, o := range blocks {
				if _, err := d.encrypt(l.session, m, o, in); err != nil {
					return err
				}
			}
			return nil
		}, after, nil
	}
	step, err := b.spec.Derivation(b.turns[0], b.entry.parent, dukpt.Response)
	if err != nil {
		return nil, after, err
	}
	parent, derivations := b.entry.base, f.OneBits+1
	if f.Cached {
		derivations = 1
		parent, err = b.token.shape.derive(d, l.session, parent, step, useDerive)
		if err != nil {
			return nil, after, err
		}
		after = func() { l.destroy(c, parent) }
	}
	return func(dukpt.KSN) (err error) {
		made := make([]object, 0, 18)
		defer func() {
			for _, o := range made {
				l.destroy(c, o)
			}
		}()
		at := parent
		for range derivations {
			if at, err = b.token.shape.derive(d, l.session, at, step, useDerive); err != nil {
				return err
			}
			made = append(made, at)
		}
		if at, err = b.token.shape.derive(d, l.session, at, step, useSign); err != nil {
			return err
		}
		made = append(made, at)
		_, err = d.sign(l.session, mechanism{code: mechAESCMAC}, at, benchMessage)
		return err
	}, after, nil
}
