package hsm

import (
	"crypto/aes"
	"fmt"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/keys"
)

// OneCall are the mechanisms of a maker that make a working key of TDES DUKPT of a base key in one call of C_DeriveKey: a key of
// type CKK_DES2, from the key serial number of 10 bytes as CK_KEY_DERIVATION_STRING_DATA. PKCS#11 has none. Besides them the
// token has to have CKM_DES3_ECB_ENCRYPT_DATA, by which a base key that only derives is recognised, and, for retail MACs,
// CKM_EXTRACT_KEY_FROM_KEY and single DES. All of that is asked for by known answers ([CheckOneCall]) before any of it counts;
// then base keys of TDES that are loaded may derive and nothing else, and work in mode token.
//
// Untested: no device that has such mechanisms was at hand. Tests make them on SoftHSM, in front of it.
type OneCall struct {
	Maker string // for reports

	PIN, MACRequest, MACResponse, DataRequest, DataResponse uint // mechanisms
}

// LunaOneCall returns the mechanisms CKM_DES2_DUKPT_PIN, _MAC, _MAC_RESP, _DATA and _DATA_RESP of Thales Luna 7, by the numbers in
// its documents. Untested, as OneCall says.
func LunaOneCall() *OneCall {
	const vendor = 0x80000000
	return &OneCall{"Thales Luna", vendor + 0x611, vendor + 0x612, vendor + 0x613, vendor + 0x614, vendor + 0x615}
}

// code returns the mechanism of a working key.
func (o *OneCall) code(v dukpt.Variant) uint {
	switch v {
	case dukpt.VariantPIN:
		return o.PIN
	case dukpt.VariantMACRequest:
		return o.MACRequest
	case dukpt.VariantMACResponse:
		return o.MACResponse
	case dukpt.VariantDataRequest:
		return o.DataRequest
	case dukpt.VariantDataResponse:
		return o.DataResponse
	}
	return 0
}

// derivesKeys says whether base keys of an algorithm derive inside, as the token has shown.
func (s shape) derivesKeys(a keys.Algorithm) bool {
	return a.IsAES() && s.derivesAES || a == keys.TDES2 && s.oneCall != nil
}

// step is how a working key is made inside, of the key of a transaction under AES, of the base key under TDES.
type step struct {
	dukpt.Derivation
	code uint
}

// make makes the working key.
func (s step) make(h shape, d cryptoki, in session, parent object, uses ...use) (object, error) {
	if s.code == mechAESDerive {
		return h.derive(d, in, parent, s.Derivation, uses...)
	}
	return d.deriveKey(in, mechanism{code: s.code, data: s.Data}, parent, secretTemplate(typeDES2, false, uses...))
}

// oneCallStep is the step to a working key of TDES DUKPT.
func (s shape) oneCallStep(v dukpt.Variant, ksn dukpt.KSN) step {
	return step{dukpt.Derivation{Key: dukpt.KeyTDES2, Data: ksn.Append(nil)}, s.oneCall.code(v)}
}

// first takes the left part out of a TDES key, inside: the first eight bytes as a key of its own.
func (s shape) first(d cryptoki, in session, key object) (object, error) {
	return d.deriveKey(in, mechanism{code: mechExtract, iv: ulong(0)}, key, secretTemplate(typeDES, false, useEncrypt))
}

// pinStep and stepOf give the steps of a transaction, and refuse what its scheme does not have.
func (o *inside) pinStep(in dukpt.PINBlock) (step, error) {
	if o.ksn.Scheme() == dukpt.TDES {
		v, err := in.Variant()
		return o.oneCall(v, err)
	}
	d, err := in.Derivation(o.ksn, o.parent)
	return step{d, mechAESDerive}, err
}

// directed is a specification of a MAC or of data.
type directed interface {
	Variant(implied dukpt.Direction) (dukpt.Variant, error)
	Derivation(k dukpt.KSN, parent dukpt.WorkingKey, implied dukpt.Direction) (dukpt.Derivation, error)
}

func (o *inside) stepOf(s directed, implied dukpt.Direction) (step, error) {
	if o.ksn.Scheme() == dukpt.TDES {
		v, err := s.Variant(implied)
		return o.oneCall(v, err)
	}
	d, err := s.Derivation(o.ksn, o.parent, implied)
	return step{d, mechAESDerive}, err
}

func (o *inside) oneCall(v dukpt.Variant, err error) (step, error) {
	if err != nil {
		return step{}, err
	}
	return o.token.shape.oneCallStep(v, o.ksn), nil
}

// The published sample of X9.24-1:2009, A.4.
var (
	oneCallBase = unhex("0123456789ABCDEFFEDCBA9876543210")
	oneCallKSN  = must(dukpt.ParseKSNHex("FFFF9876543210E00001"))
)

