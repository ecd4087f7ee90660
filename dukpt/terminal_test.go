package dukpt

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"pgregory.net/rapid"
)

// testBases has one base key of each algorithm, with a key id for it.
type testBase struct {
	name string
	bdk  []byte
	base *BaseKey
	id   KeyID
}

func testBases(t testing.TB) []testBase {
	t.Helper()
	var out []testBase
	material := []byte("latchkey test base key: 32 bytes")
	for _, a := range []keys.Algorithm{keys.TDES2, keys.AES128, keys.AES192, keys.AES256} {
		scheme := AES
		if a == keys.TDES2 {
			scheme = TDES
		}
		b, err := testBaseKey(scheme, material[:a.KeyBytes()])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, testBase{a.String(), material[:a.KeyBytes()], b, testIDs(t)[scheme]})
	}
	return out
}

func (b testBase) terminal(t testing.TB) *Terminal {
	t.Helper()
	ik, err := b.base.Derive(b.id)
	if err != nil {
		t.Fatal(err)
	}
	term, err := NewTerminal(ik)
	if err != nil {
		t.Fatal(err)
	}
	return term
}

// fataler is what a test and a rapid run have in common.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// mustNext takes one key and holds it to the host's.
func mustNext(t fataler, b testBase, term *Terminal, want KSN) {
	t.Helper()
	tx := NewTransaction()
	if err := term.Next(tx); err != nil {
		t.Fatalf("Next: %v, want %v", err, want)
	}
	defer tx.End()
	host, err := b.base.Begin(tx.KSN())
	if err != nil {
		t.Fatalf("Begin(%v): %v", tx.KSN(), err)
	}
	defer host.End()
	if tx.KSN() != want || !bytes.Equal(tx.s.key(), host.s.key()) {
		t.Fatalf("got %v, want %v; host's key is the same: %v", tx.KSN(), want, bytes.Equal(tx.s.key(), host.s.key()))
	}
}

func mustAt(t fataler, id KeyID, n uint32) KSN {
	t.Helper()
	k, err := id.AtOrdinal(n)
	if err != nil {
		t.Fatalf("AtOrdinal(%d): %v", n, err)
	}
	return k
}

// TestTerminalModel does what a program may do in any order, and holds each key to the host's and the state to its rules.
func TestTerminalModel(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) { b.model(t) })
		})
	}
}

