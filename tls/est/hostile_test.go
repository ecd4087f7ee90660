package est_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte/asn1"
)

// What is said about requests that may not be certified. These texts are public: they change only with a reason.
const (
	badKey        = "the key must be an EC key on P-256, P-384 or P-521, whichever the authority asks for"
	badPoint      = "the public key is not an uncompressed point on its curve"
	knownKey      = "everybody knows the private key: generate one at random"
	badAlgorithm  = "sign it by ECDSA with SHA-256, SHA-384 or SHA-512"
	badSignature  = "it is not signed by the key in it"
	badCN         = "CN in the subject must be the name that it is for, or be left out"
	badO          = "O in the subject must be the tenant, or be left out"
	badSubject    = "the subject may have one O and one CN and nothing else"
	multiValued   = "the subject has several names in one place: write one after the other"
	badString     = "the subject must be written as UTF8String or PrintableString"
	badSAN        = "subjectAltName must hold the identity as one URI and nothing else, or be left out"
	badBC         = "basicConstraints must be CA:FALSE, or be left out"
	badKU         = "keyUsage must be digitalSignature alone, or be left out"
	badEKU        = "extendedKeyUsage must be clientAuth alone, or be left out"
	badExtension  = "an extension is none of subjectAltName, keyUsage, extendedKeyUsage and basicConstraints: leave it out"
	twiceExt      = "an extension is there twice"
	twiceAttr     = "an attribute is there twice"
	badAttribute  = "an attribute is neither a challengePassword nor an extension request"
	badChallenge  = "the challengePassword is not a text of at most 255 bytes"
	notRequest    = "not a PKCS #10 request in DER"
	tooLong       = "the request is too long"
	following     = "something follows the request"
	badVersion    = "the version of the request is not v1, whose number is 0"
	noSubject     = "the subject cannot be read"
	noAttribute   = "an attribute cannot be read"
	noExtensions  = "the extensions cannot be read"
	noPublicKey   = "the public key cannot be read"
	noAlgorithm   = "the signature algorithm cannot be read"
	newKeyPlease  = "the key must be another one than that of the current certificate"
	otherSubject  = "the subject must be that of the current certificate"
	somebodyElse  = "the current certificate is for somebody else"
	noIdentity    = "the current certificate carries no identity"
	badAgreement  = "keyUsage must be keyAgreement alone, or be left out"
	badAgreedEKU  = "extendedKeyUsage must be left out"
	formatPrefix  = "est: malformed message: "
	requestPrefix = "est: request refused: "
)

// hostile is what somebody may send who is after more than the identity, by what is said about it.
type hostile map[string]map[string]func(*draft)

func subject(parts ...[]byte) func(*draft) { return func(d *draft) { d.subject = seq(parts...) } }

func asks(attributes ...[]byte) func(*draft) {
	return func(d *draft) { d.attributes = context(0, attributes...) }
}

func extended(extensions ...[]byte) func(*draft) {
	return func(d *draft) { d.attributes = wanted(extensions...) }
}

func named(names ...[]byte) func(*draft) { return func(d *draft) { d.attributes = san(names...) } }

func cn(text string) func(*draft) { return subject(rdn(oidCN, asn1.UTF8String, text)) }

func algorithm(parts ...[]byte) func(*draft) { return func(d *draft) { d.algorithm = seq(parts...) } }

func publicKey(pub crypto.PublicKey) func(*draft) {
	return func(d *draft) {
		der, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			panic(err)
		}
		d.publicKey = der
	}
}

func point(b []byte) func(*draft) {
	return func(d *draft) {
		d.publicKey = seq(seq(oid(oidECDSA), oid(oidP256)), tlv(asn1.BIT_STRING, []byte{0}, b))
	}
}

func uncompressed(key *ecdsa.PrivateKey) []byte {
	b, err := key.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	return b
}

var uri = terminal.String()

