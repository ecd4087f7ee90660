package main

import (
	"bytes"
	"errors"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
)

// treeCases are the ways to a key of DUKPT beside a terminal's next one and a host's single one.
var treeCases = []oneCase{
	{"DUKPT, path of a terminal", casePath},
	{"DUKPT, batch", caseBatch},
	{"DUKPT, terminal skips", caseSkip},
	{"DUKPT, update key", caseUpdateKey},
}

// schemes are both, each with an initial key id.
var schemes = []struct {
	algorithm keys.Algorithm
	raw       []byte
	id        string
}{{keys.AES128, aesKey, "1234567890123456"}, {keys.TDES2, desKey[:16], "FFFF9876543210E00000"}}

// eachScheme runs f under a marked base key and one without a mark of both schemes.
func eachScheme(m *marks, f func(marked, plain *dukpt.BaseKey, id dukpt.KeyID) error) error {
	for _, s := range schemes {
		id, err := dukpt.ParseKeyID(s.id)
		if err != nil {
			return err
		}
		marked, err := baseKey(s.algorithm, m.secret(s.raw))
		if err != nil {
			return err
		}
		plain, err := baseKey(s.algorithm, s.raw)
		if err != nil {
			return err
		}
		err = f(marked, plain, id)
		marked.Wipe()
		plain.Wipe()
		if err != nil {
			return err
		}
	}
	return nil
}

func baseKey(a keys.Algorithm, raw []byte) (*dukpt.BaseKey, error) {
	k, err := keys.NewKey(keys.Attributes{
		Algorithm: a, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	}, raw)
	if err != nil {
		return nil, err
	}
	return dukpt.NewBaseKey(k)
}

// same demands that a transaction has the key that a host comes to by the straight way.
func same(tx *dukpt.HostTransaction, plain *dukpt.BaseKey) error {
	straight, err := plain.Begin(tx.KSN())
	if err != nil {
		return err
	}
	defer straight.End()
	spec := plain.Scheme().DefaultMAC()
	expected, err := straight.MACResponse(nil, spec, message)
	if err != nil {
		return err
	}
	got, err := tx.MACResponse(nil, spec, message)
	if err != nil {
		return err
	}
	return want(got, expected)
}

// transactions returns KSNs of two terminals, not in order.
func transactions(id dukpt.KeyID) (ksns []dukpt.KSN, err error) {
	other, err := dukpt.ParseKeyID(map[dukpt.Scheme]string{dukpt.AES: "1234567890123457", dukpt.TDES: "FFFF9876543210C00000"}[id.Scheme()])
	if err != nil {
		return nil, err
	}
	for _, name := range []dukpt.KeyID{id, other} {
		for _, n := range []uint32{1, 2, 3, 700, 20, 701} {
			ksn, err := name.AtOrdinal(n)
			if err != nil {
				return nil, err
			}
			ksns = append(ksns, ksn)
		}
	}
	return ksns, nil
}

func casePath(m *marks) error {
	return eachScheme(m, func(marked, plain *dukpt.BaseKey, id dukpt.KeyID) error {
		ksns, err := transactions(id)
		if err != nil {
			return err
		}
		path, tx := marked.NewPath(), dukpt.NewHostTransaction()
		defer path.Wipe()
		for _, ksn := range ksns {
			if err := path.Seek(tx, ksn); err != nil {
				return err
			}
			err := same(tx, plain)
			tx.End()
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func caseBatch(m *marks) error {
	return eachScheme(m, func(marked, plain *dukpt.BaseKey, id dukpt.KeyID) error {
		ksns, err := transactions(id)
		if err != nil {
			return err
		}
		return marked.DeriveBatch(ksns, func(_ int, tx *dukpt.HostTransaction) error { return same(tx, plain) })
	})
}

func caseSkip(m *marks) error {
	saved := func(keys.Secret) error { return nil }
	return eachScheme(m, func(marked, plain *dukpt.BaseKey, id dukpt.KeyID) error {
		ik, err := marked.Derive(id)
		if err != nil {
			return err
		}
		terminal, err := dukpt.NewTerminal(ik)
		if err != nil {
			return err
		}
		defer terminal.Wipe()
		tx := dukpt.NewTransaction()
		for _, n := range []uint32{5, 700} {
			ksn, err := id.AtOrdinal(n)
			if err != nil {
				return err
			}
			if err := errors.Join(terminal.SkipTo(ksn, saved), terminal.Reserve(1, saved), terminal.Next(tx)); err != nil {
				return err
			}
			sum, err := tx.MAC(nil, id.Scheme().DefaultMAC(), message)
			tx.End()
			if err != nil {
				return err
			}
			host, err := plain.Begin(ksn)
			if err != nil {
				return err
			}
			err = host.VerifyMAC(id.Scheme().DefaultMAC(), message, public(sum))
			host.End()
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func caseUpdateKey(m *marks) error {
	id, err := dukpt.ParseKeyID(schemes[0].id)
	if err != nil {
		return err
	}
	raw := []byte("\x12\x73\x67\x1E\xA2\x6A\xC2\x9A\xFA\x4D\x10\x84\x12\x76\x52\xA1")
	k, err := newKey(m, keys.AES128, keys.UsageInitialKey, keys.ModeDerive, raw)
	if err != nil {
		return err
	}
	ik, err := dukpt.NewInitialKey(id, k)
	if err != nil {
		return err
	}
	defer ik.Wipe()
	for w, kcv := range map[dukpt.WorkingKey]string{dukpt.KeyAES128: "923E3134B1", dukpt.KeyTDES2: ""} {
		update, err := ik.UpdateKey(w)
		if err != nil {
			return err
		}
		if got := update.KCV().String(); got != kcv && kcv != "" || bytes.Equal(public(update.Material().Expose()), raw) {
			return errWrong
		}
		update.Wipe()
	}
	return nil
}
