package aws

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
)

const (
	goodDecryption = `{"CipherText":"A1B2C3D4A1B2C3D4","DecryptionAttributes":{"Dukpt":{"KeySerialNumber":"FFFF9876543210E00001","Mode":"CBC",` +
		`"DukptKeyDerivationType":"TDES_2KEY","DukptKeyVariant":"REQUEST","InitializationVector":"0000000000000000"}}}`
	goodReEncryption = `{"OutgoingKeyIdentifier":"alias/other","CipherText":"A1B2C3D4A1B2C3D4",` +
		`"IncomingEncryptionAttributes":{"Dukpt":{"KeySerialNumber":"9876543210E00001","DukptKeyVariant":"REQUEST"}},` +
		`"OutgoingEncryptionAttributes":{"Dukpt":{"KeySerialNumber":"123456789012345600000001","DukptKeyVariant":"RESPONSE"}}}`
	goodTranslation = `{"IncomingKeyIdentifier":"alias/bdk","OutgoingKeyIdentifier":"alias/zone","EncryptedPinBlock":"A1B2C3D4A1B2C3D4",` +
		`"IncomingTranslationAttributes":{"IsoFormat0":{"PrimaryAccountNumber":"4761739001010119"}},` +
		`"OutgoingTranslationAttributes":{"IsoFormat3":{"PrimaryAccountNumber":"4761739001010119"}},` +
		`"IncomingDukptAttributes":{"KeySerialNumber":"FFFF9876543210E00001"}}`
	goodVerification = `{"KeyIdentifier":"alias/bdk","MessageData":"00","Mac":"A1B2C3D4","MacLength":4,` +
		`"VerificationAttributes":{"DukptCmac":{"KeySerialNumber":"123456789012345600000001","DukptKeyVariant":"REQUEST","DukptDerivationType":"AES_128"}}}`
	goodGeneration = `{"KeyIdentifier":"alias/bdk","MessageData":"00",` +
		`"GenerationAttributes":{"DukptIso9797Algorithm3":{"KeySerialNumber":"FFFF9876543210E00001","DukptKeyVariant":"RESPONSE"}}}`
)

// readers read each kind of request, and return its calls with their keys.
var readers = map[string]func(body []byte) ([]decrypt.CallKey, error){
	"decrypt": func(b []byte) ([]decrypt.CallKey, error) {
		c, err := readDecryptData(keyed(), b)
		return []decrypt.CallKey{c.Key}, err
	},
	"encrypt": func(b []byte) ([]decrypt.CallKey, error) {
		c, err := readEncryptData(keyed(), b)
		return []decrypt.CallKey{c.Key}, err
	},
	"reencrypt": func(b []byte) ([]decrypt.CallKey, error) {
		from, to, err := readReEncryptData(keyed(), b)
		return []decrypt.CallKey{from.Key, to.Key}, err
	},
	"translate": func(b []byte) ([]decrypt.CallKey, error) {
		c, err := readTranslatePinData(b)
		return []decrypt.CallKey{c.Key}, err
	},
	"generate": func(b []byte) ([]decrypt.CallKey, error) {
		c, err := readGenerateMac(b)
		return []decrypt.CallKey{c.Key}, err
	},
	"verify": func(b []byte) ([]decrypt.CallKey, error) {
		c, err := readVerifyMac(b)
		return []decrypt.CallKey{c.Key}, err
	},
}

// goodFixed and goodZone are calls without a KSN, under keys that come in key blocks.
const (
	goodFixed = `{"CipherText":"A1B2C3D4A1B2C3D4","DecryptionAttributes":{"Symmetric":{"Mode":"CBC","InitializationVector":"0000000000000000"}},` +
		`"WrappedKey":{"WrappedKeyMaterial":{"Tr31KeyBlock":"D0112"}}}`
	goodZone = `{"IncomingKeyIdentifier":"alias/zone","OutgoingKeyIdentifier":"alias/kek","EncryptedPinBlock":"A1B2C3D4A1B2C3D4",` +
		`"IncomingTranslationAttributes":{"IsoFormat0":{"PrimaryAccountNumber":"4761739001010119"}},` +
		`"OutgoingTranslationAttributes":{"IsoFormat3":{"PrimaryAccountNumber":"4761739001010119"}},` +
		`"OutgoingWrappedKey":{"WrappedKeyMaterial":{"Tr31KeyBlock":"B0080"}}}`
)

// fixedKinds are the requests without a KSN.
var fixedKinds = map[string]bool{"fixed": true, "zone": true, "mac": true}

func init() {
	for kind, like := range map[string]string{"fixed": "decrypt", "zone": "translate", "mac": "verify"} {
		readers[kind] = readers[like]
	}
}

