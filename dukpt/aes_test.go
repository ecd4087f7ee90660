package dukpt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/pin"
)

var aesHandlers = map[string]testvec.Handler{
	"initial_key":                  vectorInitialKey,
	"derivation_key":               vectorTransactionKey("derivation_key"),
	"update_key":                   vectorUpdateKey,
	"working_key_published":        vectorWorkingKey,
	"working_key_2TDEA_from_128":   vectorWorkingKey,
	"working_key_3TDEA_from_128":   vectorWorkingKey,
	"working_key_AES128_from_128":  vectorWorkingKey,
	"working_key_HMAC128_from_128": vectorWorkingKey,
	"working_key_2TDEA_from_192":   vectorWorkingKey,
	"working_key_3TDEA_from_192":   vectorWorkingKey,
	"working_key_AES128_from_192":  vectorWorkingKey,
	"working_key_AES192_from_192":  vectorWorkingKey,
	"working_key_HMAC128_from_192": vectorWorkingKey,
	"working_key_HMAC192_from_192": vectorWorkingKey,
	"working_key_2TDEA_from_256":   vectorWorkingKey,
	"working_key_3TDEA_from_256":   vectorWorkingKey,
	"working_key_AES128_from_256":  vectorWorkingKey,
	"working_key_AES192_from_256":  vectorWorkingKey,
	"working_key_AES256_from_256":  vectorWorkingKey,
	"working_key_HMAC128_from_256": vectorWorkingKey,
	"working_key_HMAC192_from_256": vectorWorkingKey,
	"working_key_HMAC256_from_256": vectorWorkingKey,
	"strength_rule":                vectorStrength,
	"pin_encrypt_iso4":             vectorPIN4,
	"cmac_request":                 vectorMAC(Request, "mac_generation", MACCMAC, 16, 8, 4),
	"cmac_response":                vectorMAC(Response, "mac_verification", MACCMAC, 16, 8, 4),
	"hmac_request":                 vectorMAC(Request, "mac_generation", MACHMACSHA256, 32, 16),
	"hmac_response":                vectorMAC(Response, "mac_verification", MACHMACSHA256, 32, 16),
	"data_request":                 vectorAESData(Request, "data_encrypt"),
	"data_response":                vectorAESData(Response, "data_decrypt"),
	"ksn_advance":                  vectorKSNAdvance,
	"ksn_valid_counter":            vectorValidCounter,
	"terminal_key_sequence_digest": vectorAESLife,
}

func TestVectorsAES(t *testing.T) {
	t.Parallel()
	testvec.Run(t, "dukpt-aes", aesHandlers)
}

func TestVectorsAESFlipped(t *testing.T) {
	t.Parallel()
	expected := map[string][]string{
		"initial_key":                  {"ik"},
		"derivation_key":               {"derivation_key", "ik"},
		"update_key":                   {"update_key", "ik"},
		"pin_encrypt_iso4":             {"encrypted_pin_block"},
		"cmac_request":                 {"mac"},
		"cmac_response":                {"mac"},
		"hmac_request":                 {"mac"},
		"hmac_response":                {"mac"},
		"data_request":                 {"ciphertext"},
		"data_response":                {"ciphertext"},
		"ksn_advance":                  {"next_ksn"},
		"terminal_key_sequence_digest": {"last_counter", "sha256_of_keys"},
	}
	for feature := range aesHandlers {
		if len(feature) > 11 && feature[:11] == "working_key" {
			expected[feature] = []string{"working_key"}
		}
	}
	testvec.Flip(t, "dukpt-aes", aesHandlers, expected)
}

var vectorUsages = map[string]aesUsage{
	"key_encryption": usageKeyEncryption, "pin_encryption": usagePIN,
	"mac_generation": usageMACGenerate, "mac_verification": usageMACVerify, "mac_both": usageMACBoth,
	"data_encrypt": usageDataEncrypt, "data_decrypt": usageDataDecrypt, "data_both": usageDataBoth,
	"key_derivation": usageDerivation,
}

var vectorChecks = map[aesUsage]WorkingKeyCheck{
	usagePIN:           {Use: UsePIN},
	usageMACGenerate:   {Use: UseMAC, Direction: Request},
	usageMACVerify:     {Use: UseMAC, Direction: Response},
	usageMACBoth:       {Use: UseMAC, Direction: Both},
	usageDataEncrypt:   {Use: UseData, Direction: Request},
	usageDataDecrypt:   {Use: UseData, Direction: Response},
	usageDataBoth:      {Use: UseData, Direction: Both},
	usageKeyEncryption: {Use: UseKeyEncryption},
}

// vectorWorkingKey derives from the initial key printed. A counter that terminals do not use is derived past the parser,
// which must refuse it.
func vectorWorkingKey(v testvec.Vector) (int, error) {
	w, err := ParseWorkingKey(v.String("key_type"))
	if err != nil {
		return 0, err
	}
	usage, ok := vectorUsages[v.String("usage")]
	if !ok {
		return 0, fmt.Errorf("unknown usage %q", v.String("usage"))
	}
	id, counter, err := splitKSN(v.Hex("ksn"))
	if err != nil {
		return 0, err
	}
	var c check
	_, err = ParseKSN(v.Hex("ksn"))
	refused := v.Has("policy") && v.String("policy") == "refused"
	c.true("parser refuses what the policy refuses", refused == errors.Is(err, ErrKSN))
	ik := v.Hex("ik")
	f, err := familyOf(algorithmFor(AES, len(ik)))
	if err != nil {
		return 0, err
	}
	s := session{cell: secret.New(sessionSize)}
	f.descend(s.cell.Expose()[:f.size], ik, s.scratch(), &id, 0, counter)
	s.bind(f, KSN{id: id, counter: counter})
	k, err := s.derive(usage, w)
	c.ok(err)
	c.bytes("working key", k, v.Hex("working_key"))
	if row, ok := vectorChecks[usage]; ok {
		row.Key = w
		checkKCV(&c, &s, row, v.Hex("working_key"))
	}
	if usage == usageKeyEncryption {
		checkKEK(&c, v, &s, w)
	}
	return c.done()
}