func (b testBase) model(t *rapid.T) {
	ik, err := b.base.Derive(b.id)
	if err != nil {
		t.Fatal(err)
	}
	term, err := NewTerminal(ik)
	if err != nil {
		t.Fatal(err)
	}
	most := b.id.Scheme().MaxOrdinal()
	next, reserved, saved := uint32(1), uint32(0), term.AppendState(nil)
	save := func(s secret.Bytes) error { saved = bytes.Clone(s.Expose()); return nil }
	broken := errors.New("disk full")
	t.Repeat(map[string]func(*rapid.T){
		"reserve": func(t *rapid.T) {
			n := rapid.Uint32Range(1, MaxReserve).Draw(t, "n")
			err := term.Reserve(int(n), save)
			switch left := most - (next + reserved) + 1; {
			case n > MaxReserve-reserved:
				if err == nil {
					t.Fatalf("reserved %d beside %d", n, reserved)
				}
			case left == 0:
				if !errors.Is(err, ErrExhausted) {
					t.Fatalf("Reserve at the end: %v", err)
				}
			case err != nil:
				t.Fatal(err)
			default:
				reserved += min(n, left)
			}
		},
		"reserve fails": func(t *rapid.T) {
			before := term.AppendState(nil)
			err := term.Reserve(1, func(secret.Bytes) error { return broken })
			if err == nil || !bytes.Equal(before, term.AppendState(nil)) {
				t.Fatalf("a failed save gives %v and another state", err)
			}
		},
		"next": func(t *rapid.T) {
			if reserved > 0 {
				mustNext(t, b, term, mustAt(t, b.id, next))
				next, reserved = next+1, reserved-1
				return
			}
			want := ErrNotReserved
			if next > most {
				want = ErrExhausted
			}
			if err := term.Next(NewTransaction()); !errors.Is(err, want) {
				t.Fatalf("Next = %v, want %v", err, want)
			}
		},
		"skip": func(t *rapid.T) {
			if next > most {
				return
			}
			to := rapid.OneOf(
				rapid.Uint32Range(next, min(next+40, most)),
				rapid.Map(edgeCounters(b.id.Scheme()), b.id.Scheme().ordinal),
			).Draw(t, "to")
			err := term.SkipTo(mustAt(t, b.id, to), save)
			switch {
			case to < next:
				if !errors.Is(err, ErrKSN) {
					t.Fatalf("went back: %v", err)
				}
			case err != nil:
				t.Fatal(err)
			default:
				reserved -= min(reserved, to-next)
				next = to
			}
		},
		"skip fails": func(t *rapid.T) {
			if next+reserved+1 > most {
				return
			}
			before, had := term.AppendState(nil), term.Available()
			err := term.SkipTo(mustAt(t, b.id, next+reserved+1), func(secret.Bytes) error { return broken })
			if err != broken || !bytes.Equal(before, term.AppendState(nil)) || term.Available() != had {
				t.Fatalf("a failed save gives %v and another state", err)
			}
		},
		"restart": func(t *rapid.T) {
			opened, err := OpenTerminal(secret.From(saved))
			if err != nil {
				t.Fatal(err)
			}
			term, next, reserved = opened, next+reserved, 0
		},
		"": func(t *rapid.T) {
			if !bytes.Equal(saved, term.AppendState(nil)) {
				t.Fatal("the saved state is not the present one")
			}
			if len(saved) != term.StateSize() {
				t.Fatalf("state of %d bytes, announced %d", len(saved), term.StateSize())
			}
			ksn, ok := term.NextKSN()
			if ok != (next <= most) || ok && ksn.Ordinal() != next || term.Available() != int(reserved) {
				t.Fatalf("next is %v (%v) with %d reserved, want ordinal %d with %d", ksn, ok, term.Available(), next, reserved)
			}
			if i := term.misfit(); i >= 0 {
				t.Fatalf("register %d breaks its rule at %X", i, term.next)
			}
			for i := range MaxReserve {
				held := i >= term.first && i < term.first+term.available
				if k := term.reservedKey(i); held == bytes.Equal(k, make([]byte, len(k))) {
					t.Fatalf("place %d of the reserve is filled: %v, with %d from %d", i, !held, term.available, term.first)
				}
			}
		},
	})
}

// ancestors returns the keys from which the key of counter can be computed, the initial key and its own included.
func (b testBase) ancestors(t fataler, counter uint32) map[uint32][]byte {
	t.Helper()
	root := make([]byte, b.base.family.size)
	if err := b.base.descend(root, make([]byte, aesScratch), &b.id, 0); err != nil {
		t.Fatalf("initial key: %v", err)
	}
	out := map[uint32][]byte{}
	for c := counter; ; c &= c - 1 {
		k := make([]byte, len(root))
		b.base.family.descend(k, root, make([]byte, aesScratch), &b.id, 0, c)
		out[c] = k
		if c == 0 {
			return out
		}
	}
}

// TestForwardSecrecy looks for the ancestors of every key that was reserved or passed, in the state and in the memory of the
// terminal.
func TestForwardSecrecy(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				term := b.terminal(t)
				start, err := b.id.KSN(edgeCounters(b.id.Scheme()).Draw(rt, "counter"))
				if err != nil {
					rt.Fatal(err)
				}
				if err := term.SkipTo(start, discard); err != nil {
					rt.Fatal(err)
				}
				n := rapid.IntRange(1, MaxReserve).Draw(rt, "n")
				var state []byte
				if err := term.Reserve(n, func(s secret.Bytes) error { state = bytes.Clone(s.Expose()); return nil }); err != nil {
					rt.Fatal(err)
				}
				gone := []uint32{start.Counter()}
				for i := range term.available {
					gone = append(gone, term.counters[i])
				}
				for range rapid.IntRange(0, 20).Draw(rt, "passed") {
					gone = append(gone, b.id.Scheme().atOrdinal(rapid.Uint32Range(1, start.Ordinal()).Draw(rt, "earlier")))
				}
				drop := rapid.IntRange(0, term.available).Draw(rt, "dropped")
				spent := term.counters[:drop]
				term.drop(drop)
				for _, c := range gone {
					for a, key := range b.ancestors(rt, c) {
						if bytes.Contains(state, key) || bytes.Contains(term.cell.Expose(), key) {
							rt.Fatalf("the state after %d keys from %v holds the key of %X, an ancestor of %X", n, start, a, c)
						}
					}
				}
				for _, c := range spent {
					for a, key := range b.ancestors(rt, c) {
						if bytes.Contains(term.reserved.Expose(), key) {
							rt.Fatalf("the spent key of %X is still there by %X", c, a)
						}
					}
				}
			})
		})
	}
}

