package e2e

import (
	"crypto/aes"
	"crypto/des"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

const (
	tdesVectors = "dukpt/dukpt-tdes.json"
	aesVectors  = "dukpt/dukpt-aes.json"
)

// TestAWS has the AWS SDK call the service: the script of the page for users, the shared vectors, and what must be refused.
func TestAWS(t *testing.T) {
	t.Parallel()
	s := newAWSSite(t)
	t.Run("page", s.testPage)
	t.Run("vectors", s.testVectors)
	t.Run("exceptions", s.testExceptions)
	t.Run("fixed", s.testFixedKeys)
}

// testPage runs the script of docs/aws.md and compares what it prints with what the page says that it prints.
func (s *awsSite) testPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/aws.md")
	check(t, err)
	blocks := regexp.MustCompile("(?s)```(js|text)\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) != 2 || blocks[0][1] != "js" || blocks[1][1] != "text" {
		t.Fatalf("docs/aws.md has %d blocks of js and text, want one of each", len(blocks))
	}
	endpoint, stop := s.start(t, "page")
	defer stop()
	cmd := s.node(t, blocks[0][2])
	cmd.Env = append(cmd.Env, "LATCHKEY_ENDPOINT="+endpoint)
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != blocks[1][2] {
		t.Errorf("the script ends with %v and prints\n%s\nwant\n%s", err, out, blocks[1][2])
	}
}

func (s *awsSite) testVectors(t *testing.T) {
	d, stop := s.drive(t, "vectors")
	defer stop()
	compared := d.data(tdesVectors, "data_request_encrypt", "data_response_encrypt", "alias/bdk-tdes", "TDES_2KEY", vectorTDES, 8)
	compared += d.data(aesVectors, "data_request", "data_response", "alias/bdk-aes", "AES_128", vectorAES, 16)
	compared += d.macs(tdesVectors, "retail_mac_request", "retail_mac_response", "DukptIso9797Algorithm3", "alias/bdk-tdes", "TDES_2KEY", "mac8", vectorTDES)
	compared += d.macs(aesVectors, "cmac_request", "cmac_response", "DukptCmac", "alias/bdk-aes", "AES_128", "mac", vectorAES)
	compared += d.pins(tdesVectors, "pin_encrypt_iso0", "alias/bdk-tdes", "alias/zone-tdes", "TDES_2KEY", "IsoFormat0", vectorTDES, openFormat0)
	compared += d.pins(aesVectors, "pin_encrypt_iso4", "alias/bdk-aes", "alias/zone-aes", "AES_128", "IsoFormat4", vectorAES, openFormat4)
	t.Logf("results equal to %d vectors", compared)
	if compared < 140 {
		t.Errorf("only %d vectors compared", compared)
	}
	fresh, end := s.drive(t, "re-encryption") // where nothing was decrypted
	defer end()
	fresh.reEncrypts(vectors(t, aesVectors, "data_request", vectorAES), vectors(t, aesVectors, "data_response", vectorAES))
}

func dukptData(ksn any, derivation, variant string) members {
	return members{"Dukpt": members{"KeySerialNumber": ksn, "DukptKeyDerivationType": derivation, "DukptKeyVariant": variant, "Mode": "CBC"}}
}

// padded is the text of a vector in hexadecimal digits, with zeros to whole blocks.
func padded(v map[string]any, block int) string {
	b := []byte(v["data_ascii"].(string))
	for len(b)%block != 0 {
		b = append(b, 0)
	}
	return strings.ToUpper(hex.EncodeToString(b))
}

// data decrypts what terminals of the vectors encrypted, and encrypts what theirs decrypt. Each is asked for twice.
func (d *driver) data(file, request, response, key, derivation string, base []byte, block int) (n int) {
	d.t.Helper()
	for _, v := range vectors(d.t, file, request, base) {
		for range 2 {
			got := d.answered("decryptData", members{
				"KeyIdentifier": key, "CipherText": v["ciphertext"], "DecryptionAttributes": dukptData(v["ksn"], derivation, "REQUEST"),
			})
			if got["PlainText"] != padded(v, block) {
				d.t.Errorf("%v: %v", v["id"], got)
			}
		}
		n++
	}
	for _, v := range vectors(d.t, file, response, base) {
		got := d.answered("encryptData", members{
			"KeyIdentifier": key, "PlainText": padded(v, block), "EncryptionAttributes": dukptData(v["ksn"], derivation, "RESPONSE"),
		})
		if got["CipherText"] != v["ciphertext"] {
			d.t.Errorf("%v: %v", v["id"], got)
		}
		n++
	}
	return n
}

