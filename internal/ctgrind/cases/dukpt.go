package main

import (
	"errors"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/pin"
)

var dukptCases = []oneCase{
	{"DUKPT, AES: terminal and host", caseAES},
	{"DUKPT, TDES: terminal and host", caseTDES},
}

func caseAES(m *marks) error {
	return sale(m, keys.AES128, aesKey, "1234567890123456", pin.Format4)
}

func caseTDES(m *marks) error {
	return sale(m, keys.TDES2, desKey[:16], "FFFF9876543210E00000", pin.Format0)
}

// sale takes one transaction from a base key to a terminal and back to the host.
func sale(m *marks, a keys.Algorithm, raw []byte, id string, f pin.Format) error {
	name, err := dukpt.ParseKeyID(id)
	if err != nil {
		return err
	}
	k, err := newKey(m, a, keys.UsageBDK, keys.ModeDerive, raw)
	if err != nil {
		return err
	}
	base, err := dukpt.NewBaseKey(k)
	if err != nil {
		return err
	}
	defer base.Wipe()
	tx, err := firstTransaction(base, name)
	if err != nil {
		return err
	}
	defer tx.End()
	host, err := base.Begin(tx.KSN())
	if err != nil {
		return err
	}
	defer host.End()
	return errors.Join(tradePIN(m, tx, host, f), tradeData(m, tx, host, name.Scheme()), tradeMAC(m, tx, host, name.Scheme()),
		compareKeys(base, tx, host))
}

// compareKeys has the check values of all working keys computed, and of the key encryption keys of both ends.
func compareKeys(base *dukpt.BaseKey, tx *dukpt.Transaction, host *dukpt.HostTransaction) error {
	checks, err := base.CheckValues(tx.KSN())
	if err != nil {
		return err
	}
	for _, c := range checks {
		if c.Use != dukpt.UseKeyEncryption {
			continue
		}
		one, err1 := host.KeyEncryptionKey(c.Key)
		two, err2 := tx.KeyEncryptionKey(c.Key)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if !one.KCV().Equal(c.KCV) || !two.KCV().Equal(c.KCV) {
			return errWrong
		}
	}
	return nil
}

// firstTransaction loads a terminal, has its state saved, opens it again, and takes a key.
func firstTransaction(base *dukpt.BaseKey, id dukpt.KeyID) (*dukpt.Transaction, error) {
	ik, err := base.Derive(id)
	if err != nil {
		return nil, err
	}
	terminal, err := dukpt.NewTerminal(ik)
	if err != nil {
		return nil, err
	}
	var saved keys.Secret
	if err := terminal.Reserve(1, func(state keys.Secret) error { saved = state.Clone(); return nil }); err != nil {
		return nil, err
	}
	if terminal, err = dukpt.OpenTerminal(saved); err != nil {
		return nil, err
	}
	if err := terminal.Reserve(2, func(keys.Secret) error { return nil }); err != nil {
		return nil, err
	}
	tx := dukpt.NewTransaction()
	return tx, terminal.Next(tx)
}

func tradePIN(m *marks, tx *dukpt.Transaction, host *dukpt.HostTransaction, f pin.Format) error {
	pan, err := samplePAN()
	if err != nil {
		return err
	}
	p, err := pin.ParsePIN(m.secret(digits))
	if err != nil {
		return err
	}
	block, err := tx.EncryptPIN(nil, f, p, pan)
	if err != nil {
		return err
	}
	zone, raw := keys.AES128, aesKey
	if f == pin.Format0 {
		zone, raw = keys.TDES2, desKey[8:]
	}
	k, err := newKey(m, zone, keys.UsagePIN, keys.ModeEncrypt, raw)
	if err != nil {
		return err
	}
	in := dukpt.PINBlock{Format: f, PAN: pan, Block: public(block)}
	out, err := host.TranslatePIN(nil, in, dukpt.PINTarget{Format: f, PAN: pan, Key: k})
	if err != nil || len(public(out)) != f.BlockSize() {
		return errors.Join(errWrong, err)
	}
	in.Block[0] ^= 1
	in.Block[len(in.Block)-1] ^= 1
	if _, err := host.TranslatePIN(nil, in, dukpt.PINTarget{Format: f, PAN: pan, Key: k}); !errors.Is(err, dukpt.ErrVerify) {
		return errWrong
	}
	return nil
}

func tradeData(m *marks, tx *dukpt.Transaction, host *dukpt.HostTransaction, s dukpt.Scheme) error {
	plain := message[:32]
	ct, err := tx.EncryptData(nil, s.DefaultData(), m.secret(plain))
	if err != nil {
		return err
	}
	got, err := host.DecryptData(nil, s.DefaultData(), public(ct))
	if err != nil {
		return err
	}
	return want(got, plain)
}

func tradeMAC(m *marks, tx *dukpt.Transaction, host *dukpt.HostTransaction, s dukpt.Scheme) error {
	sum, err := tx.MAC(nil, s.DefaultMAC(), message)
	if err != nil {
		return err
	}
	if err := host.VerifyMAC(s.DefaultMAC(), m.secret(message), public(sum)); err != nil {
		return err
	}
	for i := range sum {
		sum[i] ^= 1
		if err := host.VerifyMAC(s.DefaultMAC(), message, sum); !errors.Is(err, dukpt.ErrVerify) {
			return errWrong
		}
		sum[i] ^= 1
	}
	return nil
}