var good = map[string]string{
	"decrypt": goodDecryption, "encrypt": strings.NewReplacer("CipherText", "PlainText", "Decryption", "Encryption", "REQUEST", "RESPONSE").Replace(goodDecryption),
	"fixed": goodFixed, "zone": goodZone, "mac": strings.Replace(goodVerification, `{"DukptCmac":{"KeySerialNumber":"123456789012345600000001","DukptKeyVariant":"REQUEST","DukptDerivationType":"AES_128"}}`, `{"Algorithm":"HMAC_SHA512"}`, 1),
	"reencrypt": goodReEncryption, "translate": goodTranslation, "generate": goodGeneration, "verify": goodVerification,
}

func keyed() *http.Request {
	r := new(http.Request)
	r.SetPathValue("KeyIdentifier", "alias/bdk")
	return r
}

func code(err error) decrypt.Code {
	if err == nil {
		return ""
	}
	return refusalOf(err).Code
}

func TestGoodRequests(t *testing.T) {
	t.Parallel()
	for kind, body := range good {
		calls, err := readers[kind]([]byte(body))
		if err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		for _, c := range calls {
			if c.KSN.IsZero() != fixedKinds[kind] || c.Base.IsZero() || (c.Block != "") != (kind == "fixed") {
				t.Errorf("%s: %+v", kind, c)
			}
		}
	}
	from, to, err := readReEncryptData(keyed(), []byte(goodReEncryption))
	if err != nil || from.Key.KSN.String() != "FFFF9876543210E00001" || from.Mode != dukpt.CBC || from.IV != nil || from.WorkingKey != 0 ||
		to.Direction != dukpt.Response || to.Key.Base.String() != "alias/other" {
		t.Errorf("from %+v to %+v, %v", from, to, err)
	}
	verify, err := readVerifyMac([]byte(goodVerification))
	if err != nil || verify.Algorithm != dukpt.MACCMAC || verify.WorkingKey != dukpt.KeyAES128 || !bytes.Equal(verify.MAC, []byte{0xA1, 0xB2, 0xC3, 0xD4}) {
		t.Errorf("verify %+v, %v", verify, err)
	}
}