func (d *driver) macs(file, request, response, algorithm, key, derivation, member string, base []byte) (n int) {
	d.t.Helper()
	attributes := func(v map[string]any, variant string) members {
		return members{algorithm: members{"KeySerialNumber": v["ksn"], "DukptKeyVariant": variant, "DukptDerivationType": derivation}}
	}
	for _, v := range vectors(d.t, file, request, base) {
		msg := strings.ToUpper(hex.EncodeToString([]byte(v["data_ascii"].(string))))
		got := d.answered("verifyMac", members{
			"KeyIdentifier": key, "MessageData": msg, "Mac": v[member], "VerificationAttributes": attributes(v, "REQUEST"),
		})
		if got["KeyArn"] == "" || got["KeyCheckValue"] == "" {
			d.t.Errorf("%v: %v", v["id"], got)
		}
		n++
	}
	for _, v := range vectors(d.t, file, response, base) {
		msg := strings.ToUpper(hex.EncodeToString([]byte(v["data_ascii"].(string))))
		got := d.answered("generateMac", members{
			"KeyIdentifier": key, "MessageData": msg, "GenerationAttributes": attributes(v, "RESPONSE"), "MacLength": len(v[member].(string)) / 2,
		})
		if got["Mac"] != v[member] {
			d.t.Errorf("%v: %v", v["id"], got)
		}
		n++
	}
	return n
}

func (d *driver) pins(file, feature, key, zone, derivation, format string, base []byte, open func(block []byte, pan string) (string, error)) (n int) {
	d.t.Helper()
	for _, v := range vectors(d.t, file, feature, base) {
		pan := v["pan"].(string)
		of := members{format: members{"PrimaryAccountNumber": pan}}
		params := members{
			"IncomingKeyIdentifier": key, "OutgoingKeyIdentifier": zone, "EncryptedPinBlock": v["encrypted_pin_block"],
			"IncomingTranslationAttributes": of, "OutgoingTranslationAttributes": of,
			"IncomingDukptAttributes": members{"KeySerialNumber": v["ksn"], "DukptKeyDerivationType": derivation},
		}
		got, again := d.answered("translatePinData", params), d.answered("translatePinData", params)
		block, err := hex.DecodeString(got["PinBlock"])
		check(d.t, err)
		pin, err := open(block, pan)
		if err != nil || pin != v["pin"] || again["PinBlock"] != got["PinBlock"] {
			d.t.Errorf("%v: %v, then %v, %v", v["id"], got, again, err)
		}
		n++
	}
	return n
}

// openFormat0 opens a block of the zone without any code of this module.
func openFormat0(block []byte, pan string) (string, error) {
	c, err := des.NewTripleDESCipher(append(zoneTDES[:16:16], zoneTDES[:8]...))
	if err != nil || len(block) != 8 {
		return "", fmt.Errorf("a block of %d bytes, %w", len(block), err)
	}
	c.Decrypt(block, block)
	account, err := hex.DecodeString("0000" + pan[len(pan)-13:len(pan)-1])
	if err != nil {
		return "", err
	}
	for i := range block {
		block[i] ^= account[i]
	}
	return digits(block, 0)
}

// openFormat4 does the same with a block of format 4.
func openFormat4(block []byte, pan string) (string, error) {
	c, err := aes.NewCipher(zoneAES)
	if err != nil || len(block) != 16 {
		return "", fmt.Errorf("a block of %d bytes, %w", len(block), err)
	}
	account, err := hex.DecodeString(fmt.Sprintf("%X%s%s", len(pan)-12, pan, strings.Repeat("0", 31-len(pan))))
	if err != nil {
		return "", err
	}
	c.Decrypt(block, block)
	for i := range block {
		block[i] ^= account[i]
	}
	c.Decrypt(block, block)
	return digits(block, 4)
}

// digits reads the PIN of a clear PIN field.
func digits(field []byte, format byte) (string, error) {
	if field[0]>>4 != format {
		return "", fmt.Errorf("a field of format %d, want %d", field[0]>>4, format)
	}
	return strings.ToUpper(hex.EncodeToString(field))[2 : 2+field[0]&15], nil
}

// reEncrypts has what a terminal of the vectors encrypted encrypted for a terminal, under the response key of the same KSN: the
// vectors have both. It is for that KSN only.
func (d *driver) reEncrypts(requests, responses []map[string]any) {
	d.t.Helper()
	for i, in := range requests {
		params := members{
			"IncomingKeyIdentifier": "alias/bdk-aes", "OutgoingKeyIdentifier": "alias/bdk-aes", "CipherText": in["ciphertext"],
			"IncomingEncryptionAttributes": dukptData(in["ksn"], "AES_128", "REQUEST"), "OutgoingEncryptionAttributes": dukptData(in["ksn"], "AES_128", "RESPONSE"),
		}
		for range 2 {
			if got := d.answered("reEncryptData", params); got["CipherText"] != responses[i]["ciphertext"] || in["ksn"] != responses[i]["ksn"] {
				d.t.Errorf("%v: %v", responses[i]["id"], got)
			}
		}
		params["OutgoingEncryptionAttributes"] = dukptData("12345678901234560000000B", "AES_128", "RESPONSE")
		if a := d.call("reEncryptData", params); a.Error == nil || !strings.HasPrefix(a.Error.Message, "TreatmentDiffers") {
			d.t.Errorf("%v for another terminal: %+v", in["id"], a)
		}
	}
}

