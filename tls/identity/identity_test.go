package identity_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/tls/identity"
)

func TestParseURI(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		uri  string
		want identity.Identity
	}{
		{"latchkey://ACME/terminal/T-1", identity.Identity{Tenant: "ACME", Role: identity.Terminal, Name: "T-1"}},
		{"latchkey://0/acquirer-host/-", identity.Identity{Tenant: "0", Role: identity.AcquirerHost, Name: "-"}},
		{
			"latchkey://" + strings.Repeat("A", 32) + "/kdh/" + strings.Repeat("9", 32),
			identity.Identity{Tenant: strings.Repeat("A", 32), Role: identity.KDH, Name: strings.Repeat("9", 32)},
		},
	} {
		got, err := identity.ParseURI(tc.uri)
		if err != nil || got != tc.want {
			t.Errorf("ParseURI(%q) = %v, %v, want %v", tc.uri, got, err, tc.want)
		}
		if got.String() != tc.uri || got.URI().String() != tc.uri {
			t.Errorf("%q is written as %q and %q", tc.uri, got, got.URI())
		}
	}
}

var badURIs = []string{
	"", "latchkey://", "latchkey:///", "latchkey:////", "latchkey://ACME", "latchkey://ACME/terminal", "latchkey://ACME/terminal/",
	"latchkey:///terminal/T-1", "latchkey://ACME//T-1", "latchkey://ACME/terminal/T-1/", "latchkey://ACME/terminal/T-1/x",
	"latchkey:/ACME/terminal/T-1", "latchkey:ACME/terminal/T-1", "LATCHKEY://ACME/terminal/T-1", "https://ACME/terminal/T-1",
	"latchkey://acme/terminal/T-1", "latchkey://ACME/terminal/t-1", "latchkey://ACME/TERMINAL/T-1", "latchkey://ACME/admin/T-1",
	"latchkey://ACME:1/terminal/T-1", "latchkey://u@ACME/terminal/T-1", "latchkey://ACME./terminal/T-1",
	"latchkey://ACME/terminal/T-1?", "latchkey://ACME/terminal/T-1#", "latchkey://ACME/terminal/T-1?a=b",
	"latchkey://ACME/terminal/T%2D1", "latchkey://ACME/terminal/%41", "latchkey://ACME/terminal/..", "latchkey://ACME/./terminal/T-1",
	"latchkey://ACME/terminal/T_1", "latchkey://ACME/terminal/T 1", "latchkey://ACME/terminal/T-1\x00", "latchkey://ACME/terminal/T-1\n",
	" latchkey://ACME/terminal/T-1", "latchkey://ACMÉ/terminal/T-1", "latchkey://ACME/terminal/T\u20101",
	"latchkey://" + strings.Repeat("A", 33) + "/terminal/T-1", "latchkey://ACME/terminal/" + strings.Repeat("T", 33),
}

func TestParseURIRefuses(t *testing.T) {
	t.Parallel()
	for _, uri := range badURIs {
		if got, err := identity.ParseURI(uri); !errors.Is(err, identity.ErrIdentity) || !got.IsZero() {
			t.Errorf("ParseURI(%q) = %v, %v, want ErrIdentity", uri, got, err)
		}
	}
}

func TestRoles(t *testing.T) {
	t.Parallel()
	policies := make(map[string]identity.Role)
	for _, role := range identity.Roles() {
		if got, err := identity.ParseRole(role.String()); err != nil || got != role {
			t.Errorf("ParseRole(%q) = %q, %v", role, got, err)
		}
		oid := role.Policy().String()
		if !strings.HasPrefix(oid, "2.25.255473785107850430713444776457459892133.1.") {
			t.Errorf("policy %s of role %s is outside of our arc", oid, role)
		}
		if other, ok := policies[oid]; ok {
			t.Errorf("roles %s and %s share policy %s", role, other, oid)
		}
		policies[oid] = role
		short := role.ShortPolicy().String()
		if want := shortArc(t) + oid[strings.LastIndexByte(oid, '.'):]; short != want {
			t.Errorf("short policy of role %s is %s, want %s", role, short, want)
		}
		if both := role.Policies(); len(both) != 2 || both[0].String() != oid || both[1].String() != short {
			t.Errorf("policies of role %s: %v", role, both)
		}
		if role.Authority() == 0 || (role.Client() || role.Server()) == (role == identity.Agreement) {
			t.Errorf("role %s has authority %v, client %t, server %t", role, role.Authority(), role.Client(), role.Server())
		}
	}
	for _, s := range []string{"", "Terminal", "terminal ", "root"} {
		if role, err := identity.ParseRole(s); err == nil {
			t.Errorf("ParseRole(%q) = %q", s, role)
		}
	}
	if unknown := identity.Role("root"); unknown.Authority() != 0 || unknown.Client() || unknown.Server() {
		t.Error("an unknown role has traits")
	}
}

