package est_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/latchkey-pos/latchkey/tls/identity"
)

var (
	terminal  = identity.Identity{Tenant: "ACME", Role: identity.Terminal, Name: "T-0001"}
	agreement = identity.Identity{Tenant: "ACME", Role: identity.Agreement, Name: "T-0001"}
)

// Object identifiers as DER has them behind tag and length.
const (
	oidCN               = "\x55\x04\x03"
	oidO                = "\x55\x04\x0a"
	oidOU               = "\x55\x04\x0b"
	oidC                = "\x55\x04\x06"
	oidSerialNumber     = "\x55\x04\x05"
	oidEmail            = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01"
	oidUnstructuredName = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x02"
	oidChallenge        = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x07"
	oidExtensions       = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e"
	oidMicrosoft        = "\x2b\x06\x01\x04\x01\x82\x37\x02\x01\x0e"
	oidHuge             = "\x69\x83\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
	oidECDSA            = "\x2a\x86\x48\xce\x3d\x02\x01"
	oidP256             = "\x2a\x86\x48\xce\x3d\x03\x01\x07"
	oidSHA1             = "\x2a\x86\x48\xce\x3d\x04\x01"
	oidSHA224           = "\x2a\x86\x48\xce\x3d\x04\x03\x01"
	oidSHA256           = "\x2a\x86\x48\xce\x3d\x04\x03\x02"
	oidSHA384           = "\x2a\x86\x48\xce\x3d\x04\x03\x03"
	oidRSASHA256        = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b"
	oidSAN              = "\x55\x1d\x11"
	oidKU               = "\x55\x1d\x0f"
	oidBC               = "\x55\x1d\x13"
	oidEKU              = "\x55\x1d\x25"
	oidSKI              = "\x55\x1d\x0e"
	oidPolicies         = "\x55\x1d\x20"
	oidNameConstraints  = "\x55\x1d\x1e"
	oidServerAuth       = "\x2b\x06\x01\x05\x05\x07\x03\x01"
	oidClientAuth       = "\x2b\x06\x01\x05\x05\x07\x03\x02"
	oidCodeSigning      = "\x2b\x06\x01\x05\x05\x07\x03\x03"
	oidAnyUsage         = "\x55\x1d\x25\x00"
	oidUPN              = "\x2b\x06\x01\x04\x01\x82\x37\x14\x02\x03"
)

// draft is a certification request whose every part can be anything. The parts are DER, as they stand in the request.
type draft struct {
	version    []byte
	subject    []byte
	publicKey  []byte
	attributes []byte
	more       []byte // behind the attributes
	algorithm  []byte
	signature  []byte            // nil: made with key over what was drawn up
	key        *ecdsa.PrivateKey // signs
	extra      []byte            // behind the signature
}

// newDraft returns the request that an honest terminal makes.
func newDraft(key *ecdsa.PrivateKey) *draft {
	d := &draft{
		version:    tlv(asn1.INTEGER, []byte{0}),
		subject:    seq(rdn(oidO, asn1.UTF8String, "ACME"), rdn(oidCN, asn1.UTF8String, "T-0001")),
		attributes: context(0),
		algorithm:  seq(oid(oidSHA256)),
	}
	d.owner(key)
	return d
}

// owner makes key the one that is to be certified.
func (d *draft) owner(key *ecdsa.PrivateKey) {
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		panic(err)
	}
	d.publicKey, d.key = der, key
}

func (d *draft) info() []byte {
	return seq(d.version, d.subject, d.publicKey, d.attributes, d.more)
}

func (d *draft) bytes() []byte {
	info, signature := d.info(), d.signature
	if signature == nil {
		signature = tlv(asn1.BIT_STRING, []byte{0}, sign(d.key, info, crypto.SHA256))
	}
	return seq(info, d.algorithm, signature, d.extra)
}

func sign(key *ecdsa.PrivateKey, message []byte, hash crypto.Hash) []byte {
	h := hash.New()
	h.Write(message)
	sig, err := ecdsa.SignASN1(rand.Reader, key, h.Sum(nil))
	if err != nil {
		panic(err)
	}
	return sig
}

func newKey(curve elliptic.Curve) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err) // a known curve and a source that cannot fail
	}
	return key
}

func tlv(tag asn1.Tag, parts ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(slices.Concat(parts...)) })
	return b.BytesOrPanic()
}

func seq(parts ...[]byte) []byte { return tlv(asn1.SEQUENCE, parts...) }

func set(parts ...[]byte) []byte { return tlv(asn1.SET, parts...) }

func oid(s string) []byte { return tlv(asn1.OBJECT_IDENTIFIER, []byte(s)) }

func context(n uint8, parts ...[]byte) []byte {
	return tlv(asn1.Tag(n).ContextSpecific().Constructed(), parts...)
}

func rdn(typ string, tag asn1.Tag, text string) []byte {
	return set(seq(oid(typ), tlv(tag, []byte(text))))
}

func attribute(typ string, values ...[]byte) []byte { return seq(oid(typ), set(values...)) }

func extension(typ string, value []byte) []byte { return seq(oid(typ), tlv(asn1.OCTET_STRING, value)) }

func critical(typ string, value []byte) []byte {
	return seq(oid(typ), tlv(asn1.BOOLEAN, []byte{0xff}), tlv(asn1.OCTET_STRING, value))
}

// general is a GeneralName of a primitive type.
func general(tag uint8, value string) []byte {
	return tlv(asn1.Tag(tag).ContextSpecific(), []byte(value))
}

// wanted makes the attributes of a request for extensions.
func wanted(extensions ...[]byte) []byte {
	return context(0, attribute(oidExtensions, seq(extensions...)))
}

// san makes the attributes of a request for alternative names.
func san(names ...[]byte) []byte { return wanted(extension(oidSAN, seq(names...))) }

// scalar returns the private key whose number is d, negative numbers counting down from the order of the curve.
func scalar(t testing.TB, curve elliptic.Curve, d int) *ecdsa.PrivateKey {
	t.Helper()
	size := (curve.Params().BitSize + 7) / 8
	n := curve.Params().N.FillBytes(make([]byte, size))
	if d > 0 {
		n = make([]byte, size)
		n[size-1] = byte(d)
	} else {
		borrow := -d
		for i := size - 1; borrow > 0; i-- {
			v := int(n[i]) - borrow
			borrow = 0
			if v < 0 {
				v, borrow = v+256, 1
			}
			n[i] = byte(v)
		}
	}
	key, err := ecdsa.ParseRawPrivateKey(curve, n)
	if err != nil {
		t.Fatal(fmt.Errorf("scalar %d: %w", d, err))
	}
	return key
}
