package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
)

// Object identifiers as DER has them behind tag and length.
const (
	oidCN           = "\x55\x04\x03"
	oidO            = "\x55\x04\x0a"
	oidOU           = "\x55\x04\x0b"
	oidSerialNumber = "\x55\x04\x05"
	oidEmail        = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01"
	oidChallenge    = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x07"
	oidExtensions   = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e"
	oidEC           = "\x2a\x86\x48\xce\x3d\x02\x01"
	oidP256         = "\x2a\x86\x48\xce\x3d\x03\x01\x07"
	oidSHA1         = "\x2a\x86\x48\xce\x3d\x04\x01"
	oidSHA256       = "\x2a\x86\x48\xce\x3d\x04\x03\x02"
	oidSHA384       = "\x2a\x86\x48\xce\x3d\x04\x03\x03"
	oidSAN          = "\x55\x1d\x11"
	oidKU           = "\x55\x1d\x0f"
	oidBC           = "\x55\x1d\x13"
	oidEKU          = "\x55\x1d\x25"
	oidSKI          = "\x55\x1d\x0e"
	oidPolicies     = "\x55\x1d\x20"
	oidNames        = "\x55\x1d\x1e"
	oidServerAuth   = "\x2b\x06\x01\x05\x05\x07\x03\x01"
	oidClientAuth   = "\x2b\x06\x01\x05\x05\x07\x03\x02"
	oidAnyUsage     = "\x55\x1d\x25\x00"
)

// draft is a certification request (RFC 2986) whose every part can be anything.
type draft struct {
	version, subject, publicKey, attributes, algorithm []byte

	key       *ecdsa.PrivateKey // signs
	signature []byte            // nil: made with key over what was drawn up
	extra     []byte            // behind the signature
}

// newDraft is the request that an honest holder of the identity makes.
func newDraft(id identity.Identity, key *ecdsa.PrivateKey) *draft {
	return &draft{
		version: tlv(asn1.INTEGER, []byte{0}), subject: seq(rdn(oidO, asn1.UTF8String, id.Tenant), rdn(oidCN, asn1.UTF8String, id.Name)),
		publicKey: spki(key.Public()), attributes: tagged(0), algorithm: seq(oid(oidSHA256)), key: key,
	}
}

func (d *draft) bytes() []byte {
	info, signature := seq(d.version, d.subject, d.publicKey, d.attributes), d.signature
	if signature == nil {
		signature = tlv(asn1.BIT_STRING, []byte{0}, sign(d.key, info))
	}
	return seq(info, d.algorithm, signature, d.extra)
}

func sign(key *ecdsa.PrivateKey, message []byte) []byte {
	digest := sha256.Sum256(message)
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		panic(err) // with a key of a known curve
	}
	return sig
}

func spki(pub any) []byte {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		panic(err) // with a key that was just made
	}
	return der
}

func tlv(tag asn1.Tag, parts ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(slices.Concat(parts...)) })
	return b.BytesOrPanic()
}

func seq(parts ...[]byte) []byte { return tlv(asn1.SEQUENCE, parts...) }

func set(parts ...[]byte) []byte { return tlv(asn1.SET, parts...) }

func oid(s string) []byte { return tlv(asn1.OBJECT_IDENTIFIER, []byte(s)) }

func tagged(n uint8, parts ...[]byte) []byte {
	return tlv(asn1.Tag(n).ContextSpecific().Constructed(), parts...)
}

func rdn(typ string, tag asn1.Tag, text string) []byte {
	return set(seq(oid(typ), tlv(tag, []byte(text))))
}

func attribute(typ string, values ...[]byte) []byte { return seq(oid(typ), set(values...)) }

func extension(typ string, value []byte) []byte { return seq(oid(typ), tlv(asn1.OCTET_STRING, value)) }

// general is a GeneralName of a primitive type.
func general(tag uint8, value string) []byte {
	return tlv(asn1.Tag(tag).ContextSpecific(), []byte(value))
}