var hostileNames = hostile{
	badCN: {
		"another CN": cn("T-0002"), "an empty CN": cn(""), "CN in lower case": cn("t-0001"), "CN with a blank": cn("T-0001 "),
		"CN with NUL": cn("T-0001\x00"), "CN with NUL and more": cn("T-0001\x00.evil.example"), "CN with a newline": cn("T-0001\n"),
		"a wildcard": cn("T-*"), "a wildcard alone": cn("*"), "CN of two names": cn("T-0001,CN=T-0002"), "CN in quotes": cn(`"T-0001"`),
		"percent encoding": cn("T%2D0001"), "a slash": cn("T-0001/CN=T-0002"), "a look-alike letter": cn("\u0422-0001"),
		"a look-alike hyphen": cn("T\u20100001"), "a look-alike digit": cn("T-000\uff11"), "a zero-width joiner": cn("T-0001\u200d"),
		"a right-to-left override": cn("\u202e1000-T"), "invalid UTF-8": cn("T-0001\xff"), "the URI as CN": cn(uri),
		"a name of the operator": cn("OPERATOR"), "a very long CN": cn(strings.Repeat("T", 5000)),
	},
	badO: {
		"another tenant": subject(rdn(oidO, asn1.UTF8String, "OTHER"), rdn(oidCN, asn1.UTF8String, "T-0001")),
		"an empty O":     subject(rdn(oidO, asn1.UTF8String, "")),
		"O with NUL":     subject(rdn(oidO, asn1.PrintableString, "ACME\x00")),
		"O look-alike":   subject(rdn(oidO, asn1.UTF8String, "AC\u041cE")),
		"O and CN change places": subject(
			rdn(oidO, asn1.UTF8String, "T-0001"), rdn(oidCN, asn1.UTF8String, "ACME")),
	},
	badSubject: {
		"two CNs": subject(rdn(oidCN, asn1.UTF8String, "T-0001"), rdn(oidCN, asn1.UTF8String, "T-0001")),
		"a second CN of another name": subject(
			rdn(oidCN, asn1.UTF8String, "T-0001"), rdn(oidCN, asn1.UTF8String, "T-0002")),
		"two Os":               subject(rdn(oidO, asn1.UTF8String, "ACME"), rdn(oidO, asn1.UTF8String, "ACME")),
		"OU":                   subject(rdn(oidOU, asn1.UTF8String, "admin")),
		"country":              subject(rdn(oidC, asn1.PrintableString, "DE")),
		"a serial number":      subject(rdn(oidSerialNumber, asn1.PrintableString, "T-0001")),
		"an attribute of ours": subject(rdn(oidHuge, asn1.UTF8String, "T-0001")),
	},
	multiValued: {
		"two names in one place": subject(set(
			seq(oid(oidO), tlv(asn1.UTF8String, []byte("ACME"))), seq(oid(oidCN), tlv(asn1.UTF8String, []byte("T-0001"))))),
	},
	badString: {
		"BMPString":       subject(rdn(oidCN, asn1.Tag(30), "\x00T\x00-\x000\x000\x000\x001")),
		"UniversalString": subject(rdn(oidCN, asn1.Tag(28), "\x00\x00\x00T")),
		"T61String":       subject(rdn(oidCN, asn1.T61String, "T-0001")),
		"IA5String":       subject(rdn(oidCN, asn1.IA5String, "T-0001")),
		"an octet string": subject(rdn(oidCN, asn1.OCTET_STRING, "T-0001")),
		"a sequence":      subject(set(seq(oid(oidCN), seq(tlv(asn1.UTF8String, []byte("T-0001")))))),
		"a mail address":  subject(rdn(oidEmail, asn1.IA5String, "a@evil.example")),
	},
	noSubject: {
		"a subject of numbers":     subject(tlv(asn1.INTEGER, []byte{1})),
		"a set without a name":     subject(set()),
		"a name without a value":   subject(set(seq(oid(oidCN)))),
		"a name with two values":   subject(set(seq(oid(oidCN), tlv(asn1.UTF8String, []byte("T-0001")), tlv(asn1.UTF8String, []byte("T-0002"))))),
		"a name that is no object": subject(set(seq(tlv(asn1.UTF8String, []byte("CN")), tlv(asn1.UTF8String, []byte("T-0001"))))),
	},
	badSAN: {
		"another terminal":    named(general(6, "latchkey://ACME/terminal/T-0002")),
		"another tenant":      named(general(6, "latchkey://OTHER/terminal/T-0001")),
		"another role":        named(general(6, "latchkey://ACME/operator/T-0001")),
		"the role agreement":  named(general(6, agreement.String())),
		"the identity twice":  named(general(6, uri), general(6, uri)),
		"one URI more":        named(general(6, uri), general(6, "spiffe://evil.example/x")),
		"a foreign URI":       named(general(6, "https://evil.example/")),
		"URI with NUL":        named(general(6, uri+"\x00")),
		"URI with an escape":  named(general(6, "latchkey://ACME/terminal/%54-0001")),
		"URI in capitals":     named(general(6, "LATCHKEY://ACME/terminal/T-0001")),
		"URI with a fragment": named(general(6, uri+"#")),
		"URI with a query":    named(general(6, uri+"?x")),
		"URI with a slash":    named(general(6, uri+"/")),
		"URI with dots":       named(general(6, "latchkey://ACME/terminal/../operator/T-0001")),
		"URI with a wildcard": named(general(6, "latchkey://ACME/terminal/*")),
		"URI with a user":     named(general(6, "latchkey://x@ACME/terminal/T-0001")),
		"an empty URI":        named(general(6, "")),
		"a look-alike URI":    named(general(6, "latchkey://ACME/terminal/\u0422-0001")),
		"a DNS name":          named(general(2, "evil.example")),
		"a wildcard DNS name": named(general(2, "*.evil.example")),
		"the name as DNS":     named(general(2, "T-0001")),
		"identity and DNS":    named(general(6, uri), general(2, "evil.example")),
		"an IPv4 address":     named(general(7, "\x7f\x00\x00\x01")),
		"an IPv6 address":     named(general(7, strings.Repeat("\x00", 15)+"\x01")),
		"an odd address":      named(general(7, "\x01")),
		"identity and IP":     named(general(6, uri), general(7, "\x7f\x00\x00\x01")),
		"a mail address":      named(general(1, "a@evil.example")),
		"a directory name":    named(context(4, seq(rdn(oidCN, asn1.UTF8String, "T-0002")))),
		"an otherName":        named(context(0, oid(oidUPN), context(0, tlv(asn1.UTF8String, []byte("root@evil.example"))))),
		"a registered id":     named(general(8, "\x2a\x03")),
		"a general name 9":    named(general(9, "x")),
		"no name":             named(),
		"no sequence":         extended(extension(oidSAN, []byte(uri))),
		"an empty value":      extended(extension(oidSAN, nil)),
		"bytes behind it":     extended(extension(oidSAN, append(seq(general(6, uri)), 5, 0))),
		"a long length": extended(extension(oidSAN, slices.Concat(
			[]byte{0x30, 0x81, byte(len(uri) + 2), 0x86, byte(len(uri))}, []byte(uri)))),
		"an indefinite length": extended(extension(oidSAN, slices.Concat(
			[]byte{0x30, 0x80}, general(6, uri), []byte{0, 0}))),
	},
}

