package aws

import (
	"encoding/hex"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// ARNPrefix begins the name of every key in answers. It has the form of a key of AWS, in a region and of an account that
// AWS does not have, because clients may look at the form.
const ARNPrefix = "arn:aws:payment-cryptography:xx-latchkey-1:000000000000:"

// parseKey reads a key identifier: one of ours, an alias, or the ARN of either as answers have it.
func parseKey(path, s string) (keyset.KeyRef, error) {
	if s == "" {
		return keyset.KeyRef{}, invalid(path, "is missing")
	}
	name, isARN := strings.CutPrefix(s, ARNPrefix)
	if isARN {
		if id, isKey := strings.CutPrefix(name, "key/"); isKey {
			name = id
		} else if !strings.HasPrefix(name, "alias/") {
			name = ""
		}
	}
	ref, err := keyset.ParseKeyRef(name)
	if err != nil {
		return keyset.KeyRef{}, &decrypt.Refusal{Code: decrypt.CodeKeyIdentifierInvalid, Detail: "member " + path}
	}
	return ref, nil
}

// parseKSN reads a KeySerialNumber: 16 digits of a TDES one that begins with FFFF, 20 of TDES or 24 of AES.
func parseKSN(path, s string) (dukpt.KSN, error) {
	if s == "" {
		return dukpt.KSN{}, invalid(path+".KeySerialNumber", "is missing")
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return dukpt.KSN{}, invalid(path+".KeySerialNumber", "not hexadecimal digits")
	}
	parse := dukpt.ParseKSN
	if len(b) == 8 {
		parse = dukpt.ParseShortKSN
	}
	ksn, err := parse(b)
	if err != nil {
		return dukpt.KSN{}, invalid(path+".KeySerialNumber", "%v", err)
	}
	return ksn, nil
}

var derivationTypes = map[string]dukpt.WorkingKey{
	"": 0, "TDES_2KEY": dukpt.KeyTDES2, "TDES_3KEY": dukpt.KeyTDES3, "AES_128": dukpt.KeyAES128, "AES_192": dukpt.KeyAES192, "AES_256": dukpt.KeyAES256,
}

// parseDerivation reads a derivation type; none is that of the key set.
func parseDerivation(path, s string) (dukpt.WorkingKey, error) {
	w, ok := derivationTypes[s]
	if !ok {
		return 0, invalid(path, "not one of TDES_2KEY, TDES_3KEY, AES_128, AES_192 and AES_256")
	}
	return w, nil
}

var variants = map[string]dukpt.Direction{"REQUEST": dukpt.Request, "RESPONSE": dukpt.Response, "BIDIRECTIONAL": dukpt.Both}

// parseVariant reads a key variant. Without one nobody can say which key is meant, and what comes out under a wrong one would be
// claimed as if it were the data: it is required.
func parseVariant(path, s string) (dukpt.Direction, error) {
	if s == "" {
		return 0, invalid(path+".DukptKeyVariant", "is required here: REQUEST, RESPONSE or BIDIRECTIONAL")
	}
	d, ok := variants[s]
	if !ok {
		return 0, invalid(path+".DukptKeyVariant", "not one of REQUEST, RESPONSE and BIDIRECTIONAL")
	}
	return d, nil
}

// data reads the attributes of data.
func (a *encryptionAttributes) data(path string, base keyset.KeyRef, data []byte) (decrypt.DataCall, error) {
	if a == nil {
		return decrypt.DataCall{}, invalid(path, "is missing")
	}
	if err := one(path, map[string]bool{
		"Symmetric": a.Symmetric != nil, "Asymmetric": a.Asymmetric != nil, "Emv": a.Emv != nil, "Dukpt": a.Dukpt != nil,
	}); err != nil {
		return decrypt.DataCall{}, err
	}
	if a.Symmetric != nil {
		return a.Symmetric.data(path+".Symmetric", base, data)
	}
	if a.Dukpt == nil {
		return decrypt.DataCall{}, unsupported("member %s: Dukpt and Symmetric are what is done", path)
	}
	return a.Dukpt.data(path+".Dukpt", base, data)
}

func (a *dukptEncryption) data(path string, base keyset.KeyRef, data []byte) (c decrypt.DataCall, err error) {
	c = decrypt.DataCall{Key: decrypt.CallKey{Base: base}, IV: a.InitializationVector, Data: data}
	if c.Key.KSN, err = parseKSN(path, a.KeySerialNumber); err != nil {
		return c, err
	}
	if c.WorkingKey, err = parseDerivation(path+".DukptKeyDerivationType", a.DukptKeyDerivationType); err != nil {
		return c, err
	}
	if c.Direction, err = parseVariant(path, a.DukptKeyVariant); err != nil {
		return c, err
	}
	switch a.Mode {
	case "", "CBC":
		c.Mode = dukpt.CBC
	case "ECB":
		c.Mode = dukpt.ECB
	default:
		return c, invalid(path+".Mode", "not one of ECB and CBC")
	}
	return c, nil
}

// data reads the attributes of data under a key of fixed value.
func (a *symmetricEncryption) data(path string, key keyset.KeyRef, data []byte) (c decrypt.DataCall, err error) {
	c = decrypt.DataCall{Key: decrypt.CallKey{Base: key}, IV: a.InitializationVector, Data: data}
	if a.PaddingType != nil {
		return c, unsupported("member %s.PaddingType: data comes in whole blocks", path)
	}
	switch a.Mode {
	case "":
		return c, invalid(path+".Mode", "is missing")
	case "CBC":
		c.Mode = dukpt.CBC
	case "ECB":
		c.Mode = dukpt.ECB
	case "CFB", "CFB1", "CFB8", "CFB64", "CFB128", "OFB":
		return c, unsupported("member %s.Mode: ECB and CBC are what is done", path)
	default:
		return c, invalid(path+".Mode", "not a mode of the service model")
	}
	return c, nil
}

// maxBlock is the longest key block of X9.143.
const maxBlock = 9999

// block reads a key that comes with the call, which goes with a key of fixed value only. An absent one is none.
func (w *wrappedKey) block(path string, key *decrypt.CallKey) error {
	switch {
	case w == nil:
		return nil
	case !key.KSN.IsZero():
		return unsupported("member %s: base keys of terminals are those of the inventory", path)
	case w.WrappedKeyMaterial == nil:
		return invalid(path+".WrappedKeyMaterial", "is missing")
	}
	m := w.WrappedKeyMaterial
	path += ".WrappedKeyMaterial"
	if err := one(path, map[string]bool{"Tr31KeyBlock": m.Tr31KeyBlock != "", "DiffieHellmanSymmetricKey": m.DiffieHellmanSymmetricKey != nil}); err != nil {
		return err
	}
	if m.Tr31KeyBlock == "" {
		return unsupported("member %s: Tr31KeyBlock is what is done", path)
	}
	if len(m.Tr31KeyBlock) > maxBlock {
		return invalid(path+".Tr31KeyBlock", "is longer than a key block can be")
	}
	switch w.KeyCheckValueAlgorithm { // of answers, which have the one that goes with the algorithm of the key
	case "", "CMAC", "ANSI_X9_24", "HMAC":
	default:
		return unsupported("KeyCheckValueAlgorithm of a key that comes with the call; CMAC, ANSI_X9_24 and HMAC are what is done")
	}
	key.Block = m.Tr31KeyBlock
	return nil
}

// macAlgorithms are those of keys of fixed value.
var macAlgorithms = map[string]dukpt.MACAlgorithm{
	"ISO9797_ALGORITHM1": dukpt.MACCBC, "ISO9797_ALGORITHM3": dukpt.MACRetail, "CMAC": dukpt.MACCMAC,
	"HMAC_SHA256": dukpt.MACHMACSHA256, "HMAC_SHA384": dukpt.MACHMACSHA384, "HMAC_SHA512": dukpt.MACHMACSHA512,
}

// pin reads a PIN block format with its card number.
func (a *translationAttributes) pin(path string) (pin.Format, pin.PAN, error) {
	if a == nil {
		return 0, pin.PAN{}, invalid(path, "is missing")
	}
	if err := one(path, map[string]bool{
		"IsoFormat0": a.IsoFormat0 != nil, "IsoFormat1": a.IsoFormat1 != nil, "IsoFormat3": a.IsoFormat3 != nil, "IsoFormat4": a.IsoFormat4 != nil,
		"As2805Format0": a.As2805Format0 != nil,
	}); err != nil {
		return 0, pin.PAN{}, err
	}
	for format, f := range map[pin.Format]*isoFormat{pin.Format0: a.IsoFormat0, pin.Format3: a.IsoFormat3, pin.Format4: a.IsoFormat4} {
		if f == nil {
			continue
		}
		if f.PrimaryAccountNumber.pan.IsZero() {
			return 0, pin.PAN{}, invalid(path+".PrimaryAccountNumber", "is missing")
		}
		return format, f.PrimaryAccountNumber.pan, nil
	}
	return 0, pin.PAN{}, unsupported("member %s: formats 0, 3 and 4 are what is done, because they bind the PIN to its card number", path)
}

// mac reads the attributes of a MAC.
func (a *macAttributes) mac(path string, base keyset.KeyRef) (c decrypt.MACCall, err error) {
	c.Key.Base = base
	if a == nil {
		return c, invalid(path, "is missing")
	}
	if err := one(path, map[string]bool{
		"Algorithm": a.Algorithm != "", "EmvMac": a.EmvMac != nil, "DukptCmac": a.DukptCmac != nil,
		"DukptIso9797Algorithm1": a.DukptIso9797Algorithm1 != nil, "DukptIso9797Algorithm3": a.DukptIso9797Algorithm3 != nil,
	}); err != nil {
		return c, err
	}
	if a.Algorithm != "" {
		var ok bool
		if c.Algorithm, ok = macAlgorithms[a.Algorithm]; !ok {
			return c, unsupported("member %s.Algorithm: ISO9797_ALGORITHM1, ISO9797_ALGORITHM3, CMAC, HMAC_SHA256, HMAC_SHA384 and HMAC_SHA512 are what is done", path)
		}
		return c, nil
	}
	var d *dukptMAC
	switch {
	case a.DukptCmac != nil:
		c.Algorithm, d, path = dukpt.MACCMAC, a.DukptCmac, path+".DukptCmac"
	case a.DukptIso9797Algorithm1 != nil:
		c.Algorithm, d, path = dukpt.MACCBC, a.DukptIso9797Algorithm1, path+".DukptIso9797Algorithm1"
	case a.DukptIso9797Algorithm3 != nil:
		c.Algorithm, d, path = dukpt.MACRetail, a.DukptIso9797Algorithm3, path+".DukptIso9797Algorithm3"
	default:
		return c, unsupported("member %s: Algorithm, DukptCmac, DukptIso9797Algorithm1 and DukptIso9797Algorithm3 are what is done", path)
	}
	if c.Key.KSN, err = parseKSN(path, d.KeySerialNumber); err != nil {
		return c, err
	}
	if c.WorkingKey, err = parseDerivation(path+".DukptDerivationType", d.DukptDerivationType); err != nil {
		return c, err
	}
	c.Direction, err = parseVariant(path, d.DukptKeyVariant)
	return c, err
}

// one refuses a union of which not one member is set.
func one(path string, members map[string]bool) error {
	n := 0
	for _, set := range members {
		if set {
			n++
		}
	}
	if n != 1 {
		return invalid(path, "is a union with %d members, want one", n)
	}
	return nil
}

// absent refuses members that the service cannot serve, by name.
func absent(members map[string]jsontext.Value) error {
	for name, v := range members {
		if v != nil {
			return unsupported("member %s", name)
		}
	}
	return nil
}

// filled refuses a member without bytes.
func filled(path string, b []byte) error {
	if len(b) == 0 {
		return invalid(path, "is missing")
	}
	return nil
}