// shortArc cuts the UUID of the long arc anew: four, four, four, four, four, six and six hexadecimal digits.
func shortArc(t *testing.T) string {
	t.Helper()
	oid := strings.Split(identity.Terminal.Policy().String(), ".")
	uuid, ok := new(big.Int).SetString(oid[2], 10)
	if !ok || len(oid) != 5 {
		t.Fatalf("the policy %v has no UUID", oid)
	}
	arc, digits := "1.2.840.113556.1.8000.2554", fmt.Sprintf("%032x", uuid)
	for _, n := range []int{4, 4, 4, 4, 4, 6, 6} {
		part, err := strconv.ParseUint(digits[:n], 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		arc, digits = fmt.Sprintf("%s.%d", arc, part), digits[n:]
	}
	return arc + ".1"
}

// TestRoleTable is the table of trust, written out a second time.
func TestRoleTable(t *testing.T) {
	t.Parallel()
	want := map[identity.Role]string{
		identity.Terminal: "1.1 terminals client", identity.Operator: "1.2 services client", identity.Custodian: "1.3 services client",
		identity.Auditor: "1.4 services client", identity.AcquirerHost: "1.5 services client server", identity.RA: "1.6 services client server",
		identity.KDH: "1.7 keydist client server", identity.Decrypt: "1.8 services client server", identity.Agreement: "1.9 keydist",
	}
	for _, role := range identity.Roles() {
		got := role.Policy().String()[len("2.25.255473785107850430713444776457459892133."):] + " " + role.Authority().String()
		if role.Client() {
			got += " client"
		}
		if role.Server() {
			got += " server"
		}
		if got != want[role] {
			t.Errorf("role %s: %s, want %s", role, got, want[role])
		}
	}
	if len(identity.Roles()) != len(want) {
		t.Errorf("%d roles, want %d", len(identity.Roles()), len(want))
	}
}

func TestAuthorities(t *testing.T) {
	t.Parallel()
	roles := 0
	for _, a := range identity.Authorities() {
		if got, err := identity.ParseAuthority(a.String()); err != nil || got != a {
			t.Errorf("ParseAuthority(%q) = %v, %v", a, got, err)
		}
		if len(a.Policies()) != len(a.Roles()) {
			t.Errorf("%v: %d policies for %d roles", a, len(a.Policies()), len(a.Roles()))
		}
		roles += len(a.Roles())
	}
	if roles != len(identity.Roles()) {
		t.Errorf("%d roles have an authority, want %d", roles, len(identity.Roles()))
	}
	if a, err := identity.ParseAuthority("other"); err == nil {
		t.Errorf("ParseAuthority(other) = %v", a)
	}
	if len(identity.Authority(0).Roles()) != 0 {
		t.Error("no authority certifies a role")
	}
}

// TestUsageArcsAreRefused records why roles are policies: the standard library cannot parse a certificate with an extended
// key usage below a 2.25 arc of a real UUID. When this fails, the decision can be looked at again.
func TestUsageArcsAreRefused(t *testing.T) {
	t.Parallel()
	oid, err := identity.Terminal.Policy().MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	value, err := asn1.Marshal([]asn1.RawValue{{Tag: asn1.TagOID, Bytes: oid}})
	if err != nil {
		t.Fatal(err)
	}
	der := selfSigned(t, &x509.Certificate{ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: value}}})
	if _, err := x509.ParseCertificate(der); err == nil {
		t.Error("crypto/x509 reads extended key usages of 128 bits now")
	}
}

var key = func() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}()

