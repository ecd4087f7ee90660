package dukpt

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/pin"
)

var tdesHandlers = map[string]testvec.Handler{
	"initial_key":                  vectorInitialKey,
	"transaction_key":              vectorTransactionKey("transaction_key"),
	"pin_encrypt_iso0":             vectorPIN0,
	"retail_mac_request":           vectorRetailMAC(Request, "mac_request_key"),
	"retail_mac_response":          vectorRetailMAC(Response, "mac_response_key"),
	"tdes_cmac_request":            vectorTDESCMAC(Request),
	"tdes_cmac_response":           vectorTDESCMAC(Response),
	"data_request_encrypt":         vectorTDESData(Request, "data_request_key"),
	"data_response_encrypt":        vectorTDESData(Response, "data_response_key"),
	"variant_mask":                 vectorVariant,
	"ksn_short_left_padded_ff":     vectorShortKSN,
	"ksn_advance":                  vectorKSNAdvance,
	"terminal_key_sequence_digest": vectorTDESLife,
}

func TestVectorsTDES(t *testing.T) {
	t.Parallel()
	testvec.Run(t, "dukpt-tdes", tdesHandlers)
}

func TestVectorsTDESFlipped(t *testing.T) {
	t.Parallel()
	expected := map[string][]string{
		"initial_key":              {"ik"},
		"transaction_key":          {"transaction_key", "ik"},
		"pin_encrypt_iso0":         {"pin_key", "clear_pin_block", "encrypted_pin_block"},
		"retail_mac_request":       {"mac_request_key", "mac8", "mac4"},
		"retail_mac_response":      {"mac_response_key", "mac8", "mac4"},
		"tdes_cmac_request":        {"cmac"},
		"tdes_cmac_response":       {"cmac"},
		"data_request_encrypt":     {"data_request_key", "ciphertext"},
		"data_response_encrypt":    {"data_response_key", "ciphertext"},
		"variant_mask":             {"masked_key_before_one_way", "one_way_applied_key"},
		"ksn_short_left_padded_ff": {"ksn_padded", "encrypted_pin_block"},
		"ksn_advance":              {"next_ksn"},
	}
	if wholeLife() {
		expected["terminal_key_sequence_digest"] = []string{"last_ksn", "sha256_of_keys", "last_transaction_key"}
	}
	testvec.Flip(t, "dukpt-tdes", tdesHandlers, expected)
}

func vectorPIN0(v testvec.Vector) (int, error) {
	r, err := vectorRoles(v)
	if err != nil {
		return 0, err
	}
	p, pan, err := parsePINs(v)
	if err != nil {
		return 0, err
	}
	var c check
	k, err := r.host.s.pinKey(PINSpec{})
	c.ok(err)
	c.bytes("PIN key", k, v.Hex("pin_key"))
	clearBlock, err := pin.AppendFormat0(nil, p, pan)
	c.ok(err)
	c.bytes("clear block", clearBlock, v.Hex("clear_pin_block"))
	block, err := r.term.EncryptPIN(nil, pin.Format0, p, pan)
	c.ok(err)
	c.bytes("encrypted block", block, v.Hex("encrypted_pin_block"))
	checkTranslate(&c, r, pin.Format0, v.Hex("encrypted_pin_block"), p, pan)
	return c.done()
}

func vectorRetailMAC(d Direction, member string) testvec.Handler {
	return func(v testvec.Vector) (int, error) {
		r, err := vectorRoles(v)
		if err != nil {
			return 0, err
		}
		if got := v.String("padding"); got != "zeros (ISO 9797-1 method 1)" {
			return 0, fmt.Errorf("unknown padding %q", got)
		}
		var c check
		k, err := r.host.s.macKey(d, 0)
		c.ok(err)
		c.bytes("MAC key", k, v.Hex(member))
		for _, length := range []int{8, 4} {
			spec := MACSpec{Algorithm: MACRetail, Padding: MACPadding1, Length: length}
			checkMAC(&c, r, spec, d, []byte(v.String("data_ascii")), v.Hex(fmt.Sprintf("mac%d", length)))
		}
		return c.done()
	}
}