var hostilePowers = hostile{
	badBC: {
		"CA:TRUE":            extended(critical(oidBC, seq(tlv(asn1.BOOLEAN, []byte{0xff})))),
		"CA:TRUE, 0":         extended(extension(oidBC, seq(tlv(asn1.BOOLEAN, []byte{0xff}), tlv(asn1.INTEGER, []byte{0})))),
		"CA:TRUE as BER":     extended(extension(oidBC, seq(tlv(asn1.BOOLEAN, []byte{1})))),
		"CA:FALSE spelt out": extended(extension(oidBC, seq(tlv(asn1.BOOLEAN, []byte{0})))),
		"pathlen alone":      extended(extension(oidBC, seq(tlv(asn1.INTEGER, []byte{0})))),
		"no constraints":     extended(extension(oidBC, nil)),
	},
	badKU: {
		"keyCertSign":              extended(critical(oidKU, tlv(asn1.BIT_STRING, []byte{2, 0x04}))),
		"cRLSign":                  extended(critical(oidKU, tlv(asn1.BIT_STRING, []byte{1, 0x02}))),
		"signature and cert sign":  extended(critical(oidKU, tlv(asn1.BIT_STRING, []byte{2, 0x84}))),
		"keyAgreement":             extended(critical(oidKU, tlv(asn1.BIT_STRING, []byte{3, 0x08}))),
		"signature and agreement":  extended(critical(oidKU, tlv(asn1.BIT_STRING, []byte{3, 0x88}))),
		"keyEncipherment":          extended(critical(oidKU, tlv(asn1.BIT_STRING, []byte{5, 0xa0}))),
		"nonRepudiation":           extended(critical(oidKU, tlv(asn1.BIT_STRING, []byte{6, 0xc0}))),
		"decipherOnly":             extended(critical(oidKU, tlv(asn1.BIT_STRING, []byte{7, 0x80, 0x80}))),
		"no usage":                 extended(critical(oidKU, tlv(asn1.BIT_STRING, []byte{0}))),
		"trailing zero bits":       extended(critical(oidKU, tlv(asn1.BIT_STRING, []byte{0, 0x80}))),
		"a usage that is a number": extended(critical(oidKU, tlv(asn1.INTEGER, []byte{0x80}))),
	},
	badEKU: {
		"serverAuth":            extended(extension(oidEKU, seq(oid(oidServerAuth)))),
		"anyExtendedKeyUsage":   extended(extension(oidEKU, seq(oid(oidAnyUsage)))),
		"codeSigning":           extended(extension(oidEKU, seq(oid(oidCodeSigning)))),
		"client and serverAuth": extended(extension(oidEKU, seq(oid(oidClientAuth), oid(oidServerAuth)))),
		"clientAuth twice":      extended(extension(oidEKU, seq(oid(oidClientAuth), oid(oidClientAuth)))),
		"an unknown usage":      extended(extension(oidEKU, seq(oid(oidHuge)))),
		"no usage":              extended(extension(oidEKU, seq())),
	},
	badExtension: {
		"a subject key id":          extended(extension(oidSKI, tlv(asn1.OCTET_STRING, make([]byte, 20)))),
		"policies":                  extended(extension(oidPolicies, seq(seq(oid("\x55\x1d\x20\x00"))))),
		"name constraints":          extended(critical(oidNameConstraints, seq())),
		"an unknown extension":      extended(extension(oidHuge, []byte{5, 0})),
		"an unknown, critical one":  extended(critical(oidHuge, []byte{5, 0})),
		"an empty object":           extended(extension("", []byte{5, 0})),
		"behind one that is honest": extended(extension(oidSAN, seq(general(6, uri))), extension(oidMicrosoft, []byte{5, 0})),
	},
	twiceExt: {
		"subjectAltName twice": extended(extension(oidSAN, seq(general(6, uri))), extension(oidSAN, seq(general(6, uri)))),
		"the second is another": extended(
			extension(oidSAN, seq(general(6, uri))), extension(oidSAN, seq(general(6, "latchkey://ACME/terminal/T-0002")))),
		"constraints twice": extended(extension(oidBC, seq()), critical(oidBC, seq(tlv(asn1.BOOLEAN, []byte{0xff})))),
	},
	twiceAttr: {
		"two extension requests": asks(attribute(oidExtensions, seq(extension(oidBC, seq()))),
			attribute(oidExtensions, seq(extension(oidSAN, seq(general(2, "evil.example")))))),
		"one with two values": asks(attribute(oidExtensions,
			seq(extension(oidBC, seq())), seq(extension(oidSAN, seq(general(2, "evil.example")))))),
		"two challenges":            asks(attribute(oidChallenge, tlv(asn1.UTF8String, []byte("a"))), attribute(oidChallenge, tlv(asn1.UTF8String, []byte("b")))),
		"a challenge of two values": asks(attribute(oidChallenge, tlv(asn1.UTF8String, []byte("a")), tlv(asn1.UTF8String, []byte("b")))),
	},
	badAttribute: {
		"an unstructured name":       asks(attribute(oidUnstructuredName, tlv(asn1.UTF8String, []byte("x")))),
		"extensions of another kind": asks(attribute(oidMicrosoft, seq(extension(oidSAN, seq(general(2, "evil.example")))))),
		"an attribute of ours":       asks(attribute(oidHuge, tlv(asn1.UTF8String, []byte("x")))),
	},
	badChallenge: {
		"a long challenge":      asks(attribute(oidChallenge, tlv(asn1.UTF8String, bytes.Repeat([]byte("a"), 256)))),
		"a challenge in octets": asks(attribute(oidChallenge, tlv(asn1.OCTET_STRING, []byte("a")))),
	},
	noAttribute: {
		"an attribute without values":  asks(attribute(oidExtensions)),
		"an attribute that is no pair": asks(oid(oidExtensions)),
		"an attribute without a set":   asks(seq(oid(oidExtensions), seq(extension(oidBC, seq())))),
		"an attribute of three parts":  asks(seq(oid(oidChallenge), set(tlv(asn1.UTF8String, []byte("a"))), set())),
		"bytes for attributes":         asks([]byte{1, 2, 3}),
	},
	noExtensions: {
		"no extension":                 extended(),
		"extensions in octets":         asks(attribute(oidExtensions, tlv(asn1.OCTET_STRING, seq(extension(oidBC, seq()))))),
		"an extension of bytes":        extended([]byte{1, 2, 3}),
		"an extension without a value": extended(seq(oid(oidBC))),
		"critical false":               extended(seq(oid(oidBC), tlv(asn1.BOOLEAN, []byte{0}), tlv(asn1.OCTET_STRING, seq()))),
		"critical maybe":               extended(seq(oid(oidBC), tlv(asn1.BOOLEAN, []byte{1}), tlv(asn1.OCTET_STRING, seq()))),
		"an extension of four parts":   extended(seq(oid(oidBC), tlv(asn1.OCTET_STRING, seq()), tlv(asn1.OCTET_STRING, seq()))),
	},
}