// hostile is one request that may not be certified for an identity.
type hostile struct {
	name string
	der  []byte
}

// hostileTo makes requests that are after something else than the identity, in every part that a request has. The key is
// the holder's own. The requests are the same each time but for keys and signatures.
func hostileTo(id identity.Identity, key *ecdsa.PrivateKey) (out []hostile) {
	for _, group := range []map[string]func(*draft){
		hostileSubjects(id), hostileNames(id), hostilePowers(), hostileKeys(key), hostileForms(id),
	} {
		for name, change := range group {
			d := newDraft(id, key)
			change(d)
			out = append(out, hostile{name, d.bytes()})
		}
	}
	slices.SortFunc(out, func(a, b hostile) int { return strings.Compare(a.name, b.name) })
	return append(out, damaged(newDraft(id, key).bytes())...)
}

func hostileSubjects(id identity.Identity) map[string]func(*draft) {
	subject := func(parts ...[]byte) func(*draft) { return func(d *draft) { d.subject = seq(parts...) } }
	out := map[string]func(*draft){
		"two CNs":             subject(rdn(oidCN, asn1.UTF8String, id.Name), rdn(oidCN, asn1.UTF8String, id.Name)),
		"a second CN":         subject(rdn(oidCN, asn1.UTF8String, id.Name), rdn(oidCN, asn1.UTF8String, "T-OTHER")),
		"O is another tenant": subject(rdn(oidO, asn1.UTF8String, "OTHER"), rdn(oidCN, asn1.UTF8String, id.Name)),
		"O is empty":          subject(rdn(oidO, asn1.UTF8String, "")),
		"O and CN swapped":    subject(rdn(oidO, asn1.UTF8String, id.Name), rdn(oidCN, asn1.UTF8String, id.Tenant)),
		"OU":                  subject(rdn(oidOU, asn1.UTF8String, "admin")),
		"serialNumber":        subject(rdn(oidSerialNumber, asn1.PrintableString, id.Name)),
		"a mail address":      subject(rdn(oidEmail, asn1.IA5String, "root@evil.example")),
		"a BMPString":         subject(rdn(oidCN, asn1.Tag(30), "\x00T")),
		"a T61String":         subject(rdn(oidCN, asn1.T61String, id.Name)),
		"CN without a value":  subject(set(seq(oid(oidCN)))),
		"a set of no names":   subject(set()),
		"several names in one place": subject(set(
			seq(oid(oidO), tlv(asn1.UTF8String, []byte(id.Tenant))), seq(oid(oidCN), tlv(asn1.UTF8String, []byte(id.Name))))),
	}
	for _, text := range []string{
		"T-OTHER", "", strings.ToLower(id.Name), id.Name + " ", " " + id.Name, id.Name + "\x00", id.Name + "\x00.evil.example", id.Name + "\n",
		id.Name + ",CN=T-OTHER", id.Name + "/CN=T-OTHER", `"` + id.Name + `"`, "T-*", "*", "%54" + id.Name[1:], "\u0422" + id.Name[1:],
		strings.ReplaceAll(id.Name, "-", "\u2010"), id.Name + "\u200d", "\u202e" + id.Name, id.Name + "\xff", id.String(), "OPERATOR-1",
		strings.Repeat("T", 5000),
	} {
		out[fmt.Sprintf("CN %.40q", text)] = subject(rdn(oidCN, asn1.UTF8String, text))
	}
	return out
}

func wants(extensions ...[]byte) func(*draft) {
	return func(d *draft) { d.attributes = tagged(0, attribute(oidExtensions, seq(extensions...))) }
}