func vectorTDESCMAC(d Direction) testvec.Handler {
	return func(v testvec.Vector) (int, error) {
		r, err := vectorRoles(v)
		if err != nil {
			return 0, err
		}
		var c check
		for _, length := range []int{8, 4} {
			checkMAC(&c, r, MACSpec{Algorithm: MACCMAC, Length: length}, d, []byte(v.String("data_ascii")), v.Hex("cmac")[:length])
		}
		return c.done()
	}
}

func vectorTDESData(d Direction, member string) testvec.Handler {
	return func(v testvec.Vector) (int, error) {
		r, err := vectorRoles(v)
		if err != nil {
			return 0, err
		}
		if got := v.String("padding"); got != "zeros to 8" {
			return 0, fmt.Errorf("unknown padding %q", got)
		}
		spec := DataSpec{Direction: d, Profile: DataOneWay, Mode: CBC, IV: v.Hex("iv")}
		var c check
		k, err := r.host.s.dataKey(spec)
		c.ok(err)
		c.bytes("data key", k, v.Hex(member))
		checkData(&c, r, spec, pad(v.String("data_ascii"), 8), v.Hex("ciphertext"))
		checkZeroPadding(&c, r, spec, v.String("data_ascii"), v.Hex("ciphertext"))
		return c.done()
	}
}

// vectorVariant sets the transaction key by hand: the vectors name no KSN.
func vectorVariant(v testvec.Vector) (int, error) {
	f := family{scheme: TDES, size: 16}
	s := session{cell: secret.From(append(v.Hex("transaction_key"), make([]byte, sessionSize-16)...))}
	s.bind(f, KSN{})
	var c check
	key := func(k []byte, err error) []byte { c.ok(err); return k }
	masked := v.Hex("masked_key_before_one_way")
	switch usage := v.String("usage"); usage {
	case "pin":
		c.bytes("PIN key", key(s.pinKey(PINSpec{})), masked)
	case "mac_request":
		c.bytes("MAC key", key(s.macKey(Request, 0)), masked)
		c.bytes("MAC key of both directions", key(s.macKey(Both, 0)), masked)
	case "data_request", "data_response":
		d := map[string]Direction{"data_request": Request, "data_response": Response}[usage]
		c.bytes("masked data key", key(s.dataKey(DataSpec{Direction: d, Profile: DataMask})), masked)
		c.bytes("data key", key(s.dataKey(DataSpec{Direction: d, Profile: DataOneWay})), v.Hex("one_way_applied_key"))
	default:
		return 0, fmt.Errorf("unknown usage %q", usage)
	}
	return c.done()
}

func vectorShortKSN(v testvec.Vector) (int, error) {
	ksn, err := ParseShortKSN(v.Hex("ksn"))
	if err != nil {
		return 0, err
	}
	var c check
	c.bytes("padded KSN", ksn.Append(nil), v.Hex("ksn_padded"))
	r, err := both(ksn, v.Hex("bdk"))
	if err != nil {
		return 0, err
	}
	p, pan, err := parsePINs(v)
	c.ok(err)
	block, err := r.term.EncryptPIN(nil, pin.Format0, p, pan)
	c.ok(err)
	c.bytes("encrypted block", block, v.Hex("encrypted_pin_block"))
	return c.done()
}

// vectorTDESLife takes a terminal through its keys, one after the other. The whole life is left out of short and race runs,
// which compare the last KSN alone.
func vectorTDESLife(v testvec.Vector) (int, error) {
	last, err := ParseKSN(v.Hex("last_ksn"))
	if err != nil {
		return 0, err
	}
	var c check
	if v.Has("last_transaction_key") {
		ik, err := testInitialKey(last.KeyID(), v.Hex("ik"))
		c.ok(err)
		tx, err := terminalAt(ik, last)
		if err != nil {
			return 0, err
		}
		c.bytes("last key", tx.s.key(), v.Hex("last_transaction_key"))
		c.true("nothing after it", last.Remaining() == 0)
		return c.done()
	}
	n := v.Int("keys")
	at, err := last.KeyID().AtOrdinal(uint32(n))
	c.ok(err)
	c.true("last KSN "+at.String(), at == last)
	if n > 1000 && !wholeLife() {
		return c.done()
	}
	sum, err := digestOfKeys(last.KeyID(), v.Hex("ik"), n)
	c.ok(err)
	c.bytes("digest of the keys", sum, v.Hex("sha256_of_keys"))
	return c.done()
}

