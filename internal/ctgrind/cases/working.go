package main

import (
	"errors"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/pin"
)

// workingCases take one transaction under every kind of working key.
var workingCases = []oneCase{
	{"DUKPT, MACs under all working keys", caseWorkingMAC},
	{"DUKPT, data of all paddings", caseWorkingData},
	{"DUKPT, PINs of all formats", caseWorkingPIN},
}

// trade runs f with both sides of a transaction under a marked base key of either scheme. AES-256 has every working key.
func trade(m *marks, f func(tx *dukpt.Transaction, host *dukpt.HostTransaction, s dukpt.Scheme) error) error {
	for _, c := range []struct {
		algorithm keys.Algorithm
		raw       []byte
		id        string
	}{{keys.AES256, append(aesKey[:16:16], message[:16]...), schemes[0].id}, {keys.TDES2, desKey[:16], schemes[1].id}} {
		id, err := dukpt.ParseKeyID(c.id)
		if err != nil {
			return err
		}
		base, err := baseKey(c.algorithm, m.secret(c.raw))
		if err != nil {
			return err
		}
		tx, err := firstTransaction(base, id)
		if err != nil {
			return err
		}
		host, err := base.Begin(tx.KSN())
		if err != nil {
			return err
		}
		err = f(tx, host, id.Scheme())
		tx.End()
		host.End()
		base.Wipe()
		if err != nil {
			return err
		}
	}
	return nil
}

// tdesKeys are the working keys of TDES under a scheme.
func tdesKeys(s dukpt.Scheme) []dukpt.WorkingKey {
	if s == dukpt.TDES {
		return []dukpt.WorkingKey{0}
	}
	return []dukpt.WorkingKey{dukpt.KeyTDES2, dukpt.KeyTDES3}
}

var (
	aesWorkingKeys  = []dukpt.WorkingKey{dukpt.KeyAES128, dukpt.KeyAES192, dukpt.KeyAES256}
	hmacWorkingKeys = []dukpt.WorkingKey{dukpt.KeyHMAC128, dukpt.KeyHMAC192, dukpt.KeyHMAC256}
)

// macSpecs are all that a scheme has, at their full length.
func macSpecs(s dukpt.Scheme) (all []dukpt.MACSpec) {
	for _, k := range tdesKeys(s) {
		all = append(all, dukpt.MACSpec{Algorithm: dukpt.MACCMAC, Key: k, Length: 8})
		for _, p := range []dukpt.MACPadding{dukpt.MACPadding1, dukpt.MACPadding2, dukpt.MACPadding3} {
			for _, a := range []dukpt.MACAlgorithm{dukpt.MACRetail, dukpt.MACCBC} {
				all = append(all, dukpt.MACSpec{Algorithm: a, Key: k, Padding: p, Length: 8})
			}
		}
	}
	if s == dukpt.TDES {
		return all
	}
	for i := range aesWorkingKeys {
		all = append(all, dukpt.MACSpec{Algorithm: dukpt.MACCMAC, Key: aesWorkingKeys[i], Length: 16},
			dukpt.MACSpec{Algorithm: dukpt.MACHMACSHA256 + dukpt.MACAlgorithm(i), Key: hmacWorkingKeys[i], Length: 32})
	}
	return all
}

func caseWorkingMAC(m *marks) error {
	return trade(m, func(tx *dukpt.Transaction, host *dukpt.HostTransaction, s dukpt.Scheme) error {
		for _, spec := range macSpecs(s) {
			sum, err := tx.MAC(nil, spec, m.secret(message))
			if err != nil {
				return err
			}
			if err := host.VerifyMAC(spec, m.secret(message), m.secret(public(sum))); err != nil {
				return err
			}
			sum[0] ^= 1
			if err := host.VerifyMAC(spec, m.secret(message), m.secret(sum)); !errors.Is(err, dukpt.ErrVerify) {
				return errWrong
			}
		}
		return nil
	})
}