func vectorUpdateKey(v testvec.Vector) (int, error) {
	var c check
	id, err := ParseKeyID(v.String("ikid"))
	c.ok(err)
	c.true("counter", v.String("counter") == fmt.Sprintf("%08X", uint32(updateCounter)))
	w, err := ParseWorkingKey(v.String("key_type"))
	c.ok(err)
	ik, err := testInitialKey(id, v.Hex("ik"))
	if err != nil {
		return 0, err
	}
	k, err := ik.UpdateKey(w)
	if err != nil {
		return 0, err
	}
	c.bytes("update key", k.Material().Expose(), v.Hex("update_key"))
	return c.done()
}

func vectorStrength(v testvec.Vector) (int, error) {
	w, err := ParseWorkingKey(v.String("key_type"))
	if err != nil {
		return 0, err
	}
	bits := v.Int("derivation_key_bits")
	f, err := familyOf(algorithmFor(AES, bits/8))
	if err != nil {
		return 0, err
	}
	id, err := ParseKeyID("1234567890123456")
	if err != nil {
		return 0, err
	}
	s := session{cell: secret.New(sessionSize)}
	s.bind(f, KSN{id: id, counter: 1})
	_, err = s.derive(usageDataEncrypt, w)
	if err != nil && !errors.Is(err, ErrStrength) {
		return 0, err
	}
	var c check
	c.true(fmt.Sprintf("%v under %d bits allowed", w, bits), (err == nil) == v.Bool("allowed"))
	return c.done()
}

func vectorPIN4(v testvec.Vector) (int, error) {
	r, err := vectorRoles(v)
	if err != nil {
		return 0, err
	}
	p, pan, err := parsePINs(v)
	if err != nil {
		return 0, err
	}
	var c check
	block, err := r.term.s.encryptPIN(nil, PINSpec{Format: pin.Format4}, p, pan, pin.Fill(v.Hex("random")))
	c.ok(err)
	c.bytes("encrypted block", block, v.Hex("encrypted_pin_block"))
	checkTranslate(&c, r, pin.Format4, v.Hex("encrypted_pin_block"), p, pan)
	drawn, err := r.term.EncryptPIN(nil, pin.Format4, p, pan)
	c.ok(err)
	checkTranslate(&c, r, pin.Format4, drawn, p, pan)
	return c.done()
}

func vectorMAC(d Direction, usage string, a MACAlgorithm, lengths ...int) testvec.Handler {
	return func(v testvec.Vector) (int, error) {
		if got := v.String("usage"); got != usage {
			return 0, fmt.Errorf("unknown usage %q", got)
		}
		w, err := ParseWorkingKey(v.String("key_type"))
		if err != nil {
			return 0, err
		}
		r, err := vectorRoles(v)
		if err != nil {
			return 0, err
		}
		var c check
		for _, length := range lengths {
			spec := MACSpec{Algorithm: a, Key: w, Length: length}
			checkMAC(&c, r, spec, d, []byte(v.String("data_ascii")), v.Hex("mac")[:length])
		}
		return c.done()
	}
}

func vectorAESData(d Direction, usage string) testvec.Handler {
	return func(v testvec.Vector) (int, error) {
		if got := v.String("usage"); got != usage {
			return 0, fmt.Errorf("unknown usage %q", got)
		}
		if got := v.String("padding"); got != "zeros to 16" {
			return 0, fmt.Errorf("unknown padding %q", got)
		}
		w, err := ParseWorkingKey(v.String("key_type"))
		if err != nil {
			return 0, err
		}
		r, err := vectorRoles(v)
		if err != nil {
			return 0, err
		}
		var c check
		spec := DataSpec{Direction: d, Key: w, Mode: CBC, IV: v.Hex("iv")}
		checkData(&c, r, spec, pad(v.String("data_ascii"), 16), v.Hex("ciphertext"))
		checkZeroPadding(&c, r, spec, v.String("data_ascii"), v.Hex("ciphertext"))
		return c.done()
	}
}

func vectorValidCounter(v testvec.Vector) (int, error) {
	_, err := ParseKSN(v.Hex("ksn"))
	if err != nil && !errors.Is(err, ErrKSN) {
		return 0, err
	}
	var c check
	c.true(fmt.Sprintf("parsed: %v", err), (err == nil) == v.Bool("valid"))
	return c.done()
}

func vectorAESLife(v testvec.Vector) (int, error) {
	id, err := ParseKeyID(v.String("ikid"))
	if err != nil {
		return 0, err
	}
	n := v.Int("keys")
	var c check
	last, err := id.AtOrdinal(uint32(n))
	c.ok(err)
	c.true("last KSN "+last.String(), last.Counter() == binary.BigEndian.Uint32(v.Hex("last_counter")))
	sum, err := digestOfKeys(id, v.Hex("ik"), n)
	c.ok(err)
	c.bytes("digest of the keys", sum, v.Hex("sha256_of_keys"))
	return c.done()
}