// vectorDevice opens what a reader sent.
func vectorDevice(v testvec.Vector) (int, error) {
	if got := v.String("cipher"); got != "TDES-CBC" {
		return 0, fmt.Errorf("unknown cipher %q", got)
	}
	profile, ok := map[string]DataProfile{"pin variant": DataPINVariant, "data request (variant, then one-way)": DataOneWay}[v.String("key_use")]
	if !ok {
		return 0, fmt.Errorf("unknown key use %q", v.String("key_use"))
	}
	r, err := vectorRoles(v)
	if err != nil {
		return 0, err
	}
	var c check
	spec := DataSpec{Direction: Request, Profile: profile, Mode: CBC, IV: v.Hex("iv")}
	checkData(&c, r, spec, v.Hex("clear_hex"), v.Hex("ciphertext"))
	clearData, err := r.host.DecryptData(nil, spec, v.Hex("ciphertext"))
	c.ok(err)
	if v.Has("clear_text") {
		text := v.String("clear_text")
		c.true("text in front", bytes.HasPrefix(clearData, []byte(text)))
		pan, err := pin.FindPAN(clearData)
		c.ok(err)
		c.bytes("PAN", pan.Digits().Expose(), []byte(text[2:2+pan.Digits().Len()]))
	}
	if v.Has("clear_sha1_sent_by_the_device") {
		sum := sha1.Sum(clearData[:v.Int("sha1_over_first_bytes")])
		c.bytes("SHA-1 by the device", sum[:], v.Hex("clear_sha1_sent_by_the_device"))
	}
	return c.done()
}

func vectorDeviceMAC(v testvec.Vector) (int, error) {
	if got := v.String("algorithm"); got != "ISO 9797-1 algorithm 3, zero padding, first 4 bytes" {
		return 0, fmt.Errorf("unknown algorithm %q", got)
	}
	r, err := vectorRoles(v)
	if err != nil {
		return 0, err
	}
	var c check
	checkMAC(&c, r, MACSpec{Algorithm: MACRetail, Padding: MACPadding1, Length: 4}, Request, v.Hex("data"), v.Hex("mac"))
	return c.done()
}

func vectorDeviceKeys(v testvec.Vector) (int, error) {
	if got := v.String("key_use"); got != "PIN encryption, AES128 from AES128" {
		return 0, fmt.Errorf("unknown key use %q", got)
	}
	var c check
	for ksn, key := range v.Map("keys") {
		k, err := ParseKSNHex(ksn)
		if err != nil {
			return 0, err
		}
		r, err := both(k, v.Hex("bdk"))
		if err != nil {
			return 0, err
		}
		want, err := hex.DecodeString(key)
		c.ok(err)
		got, err := r.host.s.pinKey(PINSpec{})
		c.ok(err)
		c.bytes("host's PIN key of "+ksn, got, want)
		got, err = r.term.s.pinKey(PINSpec{})
		c.ok(err)
		c.bytes("terminal's PIN key of "+ksn, got, want)
	}
	return c.done()
}

// TestTDESMaskBits holds the masks to the table of the standard.
func TestTDESMaskBits(t *testing.T) {
	t.Parallel()
	for want, mask := range map[string]tdesMask{
		"C0C0C0C000000000": tdesMask(binary.BigEndian.AppendUint64(nil, maskInitial)),
		"00000000000000FF": maskPIN,
		"000000000000FF00": maskMACRequest,
		"00000000FF000000": maskMACResponse,
		"0000000000FF0000": maskDataRequest,
		"000000FF00000000": maskDataResponse,
	} {
		if got := fmt.Sprintf("%X", mask); got != want {
			t.Errorf("mask %s, want %s", got, want)
		}
	}
}