func caseWorkingData(m *marks) error {
	return trade(m, func(tx *dukpt.Transaction, host *dukpt.HostTransaction, s dukpt.Scheme) error {
		all := tdesKeys(s)
		if s == dukpt.AES {
			all = append(all, aesWorkingKeys...)
		}
		for _, k := range all {
			for _, p := range []dukpt.DataPadding{dukpt.ZeroPadding, dukpt.ISO9797M2Padding, dukpt.PKCS7Padding} {
				spec := s.DefaultData()
				spec.Key, spec.Padding = k, p
				if err := padded(m, tx, host, spec); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// padded takes data of an odd length there, and refuses what was altered: its last block holds the padding.
func padded(m *marks, tx *dukpt.Transaction, host *dukpt.HostTransaction, spec dukpt.DataSpec) error {
	plain := message[:29]
	ct, err := tx.EncryptData(nil, spec, m.secret(plain))
	if err != nil {
		return err
	}
	got, err := host.DecryptData(nil, spec, public(ct))
	if err != nil {
		return err
	}
	if err := want(got[:len(plain)], plain); err != nil {
		return err
	}
	if spec.Padding == dukpt.ZeroPadding { // stays on
		return nil
	}
	ct[len(ct)-1] ^= 1
	if _, err := host.DecryptData(nil, spec, ct); !errors.Is(err, dukpt.ErrVerify) {
		return errWrong
	}
	return nil
}

// move is a PIN on its way from a block of one format to another.
type move struct {
	from, to pin.Format
	zone     keys.Algorithm
	raw      []byte
}

// moves are those that the table of permitted translations has, from every format that goes over a line to every other.
func moves() (all []move) {
	formats := []pin.Format{pin.Format0, pin.Format1, pin.Format3, pin.Format4, pin.Format4PAN12}
	for _, from := range formats {
		for _, to := range formats {
			switch {
			case pin.CheckTranslation(from, to, false) != nil:
			case to.BlockSize() == 16:
				all = append(all, move{from, to, keys.AES128, aesKey})
			default:
				all = append(all, move{from, to, keys.TDES2, desKey[8:]})
			}
		}
	}
	return all
}

func caseWorkingPIN(m *marks) error {
	pan, err := samplePAN()
	if err != nil {
		return err
	}
	return trade(m, func(tx *dukpt.Transaction, host *dukpt.HostTransaction, s dukpt.Scheme) error {
		for _, v := range moves() {
			ours := aesWorkingKeys
			if v.from.BlockSize() == 8 {
				ours = tdesKeys(s)
			} else if s == dukpt.TDES {
				continue
			}
			for _, k := range ours {
				if err := v.translate(m, tx, host, k, pan); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (v move) translate(m *marks, tx *dukpt.Transaction, host *dukpt.HostTransaction, k dukpt.WorkingKey, pan pin.PAN) error {
	p, err := pin.ParsePIN(m.secret(digits))
	if err != nil {
		return err
	}
	defer p.Wipe()
	block, err := tx.EncryptPINUnder(nil, dukpt.PINSpec{Format: v.from, Key: k}, p, pan)
	if err != nil {
		return err
	}
	zone, err := newKey(m, v.zone, keys.UsagePIN, keys.ModeEncrypt, v.raw)
	if err != nil {
		return err
	}
	defer zone.Wipe()
	in := dukpt.PINBlock{Format: v.from, Key: k, PAN: pan, Block: public(block)}
	out, err := host.TranslatePIN(nil, in, dukpt.PINTarget{Format: v.to, PAN: pan, Key: zone})
	if err != nil || len(public(out)) != v.to.BlockSize() {
		return errors.Join(errWrong, err)
	}
	if v.from == pin.Format1 { // its fill may be anything
		return nil
	}
	in.Block[0] ^= 1
	in.Block[len(in.Block)-1] ^= 1
	if _, err := host.TranslatePIN(nil, in, dukpt.PINTarget{Format: v.to, PAN: pan, Key: zone}); !errors.Is(err, dukpt.ErrVerify) {
		return errWrong
	}
	return nil
}