var rsa2048, rsa1024 = newRSA(2048), newRSA(1024)

func newRSA(bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return key
}

var hostileKeys = hostile{
	badKey: {
		"RSA 2048": publicKey(rsa2048.Public()), "RSA 1024": publicKey(rsa1024.Public()),
		"Ed25519": publicKey(ed25519.NewKeyFromSeed(make([]byte, 32)).Public()),
		"P-224":   func(d *draft) { d.owner(newKey(elliptic.P224())) },
		"X25519":  func(d *draft) { d.publicKey = seq(seq(oid("\x2b\x65\x6e")), tlv(asn1.BIT_STRING, make([]byte, 33))) },
		"secp256k1": func(d *draft) {
			d.publicKey = seq(seq(oid(oidECDSA), oid("\x2b\x81\x04\x00\x0a")), tlv(asn1.BIT_STRING, []byte{0}, uncompressed(d.key)))
		},
		"brainpoolP256r1": func(d *draft) {
			d.publicKey = seq(seq(oid(oidECDSA), oid("\x2b\x24\x03\x03\x02\x08\x01\x01\x07")), tlv(asn1.BIT_STRING, []byte{0}, uncompressed(d.key)))
		},
		"a curve spelt out": func(d *draft) {
			d.publicKey = seq(seq(oid(oidECDSA), seq(tlv(asn1.INTEGER, []byte{1}))), tlv(asn1.BIT_STRING, []byte{0}, uncompressed(d.key)))
		},
		"no curve": func(d *draft) {
			d.publicKey = seq(seq(oid(oidECDSA)), tlv(asn1.BIT_STRING, []byte{0}, uncompressed(d.key)))
		},
		"an implicit curve": func(d *draft) {
			d.publicKey = seq(seq(oid(oidECDSA), tlv(asn1.NULL)), tlv(asn1.BIT_STRING, []byte{0}, uncompressed(d.key)))
		},
		"a curve and more": func(d *draft) {
			d.publicKey = seq(seq(oid(oidECDSA), oid(oidP256), tlv(asn1.NULL)), tlv(asn1.BIT_STRING, []byte{0}, uncompressed(d.key)))
		},
		"an ECDH-only algorithm": func(d *draft) {
			d.publicKey = seq(seq(oid("\x2b\x81\x04\x01\x0c"), oid(oidP256)), tlv(asn1.BIT_STRING, []byte{0}, uncompressed(d.key)))
		},
	},
	badPoint: {
		"infinity": point([]byte{0}), "no point": point(nil), "the origin": point(append([]byte{4}, make([]byte, 64)...)),
		"off the curve": func(d *draft) {
			b := uncompressed(d.key)
			b[64] ^= 1
			point(b)(d)
		},
		"beyond the field": point(append([]byte{4}, bytes.Repeat([]byte{0xff}, 64)...)),
		"compressed": func(d *draft) {
			b := uncompressed(d.key)
			point(append([]byte{2 + b[64]&1}, b[1:33]...))(d)
		},
		"hybrid": func(d *draft) {
			b := uncompressed(d.key)
			b[0] = 6 + b[64]&1
			point(b)(d)
		},
		"a byte more": func(d *draft) { point(append(uncompressed(d.key), 0))(d) },
		"a byte less": func(d *draft) { point(uncompressed(d.key)[:64])(d) },
		"of P-384":    func(d *draft) { point(uncompressed(newKey(elliptic.P384())))(d) },
		"of P-224":    func(d *draft) { point(uncompressed(newKey(elliptic.P224())))(d) },
		"its x alone": func(d *draft) { point(uncompressed(d.key)[:33])(d) },
		"with x and y swapped": func(d *draft) {
			b := uncompressed(d.key)
			point(slices.Concat(b[:1], b[33:], b[1:33]))(d)
		},
	},
	noPublicKey: {
		"no key": func(d *draft) { d.publicKey = seq() },
		"unused bits": func(d *draft) {
			d.publicKey = seq(seq(oid(oidECDSA), oid(oidP256)), tlv(asn1.BIT_STRING, []byte{1}, uncompressed(d.key)))
		},
		"key and more": func(d *draft) {
			d.publicKey = seq(seq(oid(oidECDSA), oid(oidP256)), tlv(asn1.BIT_STRING, []byte{0}, uncompressed(d.key)), tlv(asn1.NULL))
		},
		"key in octets": func(d *draft) {
			d.publicKey = seq(seq(oid(oidECDSA), oid(oidP256)), tlv(asn1.OCTET_STRING, uncompressed(d.key)))
		},
		"bytes as a key": func(d *draft) { d.publicKey = seq(uncompressed(d.key)) },
	},
}