func hostileNames(id identity.Identity) map[string]func(*draft) {
	san := func(names ...[]byte) func(*draft) { return wants(extension(oidSAN, seq(names...))) }
	uri := id.String()
	out := map[string]func(*draft){
		"the identity twice":     san(general(6, uri), general(6, uri)),
		"one URI more":           san(general(6, uri), general(6, "spiffe://evil.example/x")),
		"identity and DNS":       san(general(6, uri), general(2, "evil.example")),
		"identity and IP":        san(general(6, uri), general(7, "\x7f\x00\x00\x01")),
		"DNS":                    san(general(2, "localhost")),
		"wildcard DNS":           san(general(2, "*.evil.example")),
		"IPv4":                   san(general(7, "\x7f\x00\x00\x01")),
		"IPv6":                   san(general(7, strings.Repeat("\x00", 15)+"\x01")),
		"rfc822Name":             san(general(1, "root@evil.example")),
		"directoryName":          san(tagged(4, seq(rdn(oidCN, asn1.UTF8String, "T-OTHER")))),
		"registeredID":           san(general(8, "\x2a\x03")),
		"no name":                san(),
		"no sequence":            wants(extension(oidSAN, []byte(uri))),
		"an empty value":         wants(extension(oidSAN, nil)),
		"bytes behind the names": wants(extension(oidSAN, append(seq(general(6, uri)), 5, 0))),
		"names twice":            wants(extension(oidSAN, seq(general(6, uri))), extension(oidSAN, seq(general(6, uri)))),
		"another role, second":   wants(extension(oidSAN, seq(general(6, uri))), extension(oidSAN, seq(general(6, "latchkey://"+tenant+"/operator/X")))),
	}
	prefix := "latchkey://" + id.Tenant + "/"
	for _, text := range []string{
		prefix + "terminal/T-OTHER", prefix + "operator/" + id.Name, prefix + "ra/" + id.Name, prefix + "kdh/" + id.Name,
		"latchkey://OTHER/" + string(id.Role) + "/" + id.Name, "https://evil.example/", "", uri + "\x00", uri + "#", uri + "?x", uri + "/",
		strings.ToUpper(uri), prefix + "terminal/*", prefix + "terminal/../operator/X", strings.Replace(uri, "//", "//x@", 1),
	} {
		out[fmt.Sprintf("URI %.60q", text)] = san(general(6, text))
	}
	return out
}

func hostilePowers() map[string]func(*draft) {
	bits := func(b ...byte) []byte { return tlv(asn1.BIT_STRING, b) }
	asks := func(attributes ...[]byte) func(*draft) {
		return func(d *draft) { d.attributes = tagged(0, attributes...) }
	}
	out := map[string]func(*draft){
		"CA:TRUE":                    wants(extension(oidBC, seq(tlv(asn1.BOOLEAN, []byte{0xff})))),
		"CA:TRUE, pathlen 0":         wants(extension(oidBC, seq(tlv(asn1.BOOLEAN, []byte{0xff}), tlv(asn1.INTEGER, []byte{0})))),
		"CA:TRUE in BER":             wants(extension(oidBC, seq(tlv(asn1.BOOLEAN, []byte{1})))),
		"pathlen alone":              wants(extension(oidBC, seq(tlv(asn1.INTEGER, []byte{0})))),
		"CA:FALSE, then TRUE":        wants(extension(oidBC, seq()), extension(oidBC, seq(tlv(asn1.BOOLEAN, []byte{0xff})))),
		"keyCertSign":                wants(extension(oidKU, bits(2, 0x04))),
		"cRLSign":                    wants(extension(oidKU, bits(1, 0x02))),
		"digitalSignature, certSign": wants(extension(oidKU, bits(2, 0x84))),
		"keyEncipherment":            wants(extension(oidKU, bits(5, 0xa0))),
		"nonRepudiation":             wants(extension(oidKU, bits(6, 0xc0))),
		"signature and agreement":    wants(extension(oidKU, bits(3, 0x88))),
		"no usage":                   wants(extension(oidKU, bits(0))),
		"serverAuth":                 wants(extension(oidEKU, seq(oid(oidServerAuth)))),
		"clientAuth and serverAuth":  wants(extension(oidEKU, seq(oid(oidClientAuth), oid(oidServerAuth)))),
		"anyExtendedKeyUsage":        wants(extension(oidEKU, seq(oid(oidAnyUsage)))),
		"extended usage of nothing":  wants(extension(oidEKU, seq())),
		"subjectKeyIdentifier":       wants(extension(oidSKI, tlv(asn1.OCTET_STRING, make([]byte, 20)))),
		"name constraints":           wants(extension(oidNames, seq())),
		"an extension of nobody":     wants(extension("\x2a\x03", []byte{5, 0})),
		"no extension":               wants(),
		"an extension of bytes":      wants([]byte{1, 2, 3}),
		"two extension requests": asks(attribute(oidExtensions, seq(extension(oidBC, seq()))),
			attribute(oidExtensions, seq(extension(oidSAN, seq(general(2, "evil.example")))))),
		"extensions of two values": asks(attribute(oidExtensions, seq(extension(oidBC, seq())), seq(extension(oidBC, seq())))),
		"a long challenge":         asks(attribute(oidChallenge, tlv(asn1.UTF8String, bytes.Repeat([]byte("a"), 256)))),
		"an attribute of nobody":   asks(attribute("\x2a\x03", tlv(asn1.UTF8String, []byte("x")))),
		"an attribute of no value": asks(attribute(oidExtensions)),
	}
	for _, role := range identity.Roles() {
		der, err := role.Policy().MarshalBinary()
		if err != nil {
			panic(err) // of a role that there is
		}
		out["policy of role "+role.String()] = wants(extension(oidPolicies, seq(seq(tlv(asn1.OBJECT_IDENTIFIER, der)))))
	}
	return out
}