func TestLastKeys(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			most := b.id.Scheme().MaxOrdinal()
			term := b.terminal(t)
			if err := term.SkipTo(mustAt(t, b.id, most-2), discard); err != nil {
				t.Fatal(err)
			}
			if err := term.Reserve(8, discard); err != nil || term.Available() != 3 {
				t.Fatalf("Reserve near the end: %v with %d keys", err, term.Available())
			}
			for n := most - 2; n <= most; n++ {
				mustNext(t, b, term, mustAt(t, b.id, n))
			}
			tx := NewTransaction()
			if err := term.Next(tx); !errors.Is(err, ErrExhausted) {
				t.Errorf("Next after the last key: %v", err)
			}
			if err := term.Reserve(1, discard); !errors.Is(err, ErrExhausted) {
				t.Errorf("Reserve after the last key: %v", err)
			}
			if err := term.SkipTo(mustAt(t, b.id, most), discard); !errors.Is(err, ErrExhausted) {
				t.Errorf("SkipTo after the last key: %v", err)
			}
			if ksn, ok := term.NextKSN(); ok {
				t.Errorf("NextKSN after the last key: %v", ksn)
			}
			if got := term.cell.Expose(); !bytes.Equal(got, make([]byte, len(got))) {
				t.Error("an exhausted terminal holds a key")
			}
			again, err := OpenTerminal(secret.From(term.AppendState(nil)))
			if err != nil {
				t.Fatalf("an exhausted state does not open: %v", err)
			}
			if err := again.Next(tx); !errors.Is(err, ErrExhausted) {
				t.Errorf("an exhausted state goes on: %v", err)
			}
		})
	}
}

func TestStateSizes(t *testing.T) {
	t.Parallel()
	for i, want := range []int{336, 512, 768, 1024} {
		b := testBases(t)[i]
		if got := b.terminal(t).StateSize(); got < want || got > want+64 {
			t.Errorf("%s: %d bytes, want %d and at most 64 more", b.name, got, want)
		}
	}
}

// seal gives a body its check.
func sealState(body []byte) secret.Bytes {
	sum := sha256.Sum256(body)
	return secret.From(append(bytes.Clone(body), sum[:stateCheck]...))
}

