package est

import (
	"crypto/x509/pkix"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// Attribute types of names (X.520), as DER has them behind tag and length.
const (
	oidCommonName   = "\x55\x04\x03"
	oidOrganization = "\x55\x04\x0a"
)

// checkSubject refuses a subject that names anybody but the identity. Each of O and CN may be there once, in any order.
func (p Policy) checkSubject(name cryptobyte.String) (pkix.Name, error) {
	var subject pkix.Name
	for !name.Empty() {
		var set, pair, oid, value cryptobyte.String
		var tag asn1.Tag
		if !name.ReadASN1(&set, asn1.SET) || !set.ReadASN1(&pair, asn1.SEQUENCE) ||
			!pair.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) || !pair.ReadAnyASN1(&value, &tag) || !pair.Empty() {
			return pkix.Name{}, malformed("the subject cannot be read")
		}
		if !set.Empty() {
			return pkix.Name{}, refused("the subject has several names in one place: write one after the other")
		}
		if tag != asn1.UTF8String && tag != asn1.PrintableString {
			return pkix.Name{}, refused("the subject must be written as UTF8String or PrintableString")
		}
		text := string(value)
		switch {
		case string(oid) == oidOrganization && subject.Organization == nil:
			if text != p.Identity.Tenant {
				return pkix.Name{}, refused("O in the subject must be the tenant, or be left out")
			}
			subject.Organization = []string{text}
		case string(oid) == oidCommonName && subject.CommonName == "":
			if text != p.Identity.Name && !planted.On(planted.ParseCSR) {
				return pkix.Name{}, refused("CN in the subject must be the name that it is for, or be left out")
			}
			subject.CommonName = text
		default:
			return pkix.Name{}, refused("the subject may have one O and one CN and nothing else")
		}
	}
	return subject, nil
}