// TestBadRequests has one thing wrong in each.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind, old, new string
		code           decrypt.Code
	}{
		"unknown member":          {"decrypt", `{"CipherText"`, `{"Colour":"red","CipherText"`, decrypt.CodeRequestMalformed},
		"unknown member inside":   {"decrypt", `"Mode"`, `"Node"`, decrypt.CodeRequestMalformed},
		"wrong case":              {"decrypt", `"CipherText"`, `"Ciphertext"`, decrypt.CodeRequestMalformed},
		"twice":                   {"decrypt", `{"CipherText"`, `{"CipherText":"00","CipherText"`, decrypt.CodeRequestMalformed},
		"null":                    {"decrypt", `"A1B2C3D4A1B2C3D4"`, `null`, decrypt.CodeRequestMalformed},
		"no ciphertext":           {"decrypt", `"CipherText":"A1B2C3D4A1B2C3D4",`, ``, decrypt.CodeRequestMalformed},
		"half a byte":             {"decrypt", `"A1B2C3D4A1B2C3D4"`, `"A1B"`, decrypt.CodeRequestMalformed},
		"a wrapped base key":      {"decrypt", `{"CipherText"`, `{"WrappedKey":{"WrappedKeyMaterial":{"Tr31KeyBlock":"D0"}},"CipherText"`, decrypt.CodeNotSupported},
		"another shape":           {"decrypt", `{"Dukpt":`, `{"Symmetric":`, decrypt.CodeRequestMalformed},
		"a mode of fixed keys":    {"fixed", `"CBC"`, `"OFB"`, decrypt.CodeNotSupported},
		"no mode":                 {"fixed", `"Mode":"CBC",`, ``, decrypt.CodeRequestMalformed},
		"a padding":               {"fixed", `"Mode":"CBC",`, `"Mode":"CBC","PaddingType":"PKCS1",`, decrypt.CodeNotSupported},
		"a mode of no model":      {"fixed", `"CBC"`, `"CTR"`, decrypt.CodeRequestMalformed},
		"nothing wrapped":         {"fixed", `{"Tr31KeyBlock":"D0112"}`, `{}`, decrypt.CodeRequestMalformed},
		"no material":             {"fixed", `"WrappedKeyMaterial":{"Tr31KeyBlock":"D0112"}`, `"KeyCheckValueAlgorithm":"CMAC"`, decrypt.CodeRequestMalformed},
		"a key agreed on":         {"fixed", `"Tr31KeyBlock":"D0112"`, `"DiffieHellmanSymmetricKey":{}`, decrypt.CodeNotSupported},
		"another check value":     {"fixed", `{"Tr31KeyBlock":"D0112"}`, `{"Tr31KeyBlock":"D0112"},"KeyCheckValueAlgorithm":"SHA_1"`, decrypt.CodeNotSupported},
		"a long block":            {"fixed", `D0112`, strings.Repeat("D", 10000), decrypt.CodeRequestMalformed},
		"EMV":                     {"decrypt", `{"Dukpt":`, `{"Emv":`, decrypt.CodeNotSupported},
		"two in a union":          {"decrypt", `{"Dukpt":`, `{"Asymmetric":{},"Dukpt":`, decrypt.CodeRequestMalformed},
		"no attributes":           {"decrypt", `,"DecryptionAttributes"`, `,"EncryptionAttributes"`, decrypt.CodeRequestMalformed},
		"no variant":              {"decrypt", `"DukptKeyVariant":"REQUEST",`, ``, decrypt.CodeRequestMalformed},
		"another variant":         {"decrypt", `REQUEST`, `request`, decrypt.CodeRequestMalformed},
		"another derivation":      {"decrypt", `TDES_2KEY`, `TDES_1KEY`, decrypt.CodeRequestMalformed},
		"another mode":            {"decrypt", `"CBC"`, `"CTR"`, decrypt.CodeRequestMalformed},
		"a KSN of no counter":     {"decrypt", `E00001`, `E00000`, decrypt.CodeRequestMalformed},
		"a KSN of another length": {"decrypt", `E00001`, `E0001`, decrypt.CodeRequestMalformed},
		"no outgoing key":         {"reencrypt", `"OutgoingKeyIdentifier":"alias/other",`, ``, decrypt.CodeRequestMalformed},
		"a key upwards":           {"reencrypt", `alias/other`, `alias/../other`, decrypt.CodeKeyIdentifierInvalid},
		"an ARN of AWS":           {"reencrypt", `alias/other`, `arn:aws:payment-cryptography:us-east-1:111122223333:key/kwapwa6qaifllw2h`, decrypt.CodeKeyIdentifierInvalid},
		"another PAN form":        {"translate", `4761739001010119"}},"Out`, `476173900101011X"}},"Out`, decrypt.CodeRequestMalformed},
		"no PAN":                  {"translate", `{"PrimaryAccountNumber":"4761739001010119"}},"Out`, `{}},"Out`, decrypt.CodeRequestMalformed},
		"format 1":                {"translate", `"IsoFormat0":{"PrimaryAccountNumber":"4761739001010119"}`, `"IsoFormat1":{}`, decrypt.CodeNotSupported},
		"a PIN of a host":         {"translate", `E00001"`, `E00001","DukptKeyVariant":"RESPONSE"`, decrypt.CodeDirectionNotPermitted},
		"for a terminal":          {"translate", `,"IncomingDukptAttributes"`, `,"OutgoingDukptAttributes":{},"IncomingDukptAttributes"`, decrypt.CodeNotSupported},
		"no MAC":                  {"verify", `"Mac":"A1B2C3D4",`, ``, decrypt.CodeRequestMalformed},
		"another MAC length":      {"verify", `"MacLength":4`, `"MacLength":8`, decrypt.CodeRequestMalformed},
		"a MAC of a static key":   {"verify", `{"DukptCmac":{"KeySerialNumber":"123456789012345600000001","DukptKeyVariant":"REQUEST","DukptDerivationType":"AES_128"}}`, `{"Algorithm":"AS2805_4_1"}`, decrypt.CodeNotSupported},
		"the other spelling":      {"verify", `DukptDerivationType`, `DukptKeyDerivationType`, decrypt.CodeRequestMalformed},
		"no message":              {"generate", `"MessageData":"00",`, ``, decrypt.CodeRequestMalformed},
		"a MAC of no bytes":       {"generate", `"MessageData":"00",`, `"MessageData":"00","MacLength":0,`, decrypt.CodeRequestMalformed},
	} {
		body := strings.Replace(good[c.kind], c.old, c.new, 1)
		if body == good[c.kind] {
			t.Errorf("%s: nothing is wrong", name)
		}
		if _, err := readers[c.kind]([]byte(body)); code(err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
}

// FuzzRequest holds the parsers of all requests to this: what is accepted names its keys, and accepts not one member more.
func FuzzRequest(f *testing.F) {
	for _, body := range good {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for kind, parse := range readers {
			calls, err := parse(body)
			if err != nil {
				if _, ok := errors.AsType[*decrypt.Refusal](err); !ok {
					t.Fatalf("%s: %v is no refusal", kind, err)
				}
				continue
			}
			for _, c := range calls {
				if c.Base.IsZero() || c.Block != "" && !c.KSN.IsZero() {
					t.Fatalf("%s: %q is accepted and names no key", kind, body)
				}
			}
			open := bytes.TrimSpace(body)
			for _, more := range []string{`,"Extra":"x"}`, `,"More":null}`, `}x`, `,"keyidentifier":"alias/x"}`} {
				worse := append(bytes.Clone(open[:len(open)-1]), more...)
				if _, err := parse(worse); err == nil {
					t.Fatalf("%s: %q is accepted", kind, worse)
				}
			}
		}
	})
}