// testExceptions has each kind of refusal become the exception of the service model that fits.
func (s *awsSite) testExceptions(t *testing.T) {
	d, stop := s.drive(t, "exceptions")
	defer stop()
	const ksn = "123456789012345600000001"
	decrypt := func(key, ciphertext string, attributes members) members {
		return members{"KeyIdentifier": key, "CipherText": ciphertext, "DecryptionAttributes": attributes}
	}
	good, block := dukptData(ksn, "AES_128", "REQUEST"), strings.Repeat("AB", 16)
	d.answered("decryptData", decrypt("alias/bdk-aes", block, good))
	verify := func(mac string) members {
		return members{"KeyIdentifier": "alias/bdk-aes", "MessageData": "00", "Mac": mac, "VerificationAttributes": members{
			"DukptCmac": members{"KeySerialNumber": ksn, "DukptKeyVariant": "REQUEST", "DukptDerivationType": "AES_128"},
		}}
	}
	translate := func(from, to string) members {
		return members{
			"IncomingKeyIdentifier": "alias/bdk-aes", "OutgoingKeyIdentifier": "alias/zone-aes", "EncryptedPinBlock": block,
			"IncomingTranslationAttributes": members{"IsoFormat4": members{"PrimaryAccountNumber": from}},
			"OutgoingTranslationAttributes": members{"IsoFormat4": members{"PrimaryAccountNumber": to}},
			"IncomingDukptAttributes":       members{"KeySerialNumber": ksn},
		}
	}
	for _, c := range []struct {
		operation string
		params    members
		code, say string
		status    int
	}{
		{"decryptData", decrypt("alias/bdk-aes", strings.Repeat("AC", 16), good), "ValidationException", "KsnReplayed", 400},
		{"decryptData", decrypt("alias/nothing", block, good), "ResourceNotFoundException", "KeyNotFound", 404},
		{"decryptData", decrypt("no key at all", block, good), "ValidationException", "KeyIdentifierInvalid", 400},
		{"decryptData", decrypt("alias/bdk-aes", block, dukptData("223456789012345600000001", "AES_128", "REQUEST")), "ResourceNotFoundException", "KeySetUnknown", 404},
		{"decryptData", decrypt("alias/bdk-aes", block, dukptData(ksn, "AES_128", "RESPONSE")), "AccessDeniedException", "DirectionNotPermitted", 403},
		{"decryptData", decrypt("alias/bdk-aes", block, dukptData(ksn, "AES_256", "REQUEST")), "ValidationException", "NotSupported", 400},
		{"decryptData", decrypt("alias/bdk-aes", block, members{"Symmetric": members{"Mode": "CBC"}}), "AccessDeniedException", "KeyNotPermitted", 403},
		{"decryptData", decrypt("alias/bdk-aes", block, dukptData("00", "AES_128", "REQUEST")), "ValidationException", "RequestMalformed", 400},
		{"decryptData", decrypt("alias/bdk-aes", block[2:], good), "ValidationException", "RequestMalformed", 400},
		{"encryptData", members{"KeyIdentifier": "alias/bdk-aes", "PlainText": block, "EncryptionAttributes": good}, "AccessDeniedException", "DirectionNotPermitted", 403},
		{"verifyMac", verify(strings.Repeat("00", 16)), "VerificationFailedException", "MacInvalid", 400},
		{"verifyMac", verify("00000000"), "ValidationException", "MacNotPermitted", 400},
		{"translatePinData", translate("4111111111111111", "4111111111111111"), "ValidationException", "PinBlockInvalid", 400},
		{"translatePinData", translate("4111111111111111", "4111111111111129"), "ValidationException", "TranslationNotPermitted", 400},
		{"generatePinData", members{
			"GenerationKeyIdentifier": "alias/bdk-aes", "EncryptionKeyIdentifier": "alias/zone-aes", "PinBlockFormat": "ISO_FORMAT_0",
			"PrimaryAccountNumber": "4111111111111111", "GenerationAttributes": members{"VisaPin": members{"PinVerificationKeyIndex": 1}},
		}, "NotFound", "", 404},
	} {
		a := d.call(c.operation, c.params)
		if a.Error == nil || a.Error.Code != c.code || a.Error.Status != c.status || !strings.Contains(a.Error.Message, c.say) || a.Error.Retryable {
			t.Errorf("%s, want %s %d with %s: %+v, %+v", c.operation, c.code, c.status, c.say, a.Error, a.Data)
		}
	}
}