var hostileForms = hostile{
	badAlgorithm: {
		"ECDSA with SHA-1":             algorithm(oid(oidSHA1)),
		"ECDSA with SHA-224":           algorithm(oid(oidSHA224)),
		"RSA with SHA-256":             algorithm(oid(oidRSASHA256), tlv(asn1.NULL)),
		"the key's algorithm":          algorithm(oid(oidECDSA)),
		"with parameters":              algorithm(oid(oidSHA256), tlv(asn1.NULL)),
		"with a curve as parameter":    algorithm(oid(oidSHA256), oid(oidP256)),
		"an algorithm of nobody":       algorithm(oid(oidHuge)),
		"an empty object for a method": algorithm(oid("")),
	},
	noAlgorithm: {"no algorithm": algorithm(), "an algorithm by name": algorithm(tlv(asn1.UTF8String, []byte("ECDSA")))},
	badSignature: {
		"another hash than it says": algorithm(oid(oidSHA384)),
		"by another key":            func(d *draft) { d.key = newKey(elliptic.P256()) },
		"by a key of another curve": func(d *draft) { d.key = newKey(elliptic.P384()) },
		"empty":                     func(d *draft) { d.signature = tlv(asn1.BIT_STRING, []byte{0}) },
		"of zeroes": func(d *draft) {
			d.signature = tlv(asn1.BIT_STRING, []byte{0}, seq(tlv(asn1.INTEGER, []byte{0}), tlv(asn1.INTEGER, []byte{0})))
		},
		"of ones": func(d *draft) {
			d.signature = tlv(asn1.BIT_STRING, []byte{0}, seq(tlv(asn1.INTEGER, []byte{1}), tlv(asn1.INTEGER, []byte{1})))
		},
		"over something else": func(d *draft) {
			d.signature = tlv(asn1.BIT_STRING, []byte{0}, sign(d.key, []byte("something else"), crypto.SHA256))
		},
		"over another request": func(d *draft) {
			other := newDraft(d.key)
			subject(rdn(oidCN, asn1.UTF8String, "T-0002"))(other)
			d.signature = tlv(asn1.BIT_STRING, []byte{0}, sign(d.key, other.info(), crypto.SHA256))
		},
		"with a byte behind it": func(d *draft) {
			d.signature = tlv(asn1.BIT_STRING, []byte{0}, sign(d.key, d.info(), crypto.SHA256), []byte{0})
		},
		"with the sign flipped": func(d *draft) {
			sig := sign(d.key, d.info(), crypto.SHA256)
			sig[len(sig)-1] ^= 1
			d.signature = tlv(asn1.BIT_STRING, []byte{0}, sig)
		},
	},
	badVersion: {
		"version 1":  func(d *draft) { d.version = tlv(asn1.INTEGER, []byte{1}) },
		"version 2":  func(d *draft) { d.version = tlv(asn1.INTEGER, []byte{2}) },
		"version -1": func(d *draft) { d.version = tlv(asn1.INTEGER, []byte{0xff}) },
	},
	notRequest: {
		"no version":                 func(d *draft) { d.version = nil },
		"a version of two bytes":     func(d *draft) { d.version = tlv(asn1.INTEGER, []byte{0, 0}) },
		"a version of no bytes":      func(d *draft) { d.version = tlv(asn1.INTEGER) },
		"no subject":                 func(d *draft) { d.subject = nil },
		"no public key":              func(d *draft) { d.publicKey = nil },
		"no attributes":              func(d *draft) { d.attributes = nil },
		"attributes as a set":        func(d *draft) { d.attributes = set() },
		"attributes twice":           func(d *draft) { d.more = context(0) },
		"something behind them":      func(d *draft) { d.more = tlv(asn1.NULL) },
		"something behind the whole": func(d *draft) { d.extra = tlv(asn1.NULL) },
		"no signature":               func(d *draft) { d.signature = []byte{} },
		"a signature in octets":      func(d *draft) { d.signature = tlv(asn1.OCTET_STRING, []byte{0}) },
		"a signature of seven bits":  func(d *draft) { d.signature = tlv(asn1.BIT_STRING, []byte{1, 0x80}) },
	},
	tooLong: {"64 KiB": asks(attribute(oidChallenge, tlv(asn1.UTF8String, make([]byte, 64<<10))))},
}