func hostileKeys(key *ecdsa.PrivateKey) map[string]func(*draft) {
	owner := func(k *ecdsa.PrivateKey) func(*draft) {
		return func(d *draft) { d.key, d.publicKey = k, spki(k.Public()) }
	}
	public := func(pub any) func(*draft) { return func(d *draft) { d.publicKey = spki(pub) } }
	point := func(b []byte) func(*draft) {
		return func(d *draft) { d.publicKey = seq(seq(oid(oidEC), oid(oidP256)), tlv(asn1.BIT_STRING, []byte{0}, b)) }
	}
	generate := func(curve elliptic.Curve) *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			panic(err) // of a known curve
		}
		return k
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	own, err := key.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	off := bytes.Clone(own)
	off[64] ^= 1
	out := map[string]func(*draft){
		"RSA": public(rsaKey.Public()), "Ed25519": public(ed25519.NewKeyFromSeed(make([]byte, 32)).Public()),
		"P-224": owner(generate(elliptic.P224())), "somebody else's key": public(generate(elliptic.P256()).Public()),
		"infinity": point([]byte{0}), "no point": point(nil), "the origin": point(append([]byte{4}, make([]byte, 64)...)),
		"off the curve": point(off), "beyond the field": point(append([]byte{4}, bytes.Repeat([]byte{0xff}, 64)...)),
		"compressed": point(append([]byte{2 + own[64]&1}, own[1:33]...)), "hybrid": point(append([]byte{6 + own[64]&1}, own[1:]...)),
		"a byte more": point(append(bytes.Clone(own), 0)), "no key": func(d *draft) { d.publicKey = seq() },
		"no curve": func(d *draft) { d.publicKey = seq(seq(oid(oidEC)), tlv(asn1.BIT_STRING, []byte{0}, own)) },
	}
	for _, scalar := range []byte{1, 2, 16} {
		k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), append(make([]byte, 31), scalar))
		if err != nil {
			panic(err) // of a small number
		}
		out[fmt.Sprintf("the private key %d", scalar)] = owner(k)
	}
	return out
}

