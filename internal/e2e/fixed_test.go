package e2e

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
)

func upper(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

// testFixedKeys has the SDK work without a KSN: MACs of published examples, data, a key in a key block, and a PIN from zone to zone, whose
// block may not be asked about for long.
func (s *awsSite) testFixedKeys(t *testing.T) {
	d, stop := s.drive(t, "fixed")
	defer stop()
	none := func(operation string, params members, member, want string) {
		t.Helper()
		got := d.answered(operation, params)
		if got[member] != want {
			t.Errorf("%s %v: %v, want %s", operation, params, got, want)
		}
	}
	const message = "6BC1BEE22E409F96E93D7E117393172AAE2D8A571E03AC9C9EB76FAC45AF8E5130C81C46A35CE411" // NIST SP 800-38B, D.1, example 3
	algorithm := func(name string) members { return members{"Algorithm": name} }
	none("generateMac", members{"KeyIdentifier": "alias/mac", "MessageData": message, "GenerationAttributes": algorithm("CMAC")}, "Mac", "DFA66747DE9AE63030CA32611497C827")
	d.answered("verifyMac", members{"KeyIdentifier": "alias/mac", "MessageData": message, "Mac": "DFA66747DE9AE630", "VerificationAttributes": algorithm("CMAC")})
	m := hmac.New(sha512.New, fixedHMAC)
	m.Write([]byte("any length"))
	none("generateMac", members{"KeyIdentifier": "alias/hmac", "MessageData": upper([]byte("any length")), "GenerationAttributes": algorithm("HMAC_SHA512")}, "Mac", upper(m.Sum(nil)))

	c, err := aes.NewCipher(fixedAES)
	check(t, err)
	plain, iv := []byte("sixteen of bytes and of sixteen."), []byte("an IV of sixteen")
	ct := make([]byte, len(plain))
	cipher.NewCBCEncrypter(c, iv).CryptBlocks(ct, plain)
	cbc := members{"Symmetric": members{"Mode": "CBC", "InitializationVector": upper(iv)}}
	none("encryptData", members{"KeyIdentifier": "alias/data", "PlainText": upper(plain), "EncryptionAttributes": cbc}, "CipherText", upper(ct))
	none("decryptData", members{"KeyIdentifier": "alias/data", "CipherText": upper(ct), "DecryptionAttributes": cbc}, "PlainText", upper(plain))
	terminal := vectors(t, aesVectors, "data_request", vectorAES)[0]
	clear, err := hex.DecodeString(padded(terminal, 16))
	check(t, err)
	onwards := make([]byte, len(clear))
	cipher.NewCBCEncrypter(c, iv).CryptBlocks(onwards, clear)
	none("reEncryptData", members{
		"IncomingKeyIdentifier": "alias/bdk-aes", "OutgoingKeyIdentifier": "alias/data", "CipherText": terminal["ciphertext"],
		"IncomingEncryptionAttributes": dukptData(terminal["ksn"], "AES_128", "REQUEST"), "OutgoingEncryptionAttributes": cbc,
	}, "CipherText", upper(onwards))

	attributes := keys.Attributes{Algorithm: keys.AES256, Usage: keys.UsageKBPK, Mode: keys.ModeBoth, Exportability: keys.NonExportable}
	kek, err := keys.NewKey(attributes, fixedKEK)
	check(t, err)
	defer kek.Wipe()
	p, err := keyblock.NewProtector(kek)
	check(t, err)
	defer p.Wipe()
	attributes.Algorithm, attributes.Usage = keys.AES128, keys.UsageData
	came, err := keys.NewKey(attributes, fixedAES)
	check(t, err)
	defer came.Wipe()
	block, err := p.Wrap(came)
	check(t, err)
	under := func(block string) members {
		return members{
			"KeyIdentifier": "alias/kek", "CipherText": upper(ct), "DecryptionAttributes": cbc, "WrappedKey": members{"WrappedKeyMaterial": members{"Tr31KeyBlock": block}},
		}
	}
	none("decryptData", under(block), "PlainText", upper(plain))
	if a := d.call("decryptData", under(strings.Replace(block, "D0AB", "D0AD", 1))); a.Error == nil || a.Error.Code != "ValidationException" || !strings.HasPrefix(a.Error.Message, "KeyBlockInvalid") {
		t.Errorf("an altered header: %+v", a)
	}

	t3, err := des.NewTripleDESCipher(append(otherZone[:16:16], otherZone[:8]...))
	check(t, err)
	pan, field := "4761739001010119", []byte("\x04\x47\x11\xff\xff\xff\xff\xff")
	account, err := hex.DecodeString("0000" + pan[3:15])
	check(t, err)
	for i := range field {
		field[i] ^= account[i]
	}
	t3.Encrypt(field, field)
	translate := members{
		"IncomingKeyIdentifier": "alias/tpk", "OutgoingKeyIdentifier": "alias/zone-aes", "EncryptedPinBlock": upper(field),
		"IncomingTranslationAttributes": members{"IsoFormat0": members{"PrimaryAccountNumber": pan}},
		"OutgoingTranslationAttributes": members{"IsoFormat4": members{"PrimaryAccountNumber": pan}},
	}
	for range 3 {
		moved, err := hex.DecodeString(d.answered("translatePinData", translate)["PinBlock"])
		check(t, err)
		if pin, err := openFormat4(moved, pan); err != nil || pin != "4711" {
			t.Errorf("the other zone finds %s, %v", pin, err)
		}
	}
	if a := d.call("translatePinData", translate); a.Error == nil || a.Error.Code != "ThrottlingException" || a.Error.Status != 429 || !strings.HasPrefix(a.Error.Message, "RateLimited") {
		t.Errorf("a fourth time: %+v", a)
	}
	said := s.metrics(t, d)
	for _, want := range []string{
		`latchkey_calls_total{action="translate-pin",result="NONE"} 3`, `latchkey_calls_total{action="generate-mac",result="NONE"} 2`,
		`latchkey_calls_total{action="re-encrypt-data",result="FRESH"} 1`, "latchkey_requests_waiting 0",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("the metrics do not say %s", want)
		}
	}
}

// metrics reads what the service of a driver counts.
func (s *awsSite) metrics(t *testing.T, d *driver) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s/metrics", d.admin), nil)
	check(t, err)
	res, err := http.DefaultClient.Do(r)
	check(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	check(t, err)
	return string(text)
}