func selfSigned(t testing.TB, c *x509.Certificate) []byte {
	t.Helper()
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(0x0abc), time.Unix(0, 0), time.Unix(1e9, 0)
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func certificate(t testing.TB, c *x509.Certificate) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(selfSigned(t, c))
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestFromCertificate(t *testing.T) {
	t.Parallel()
	for _, role := range identity.Roles() {
		for _, name := range []string{"T-1", "-", "--A", "0", strings.Repeat("Z", 32)} {
			id, err := identity.New("ACME-1", role, name)
			if err != nil {
				t.Fatal(err)
			}
			for _, policy := range role.Policies() {
				c := &x509.Certificate{URIs: []*url.URL{id.URI()}, Policies: []x509.OID{policy}}
				if role.Server() {
					c.DNSNames, c.IPAddresses = []string{"a.example"}, []net.IP{net.IPv4(127, 0, 0, 1)}
				}
				if got, err := identity.FromCertificate(certificate(t, c)); err != nil || got != id {
					t.Errorf("with policy %v: got %v, %v, want %v", policy, got, err, id)
				}
			}
		}
	}
}

func TestFromCertificateRefuses(t *testing.T) {
	t.Parallel()
	terminal := identity.Identity{Tenant: "ACME", Role: identity.Terminal, Name: "T-1"}
	good := func() *x509.Certificate {
		return &x509.Certificate{URIs: []*url.URL{terminal.URI()}, Policies: []x509.OID{identity.Terminal.Policy()}}
	}
	if _, err := identity.FromCertificate(certificate(t, good())); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	otherName, err := asn1.Marshal([]asn1.RawValue{
		{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(terminal.String())},
		{Class: asn1.ClassContextSpecific, Tag: 8, Bytes: []byte("1")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*x509.Certificate){
		"no URI":                  func(c *x509.Certificate) { c.URIs = nil },
		"two URIs":                func(c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) },
		"a foreign URI":           func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "x", Path: "/y"}} },
		"no policy":               func(c *x509.Certificate) { c.Policies = nil },
		"another policy":          func(c *x509.Certificate) { c.Policies = []x509.OID{identity.Operator.Policy()} },
		"two policies":            func(c *x509.Certificate) { c.Policies = append(c.Policies, identity.Operator.Policy()) },
		"both spellings":          func(c *x509.Certificate) { c.Policies = identity.Terminal.Policies() },
		"another policy in short": func(c *x509.Certificate) { c.Policies = []x509.OID{identity.Operator.ShortPolicy()} },
		"the other role":          func(c *x509.Certificate) { c.URIs[0].Path = "/operator/T-1" },
		"a host name":             func(c *x509.Certificate) { c.DNSNames = []string{"a.example"} },
		"an address":              func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} },
		"a mail address":          func(c *x509.Certificate) { c.EmailAddresses = []string{"a@b.example"} },
		"a registered id": func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: otherName}}
		},
		"an empty fragment":    raw("latchkey://ACME/terminal/T-1#"),
		"a scheme in capitals": raw("LATCHKEY://ACME/terminal/T-1"),
		"an escape":            raw("latchkey://ACME/terminal/%54-1"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := good()
			change(c)
			if got, err := identity.FromCertificate(certificate(t, c)); !errors.Is(err, identity.ErrIdentity) || !got.IsZero() {
				t.Errorf("got %v, %v, want ErrIdentity", got, err)
			}
		})
	}
	if _, err := identity.FromCertificate(nil); !errors.Is(err, identity.ErrIdentity) {
		t.Errorf("nil certificate: %v", err)
	}
}

// raw writes the URI as it is, which url.URL would not.
func raw(uri string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		value, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(uri)}})
		if err != nil {
			panic(err)
		}
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}}
	}
}

func TestSerial(t *testing.T) {
	t.Parallel()
	if got := identity.Serial(certificate(t, &x509.Certificate{})); got != "0abc" {
		t.Errorf("Serial = %q, want 0abc", got)
	}
}

func FuzzParseURI(f *testing.F) {
	f.Add("latchkey://ACME/terminal/T-1")
	for _, uri := range badURIs {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := identity.ParseURI(s)
		if err != nil {
			if !errors.Is(err, identity.ErrIdentity) || !id.IsZero() {
				t.Fatalf("ParseURI(%q) = %v, %v", s, id, err)
			}
			return
		}
		if id.String() != s || id.URI().String() != s {
			t.Fatalf("%q parses and is written as %q and %q", s, id, id.URI())
		}
	})
}

// FuzzFromCertificate reads certificates whose alternative names are arbitrary bytes: whoever gets an identity out has
// exactly one spelling of it in.
func FuzzFromCertificate(f *testing.F) {
	id := identity.Identity{Tenant: "ACME", Role: identity.Terminal, Name: "T-1"}
	good := certificate(f, &x509.Certificate{URIs: []*url.URL{id.URI()}, Policies: []x509.OID{id.Role.Policy()}})
	for _, ext := range good.Extensions {
		if ext.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			f.Add(ext.Value)
		}
	}
	f.Add([]byte{0x30, 0})
	f.Fuzz(func(t *testing.T, value []byte) {
		cert := &x509.Certificate{
			Policies:   []x509.OID{identity.Terminal.Policy()},
			Extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}},
		}
		got, err := identity.FromCertificate(cert)
		if err == nil && !bytes.Contains(value, []byte(got.String())) {
			t.Fatalf("%x gives %v", value, got)
		}
		if err == nil && len(value) != 4+len(got.String()) {
			t.Fatalf("%x gives %v and holds more", value, got)
		}
	})
}

func Example() {
	id, err := identity.ParseURI("latchkey://ACME/terminal/T-1")
	if err != nil {
		panic(err)
	}
	fmt.Println(id.Tenant, id.Role, id.Name, "from the", id.Role.Authority(), "authority")
	_, err = identity.ParseURI("latchkey://acme/terminal/T-1")
	fmt.Println(err)
	// Output:
	// ACME terminal T-1 from the terminals authority
	// identity: not a latchkey identity: tenant "acme" has a character outside A-Z, 0-9 and -
}