func hostileForms(id identity.Identity) map[string]func(*draft) {
	signed := func(b []byte) func(*draft) {
		return func(d *draft) { d.signature = tlv(asn1.BIT_STRING, []byte{0}, b) }
	}
	return map[string]func(*draft){
		"ECDSA with SHA-1":    func(d *draft) { d.algorithm = seq(oid(oidSHA1)) },
		"another hash":        func(d *draft) { d.algorithm = seq(oid(oidSHA384)) },
		"with parameters":     func(d *draft) { d.algorithm = seq(oid(oidSHA256), tlv(asn1.NULL)) },
		"no algorithm":        func(d *draft) { d.algorithm = seq() },
		"no signature":        signed(nil),
		"a signature of 0, 0": signed(seq(tlv(asn1.INTEGER, []byte{0}), tlv(asn1.INTEGER, []byte{0}))),
		"a signature of 1, 1": signed(seq(tlv(asn1.INTEGER, []byte{1}), tlv(asn1.INTEGER, []byte{1}))),
		"signed for another": func(d *draft) {
			other := newDraft(identity.Identity{Tenant: id.Tenant, Role: id.Role, Name: "T-OTHER"}, d.key)
			d.signature = tlv(asn1.BIT_STRING, []byte{0}, sign(d.key, seq(other.version, other.subject, other.publicKey, other.attributes)))
		},
		"version 1":               func(d *draft) { d.version = tlv(asn1.INTEGER, []byte{1}) },
		"no version":              func(d *draft) { d.version = nil },
		"no subject":              func(d *draft) { d.subject = nil },
		"no attributes":           func(d *draft) { d.attributes = nil },
		"attributes as a set":     func(d *draft) { d.attributes = set() },
		"NULL behind it":          func(d *draft) { d.extra = tlv(asn1.NULL) },
		"attributes of one level": func(d *draft) { d.attributes = tagged(0, oid(oidExtensions)) },
	}
}

// damaged is an honest request that was cut, lengthened or changed, and what is none. The places are the same each time.
func damaged(der []byte) (out []hostile) {
	for _, n := range []int{1, 2, 4, 10, len(der) / 2, len(der) - 1} {
		out = append(out, hostile{fmt.Sprintf("cut after %d bytes", n), der[:n]})
	}
	random := mathrand.New(mathrand.NewPCG(1, 2))
	for range 24 {
		b := bytes.Clone(der)
		at, bit := random.IntN(len(b)), random.IntN(8)
		b[at] ^= 1 << bit
		out = append(out, hostile{fmt.Sprintf("byte %d changed in bit %d", at, bit), b})
	}
	return append(out, []hostile{
		{"twice", slices.Concat(der, der)}, {"a byte behind it", append(bytes.Clone(der), 0)}, {"zeroes", make([]byte, 300)},
		{"ones", bytes.Repeat([]byte{0xff}, 300)}, {"an empty sequence", seq()}, {"text", []byte("GET / HTTP/1.1\r\n\r\n")},
		{"a length of 4 GiB", append([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff}, der...)},
		{"an indefinite length", append([]byte{0x30, 0x80}, der...)}, {"sequences in sequences", bytes.Repeat([]byte{0x30, 0x80}, 2000)},
		{"a public key", spki(someKey.Public())},
		{"8 KiB of challenge", seq(seq(tlv(asn1.INTEGER, []byte{0}), seq(), spki(someKey.Public()),
			tagged(0, attribute(oidChallenge, tlv(asn1.UTF8String, make([]byte, 8<<10))))), seq(oid(oidSHA256)), tlv(asn1.BIT_STRING, []byte{0}))},
	}...)
}

// someKey is in what is not even a request.
var someKey = func() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}()

// body is something that is not the body of a request at all.
type body struct {
	name, media string
	bytes       []byte
	status      int
	code        string
}