// publishedKeys are private keys that standards print.
var publishedKeys = map[string]string{
	"RFC 6979 P-256":           "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721",
	"RFC 6979 P-384":           "6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d896d5724e4c70a825f872c9ea60d2edf5",
	"RFC 6979 P-521":           "00fad06daa62ba3b25d2fb40133da757205de67f5bb0018fee8c86e1b68c7e75caa896eb32f1f47c70855836a6d16fcc1466f6d8fbec67db89ec0c08b0e996b83538",
	"RFC 5903 P-256 initiator": "c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433",
	"RFC 5903 P-256 responder": "c6ef9c5d78ae012a011164acb397ce2088685d8f06bf9be0b283ab46476bee53",
	"RFC 5903 P-384 initiator": "099f3c7034d4a2c699884d73a375a67f7624ef7c6b3c0f160647b67414dce655e35b538041e649ee3faef896783ab194",
	"RFC 5903 P-384 responder": "41cb0779b4bdb85d47846725fbec3c9430fab46cc8dc5060855cc9bda0aa2942e0308312916b8ed2960e4bd55a7448fc",
	"RFC 5903 P-521 initiator": "0037ade9319a89f4dabdb3ef411aaccca5123c61acab57b5393dce47608172a095aa85a30fe1c2952c6771d937ba9777f5957b2639bab072462f68c27a57382d4a52",
	"RFC 5903 P-521 responder": "0145ba99a847af43793fdd0e872e7cdfa16be30fdc780f97bccc3f078380201e9c677d600b343757a3bdbf2a3163e4c2f869cca7458aa4a4effc311f5cb151685eb9",
	"RFC 7515 A.3":             "8e9b109e719098bf980487df1f5d77e9cb29606ebed2263b5f57c213df84f4b2",
	"RFC 7515 A.4":             "018e696fb034505881dd110b483eb87d32ce495fe36b3745edf2d8cae4f0f2539f4615a0e98eab52b3c0c5eac4ce075185a8e7bb47deac1d1de77bccf66135e63d82",
	"RFC 7517 A.2":             "f3bd0c07a81fb932781ed52752f60cc89a6be5e51934fe01938ddb55d8f77801",
	"RFC 7518 C, Alice":        "d3f3716913d4310a0026de741b3f18893afc8114f0c84682ba677e313a13988a",
	"RFC 7518 C, Bob":          "5449836690d75caf29f0dd029ddb31b3ddb8aba9d2d515c5012465e817d4a9dc",
	"CAVP P-256":               "7d7dc5f71eb29ddaf80d6214632eeae03d9058af1fb6d22ed80badb62bc1a534",
	"CAVP P-384":               "3cc3122a68f0d95027ad38c067916ba0eb8c38894d22e1b15618b6818a661774ad463b205da88cf699ab4d43c9cf98a1",
	"CAVP P-521":               "017eecc07ab4b329068fba65e56a1f8890aa935e57134ae0ffcce802735151f4eac6564f6ee9974c5e6887a1fefee5743ae2241bfeb95d5ce31ddcb6f9edb4d6fc47",
	"NIST ECDSA P-256":         "c477f9f65c22cce20657faa5b2d1d8122336f851a508a1ed04e479c34985bf96",
}

func publishedKey(t *testing.T, text string) *ecdsa.PrivateKey {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	curve := map[int]elliptic.Curve{32: elliptic.P256(), 48: elliptic.P384(), 66: elliptic.P521()}[len(b)]
	key, err := ecdsa.ParseRawPrivateKey(curve, b)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