// oneCall makes every working key of the sample by the mechanisms of a maker, works with it as a transaction does, and compares
// with the host. The token counts as one that has them when all of it is right.
func (p *prober) oneCall(o *OneCall) error {
	attributes := bdkAttributes(keys.TDES2)
	host, err := dukpt.NewBaseKey(must(keys.NewKey(attributes, oneCallBase)))
	if err != nil {
		return err
	}
	defer host.Wipe()
	tx, err := host.Begin(oneCallKSN)
	if err != nil {
		return err
	}
	defer tx.End()
	p.shape.oneCall = o
	defer func() { p.shape.oneCall = nil }() // until all is right
	base, err := p.put(keys.TDES2, oneCallBase, useDerive)
	if err != nil {
		return err
	}
	r := reader{device: p.device, session: p.session, shape: p.shape}
	want, err := fingerprintOf(keys.TDES2, oneCallBase)
	if err == nil {
		err = r.is(base, keys.TDES2, true, want)
	}
	if err != nil {
		return err
	}
	for _, ask := range []func(object, *dukpt.HostTransaction) error{p.oneCallData, p.oneCallMAC} {
		if err := ask(base, tx); err != nil {
			return err
		}
	}
	return nil
}

// oneCallData asks for the keys that encrypt and decrypt.
func (p *prober) oneCallData(base object, tx *dukpt.HostTransaction) error {
	request := dukpt.DataSpec{Direction: dukpt.Request, Mode: dukpt.ECB, Profile: dukpt.DataOneWay}
	response, pins := request, request
	response.Direction, pins.Profile = dukpt.Response, dukpt.DataPINVariant
	for _, c := range []struct {
		variant dukpt.Variant
		u       use
		ask     func(session, mechanism, object, []byte) ([]byte, error)
		host    func([]byte, dukpt.DataSpec, []byte) ([]byte, error)
		spec    dukpt.DataSpec
	}{
		{dukpt.VariantPIN, useDecrypt, p.device.decrypt, tx.DecryptData, pins},
		{dukpt.VariantDataRequest, useDecrypt, p.device.decrypt, tx.DecryptData, request},
		{dukpt.VariantDataResponse, useEncrypt, p.device.encrypt, tx.EncryptResponse, response},
	} {
		want, err := c.host(nil, c.spec, probeText)
		if err != nil {
			return err
		}
		key, err := p.keep(p.shape.oneCallStep(c.variant, oneCallKSN).make(p.shape, p.device, p.session, base, c.u))
		if err != nil {
			return err
		}
		got, err := c.ask(p.session, mechanism{code: mechDES3ECB}, key, probeText)
		if err := same(got, want, err); err != nil {
			return err
		}
	}
	return nil
}

// oneCallMAC asks for the keys of MACs, by retail MACs.
func (p *prober) oneCallMAC(base object, tx *dukpt.HostTransaction) error {
	for v, d := range map[dukpt.Variant]dukpt.Direction{dukpt.VariantMACRequest: dukpt.Both, dukpt.VariantMACResponse: dukpt.Response} {
		spec := dukpt.TDES.DefaultMAC()
		spec.Direction = d
		want, err := tx.MACResponse(nil, spec, probeText)
		if err != nil {
			return err
		}
		key, err := p.keep(p.shape.oneCallStep(v, oneCallKSN).make(p.shape, p.device, p.session, base, useEncrypt, useDerive))
		if err != nil {
			return err
		}
		left, err := p.keep(p.shape.first(p.device, p.session, key))
		if err != nil {
			return err
		}
		triple := &block{device: p.device, session: p.session, key: key, code: mechDES3ECB, size: des.BlockSize}
		got, err := retailMAC(newSingle(p.device, p.session, left), triple, spec, probeText)
		if err := same(got, want, err); err != nil {
			return err
		}
	}
	return nil
}

// printDerived is printInside for a TDES key that only derives: the AES key of the fingerprint is the encryption of a text under it.
func (r reader) printDerived(o object) ([]byte, error) {
	template := append(secretTemplate(typeAES, false, useEncrypt), number(attrValueLen, aes.BlockSize))
	return r.printUnder(r.device.deriveKey(r.session, mechanism{code: mechDES3Derive, data: printDES}, o, template))
}

// retailOneCall returns a retail MAC under TDES DUKPT.
func (o *inside) retailOneCall(s dukpt.MACSpec, step step, msg []byte) (full []byte, err error) {
	shape := o.token.shape
	err = o.underFor(step, []use{useEncrypt, useDerive}, func(c *connection, l *lease, key object) error {
		left, err := shape.first(c.device, l.session, key)
		if err != nil {
			return err
		}
		defer l.destroy(c, left)
		full, err = retailMAC(newSingle(c.device, l.session, left), newBlock(c, l, key, true), s, msg)
		return err
	})
	return full, err
}

// whyOneCall says what the mode of a TDES base key comes from.
func (t *Token) whyOneCall() string {
	return fmt.Sprintf("working keys of TDES are made inside in one call, by the mechanisms of %s, shown by known answers", t.shape.oneCall.Maker)
}