func hostileBodies(csr []byte) []body {
	const request, refused = est.TypeRequest, "SigningRequestRefused"
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})
	return []body{
		{"nothing", request, nil, http.StatusBadRequest, refused},
		{"DER", request, csr, http.StatusBadRequest, refused},
		{"PEM", request, block, http.StatusBadRequest, refused},
		{"no base64", request, []byte("!!!!"), http.StatusBadRequest, refused},
		{"base64 that ends early", request, bytes.TrimRight(est.EncodeRequest(append(csr, make([]byte, 3-len(csr)%3+1)...)), "=\n"), http.StatusBadRequest, refused},
		{"too much", request, bytes.Repeat([]byte("A"), 17<<10), http.StatusRequestEntityTooLarge, "BodyTooLarge"},
		{"JSON", "application/json", []byte("{}"), http.StatusUnsupportedMediaType, "MediaTypeNotSupported"},
		{"a form", "application/x-www-form-urlencoded", est.EncodeRequest(csr), http.StatusUnsupportedMediaType, "MediaTypeNotSupported"},
		{"of no type", "", est.EncodeRequest(csr), http.StatusUnsupportedMediaType, "MediaTypeNotSupported"},
	}
}

// perCode is how many hostile requests are shown with one code: one attempt is left to the honest one before the authority
// sends the terminal away.
const perCode = burst - 1

// victim is a terminal whose code somebody shows with hostile requests.
type victim struct {
	id   string
	code string
	key  *ecdsa.PrivateKey
	v    *visitor
}

func (a *authority) newVictim(t *testing.T, n int) *victim {
	t.Helper()
	id := fmt.Sprintf("T-%04d", n)
	a.register(t, id)
	return &victim{id, a.slip(t, admin.Operation{Terminal: id}), newKey(t), a.visitor(t, nil)}
}

func (v *victim) identity() identity.Identity {
	return identity.Identity{Tenant: tenant, Role: identity.Terminal, Name: v.id}
}

// assault is what came of showing codes with hostile requests.
type assault struct {
	victims   []*victim
	tried     int
	certified []string // requests for which there was a certificate
	others    []string // requests that were refused in another way than they should be
}

// assault shows the codes of as many terminals as it takes with all hostile requests.
func (a *authority) assault(t *testing.T) (out assault) {
	t.Helper()
	for next, all := 0, 1; next < all; next += perCode {
		v := a.newVictim(t, len(out.victims))
		out.victims = append(out.victims, v)
		requests := hostileTo(v.identity(), v.key)
		all = len(requests)
		for _, h := range requests[next:min(next+perCode, all)] {
			r := v.v.enrol(t, v.id, v.code, h.der)
			switch {
			case r.status == http.StatusOK:
				out.certified = append(out.certified, h.name)
			case r.status != http.StatusBadRequest || r.code != "SigningRequestRefused":
				out.others = append(out.others, h.name+": "+r.String())
			}
			out.tried++
		}
	}
	return out
}