func TestOpenTerminalRefuses(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			term := b.terminal(t)
			if err := term.SkipTo(mustAt(t, b.id, 12), discard); err != nil {
				t.Fatal(err)
			}
			good := term.AppendState(nil)
			if _, err := OpenTerminal(secret.From(good)); err != nil {
				t.Fatal(err)
			}
			for i := range good {
				bad := bytes.Clone(good)
				bad[i] ^= 1 << (i % 8)
				if _, err := OpenTerminal(secret.From(bad)); !errors.Is(err, ErrState) {
					t.Errorf("byte %d changed: %v, want ErrState", i, err)
				}
			}
			for n := range good {
				if _, err := OpenTerminal(secret.From(good[:n])); !errors.Is(err, ErrState) {
					t.Errorf("%d bytes: %v, want ErrState", n, err)
				}
			}
			body := good[:len(good)-stateCheck]
			for n := range body {
				if _, err := OpenTerminal(sealState(body[:n])); !errors.Is(err, ErrState) {
					t.Errorf("%d bytes and their check: %v, want ErrState", n, err)
				}
			}
			for name, change := range map[string]func([]byte) []byte{
				"magic":         func(b []byte) []byte { b[0]++; return b },
				"version":       func(b []byte) []byte { b[4]++; return b },
				"algorithm 0":   func(b []byte) []byte { b[5] = 0; return b },
				"algorithm 5":   func(b []byte) []byte { b[5] = 5; return b },
				"reserved byte": func(b []byte) []byte { b[7] = 1; return b },
				"key id":        func(b []byte) []byte { b[stateCounter-1] = 1; return b },
				"counter": func(b []byte) []byte {
					return append(append(b[:stateCounter:stateCounter], 0xFF, 0xFF, 0xFF, 0xFF), b[stateHeader:]...)
				},
				"exhausted":       func(b []byte) []byte { clear(b[stateCounter:stateHeader]); return b },
				"one more":        func(b []byte) []byte { return append(b, 0) },
				"one less":        func(b []byte) []byte { return b[:len(b)-1] },
				"header alone":    func(b []byte) []byte { return b[:stateHeader] },
				"empty register":  func(b []byte) []byte { b[stateHeader] = 1; return b },
				"missing key":     func(b []byte) []byte { clear(b[len(b)-16:]); clear(b[len(b)-32:]); return b },
				"all zero":        func(b []byte) []byte { clear(b[stateHeader:]); return b },
				"counter and key": func(b []byte) []byte { b[stateHeader-1]++; return b },
			} {
				if _, err := OpenTerminal(sealState(change(bytes.Clone(body)))); !errors.Is(err, ErrState) {
					t.Errorf("%s: %v, want ErrState", name, err)
				}
			}
			if _, err := OpenTerminal(secret.Bytes{}); !errors.Is(err, ErrState) {
				t.Errorf("nothing: %v, want ErrState", err)
			}
		})
	}
}

func TestSkipToRefuses(t *testing.T) {
	t.Parallel()
	bases := testBases(t)
	term := bases[0].terminal(t)
	if err := term.Reserve(4, discard); err != nil {
		t.Fatal(err)
	}
	mustNext(t, bases[0], term, mustAt(t, bases[0].id, 1))
	for name, ksn := range map[string]KSN{
		"none":         {},
		"before":       mustAt(t, bases[0].id, 1),
		"other scheme": mustAt(t, bases[1].id, 9),
		"other key":    mustKSN(t, "FFFF9876543211000009"),
	} {
		if err := term.SkipTo(ksn, discard); !errors.Is(err, ErrKSN) {
			t.Errorf("%s: SkipTo(%v) = %v, want ErrKSN", name, ksn, err)
		}
	}
	called := false
	if err := term.SkipTo(mustAt(t, bases[0].id, 3), func(secret.Bytes) error { called = true; return nil }); err != nil || called {
		t.Errorf("SkipTo among the reserved: %v, saved: %v", err, called)
	}
	mustNext(t, bases[0], term, mustAt(t, bases[0].id, 3))
	if err := term.SkipTo(mustAt(t, bases[0].id, 900), nil); err == nil {
		t.Error("SkipTo without a save function went on")
	}
	if err := term.Reserve(1, nil); err == nil {
		t.Error("Reserve without a save function went on")
	}
	for _, n := range []int{-1, 0, MaxReserve, MaxReserve + 1} {
		if err := term.Reserve(n, discard); err == nil {
			t.Errorf("Reserve(%d) beside one went on", n)
		}
	}
}