// TestHostileRequests sends signing requests that are after more than the terminal's identity to every endpoint that
// certifies, with a good code or a good certificate. All are refused with what is wrong, nothing is certified, and none of
// them counts against the code: the honest request comes through afterwards.
func TestHostileRequests(t *testing.T) {
	a := newAuthority(t)
	a.start(t, binaries.shipped)
	before := len(slices.Concat(mapValues(a.ledger(t))...))
	done := a.assault(t)
	victims := done.victims
	bodies := hostileBodies(request(t, victims[0].id, victims[0].key))
	for _, b := range bodies {
		r, err := victims[0].v.send(t.Context(), est.PathEnroll, b.media, victims[0].id, victims[0].code, b.bytes)
		check(t, err)
		want(t, "simpleenroll, "+b.name, r, b.status, b.code)
	}
	if after := len(slices.Concat(mapValues(a.ledger(t))...)); len(done.certified) > 0 || len(done.others) > 0 || after != before {
		t.Errorf("certified: %v, refused in another way: %v; the ledger has %d certificates more", done.certified, done.others, after-before)
	}
	var chain []reply
	for _, v := range victims {
		r := v.v.enrol(t, v.id, v.code, request(t, v.id, v.key))
		want(t, "the honest request of "+v.id, r, http.StatusOK, "")
		if got := a.issuedTo(t, v.id); got != (issued{1, 1, 1}) {
			t.Errorf("%s has been given %+v", v.id, got)
		}
		chain = append(chain, r)
	}
	renewals := a.attackMember(t, victims[0], chain[0], identity.Terminal, est.PathReenroll)
	if got := a.issuedTo(t, victims[0].id); got != (issued{1, 2, 2}) {
		t.Errorf("after one renewal: %+v", got)
	}
	agreements := a.attackMember(t, victims[1], chain[1], identity.Agreement, est.PathAgreementEnroll)
	certs, err := a.admin().Certificates(t.Context())
	check(t, err)
	agreed := 0
	for _, c := range certs {
		if c.Role == identity.Agreement.String() {
			agreed++
		}
	}
	if agreed != 1 {
		t.Errorf("%d agreement certificates, want one", agreed)
	}
	if done.tried < 100 || renewals < 100 || agreements < 100 {
		t.Errorf("too little: %d, %d and %d requests", done.tried, renewals, agreements)
	}
	for _, s := range []*service{a.ra, a.keyd} {
		if log := s.log.String(); strings.Contains(log, "panic") {
			t.Errorf("%s: %s", s.program, log)
		}
	}
	t.Logf("hostile requests refused: %d of simpleenroll with %d codes, each of which was good afterwards; %d of simplereenroll; %d of agreement/simpleenroll; bodies: %d",
		done.tried, len(victims), renewals, agreements, 3*len(bodies))
	a.ra.stop(t)
	a.keyd.stop(t)
	a.verifyAudits(t)
}

func mapValues(m map[string][]string) (out [][]string) {
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// attackMember sends hostile requests for a role over the connection of a terminal that has enrolled, and then an honest
// one.
func (a *authority) attackMember(t *testing.T, v *victim, enrolled reply, role identity.Role, path string) (tried int) {
	t.Helper()
	shown := credential(t, enrolled.chain, v.key)
	member := a.visitor(t, shown)
	member.http.Transport.(*http.Transport).DisableKeepAlives = false
	defer member.http.CloseIdleConnections()
	id := v.identity()
	id.Role = role
	key := newKey(t)
	all := append(hostileTo(id, key),
		hostile{"no names", func() *draft { d := newDraft(id, key); d.subject = seq(); return d }().bytes()},
		hostile{"another terminal", newDraft(identity.Identity{Tenant: tenant, Role: role, Name: "T-0002"}, key).bytes()},
	)
	if role == identity.Agreement { // names may be left out, and the key is a second one
		all[len(all)-2] = hostile{"the key of the TLS certificate", newDraft(id, v.key).bytes()}
	}
	for _, h := range all {
		r, err := member.send(t.Context(), path, est.TypeRequest, "", "", est.EncodeRequest(h.der))
		check(t, err)
		want(t, path+", "+h.name, r, http.StatusBadRequest, "SigningRequestRefused")
	}
	honest, err := est.NewRequest(key, id)
	check(t, err)
	for _, b := range hostileBodies(honest) {
		r, err := member.send(t.Context(), path, b.media, "", "", b.bytes)
		check(t, err)
		want(t, path+", "+b.name, r, b.status, b.code)
	}
	r, err := member.send(t.Context(), path, est.TypeRequest, "", "", est.EncodeRequest(honest))
	check(t, err)
	want(t, path+", the honest request", r, http.StatusOK, "")
	return len(all)
}

// TestHostileRequestsPlanted shows that the same requests catch an authority that does not look at the name in a request.
func TestHostileRequestsPlanted(t *testing.T) {
	a := newAuthority(t)
	a.start(t, binaries.planted, "bug.parse-csr")
	defer func() {
		a.ra.kill()
		a.keyd.kill()
	}()
	done := a.assault(t)
	if len(done.certified) == 0 {
		t.Fatalf("planted bug.parse-csr not caught: %v", done.others)
	}
	t.Logf("planted bug.parse-csr caught: %d of %d hostile requests certified, such as %s", len(done.certified), done.tried, done.certified[0])
}