func TestInitialKeyConsumed(t *testing.T) {
	t.Parallel()
	b := testBases(t)[0]
	ik, err := b.base.Derive(b.id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewTerminal(ik); err != nil {
		t.Fatal(err)
	}
	if !ik.Key().IsZero() {
		t.Error("the initial key is still there")
	}
	if _, err := NewTerminal(ik); err == nil {
		t.Error("a wiped initial key loads a second terminal")
	}
}

func mustPanic(t *testing.T, name string, f func()) {
	t.Helper()
	defer func() {
		r := recover()
		if s, ok := r.(string); !ok || !strings.HasPrefix(s, "dukpt: ") {
			t.Errorf("%s: recovered %v, want a panic that starts with dukpt:", name, r)
		}
	}()
	f()
}

func TestTransactionLife(t *testing.T) {
	t.Parallel()
	b := testBases(t)[1]
	term, other := b.terminal(t), b.terminal(t)
	for _, x := range []*Terminal{term, other} {
		if err := x.Reserve(4, discard); err != nil {
			t.Fatal(err)
		}
	}
	tx := NewTransaction()
	var bare Transaction
	mustPanic(t, "Next with a transaction of nobody's", func() { _ = term.Next(&bare) })
	if term.Available() != 4 {
		t.Error("a key is gone for a transaction that could not take it")
	}
	mustPanic(t, "Bind with one", func() { _ = b.base.Bind(new(HostTransaction), mustAt(t, b.id, 1)) })
	mustPanic(t, "Seek with one", func() { _ = b.base.NewPath().Seek(new(HostTransaction), mustAt(t, b.id, 1)) })
	mustPanic(t, "Seek of a path of nobody's", func() { _ = new(Path).Seek(NewHostTransaction(), mustAt(t, b.id, 1)) })
	mustPanic(t, "KSN before Next", func() { tx.KSN() })
	mustPanic(t, "MAC before Next", func() { _, _ = tx.MAC(nil, AES.DefaultMAC(), nil) })
	tx.End()
	if err := term.Next(tx); err != nil {
		t.Fatal(err)
	}
	mustPanic(t, "Next twice", func() { _ = term.Next(NewTransaction()) })
	mustPanic(t, "Next elsewhere", func() { _ = other.Next(tx) })
	tx.End()
	tx.End()
	if got := tx.s.cell.Expose(); !bytes.Equal(got, make([]byte, len(got))) {
		t.Error("End left a key")
	}
	mustPanic(t, "data after End", func() { _, _ = tx.EncryptData(nil, AES.DefaultData(), make([]byte, 16)) })
	if err := other.Next(tx); err != nil {
		t.Errorf("an ended transaction is not reusable: %v", err)
	}
	other.Wipe()
	other.Wipe()
	if tx.s.live || !bytes.Equal(other.reserved.Expose(), make([]byte, other.reserved.Len())) {
		t.Error("Wipe left the transaction or a reserved key")
	}
	if err := other.Next(tx); !errors.Is(err, ErrExhausted) {
		t.Errorf("a wiped terminal goes on: %v", err)
	}
}

// FuzzOpenTerminal gives changed bodies a good check. What opens must be written alike, and its registers must lead to the
// next key.
func FuzzOpenTerminal(f *testing.F) {
	for _, b := range testBases(f) {
		for _, n := range []uint32{1, 12, 1000, b.id.Scheme().MaxOrdinal()} {
			term := b.terminal(f)
			if err := term.SkipTo(mustAt(f, b.id, n), discard); err != nil {
				f.Fatal(err)
			}
			state := term.AppendState(nil)
			f.Add(state[:len(state)-stateCheck])
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		state := sealState(body)
		term, err := OpenTerminal(state)
		if err != nil {
			if !errors.Is(err, ErrState) {
				t.Fatalf("%v is not ErrState", err)
			}
			return
		}
		if !bytes.Equal(term.AppendState(nil), state.Expose()) {
			t.Fatalf("%X is written as %X", state.Expose(), term.AppendState(nil))
		}
		ksn, ok := term.NextKSN()
		if !ok {
			return
		}
		if again, err := ParseKSN(ksn.Append(nil)); err != nil || again != ksn {
			t.Fatalf("next KSN %v reads as %v, %v", ksn, again, err)
		}
		if err := term.Reserve(MaxReserve, discard); err != nil {
			t.Fatal(err)
		}
		if term.misfit() >= 0 {
			t.Fatalf("after Reserve register %d breaks its rule", term.misfit())
		}
		tx := NewTransaction()
		if err := term.Next(tx); err != nil || tx.KSN() != ksn {
			t.Fatalf("Next gives %v, want %v", err, ksn)
		}
	})
}
