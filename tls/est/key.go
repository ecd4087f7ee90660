package est

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/hex"
	"slices"
	"sync"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

const oidECPublicKey = "\x2a\x86\x48\xce\x3d\x02\x01"

// curves are the named curves of RFC 5480, 2.1.1.1, that certificates are issued for.
var curves = map[string]elliptic.Curve{
	"\x2a\x86\x48\xce\x3d\x03\x01\x07": elliptic.P256(),
	"\x2b\x81\x04\x00\x22":             elliptic.P384(),
	"\x2b\x81\x04\x00\x23":             elliptic.P521(),
}

// checkKey reads a SubjectPublicKeyInfo and refuses all keys but those on the permitted curves that are not known to
// everybody. The point is uncompressed, as everyone writes it.
func (p Policy) checkKey(info cryptobyte.String) (*ecdsa.PublicKey, error) {
	unfit := refused("the key must be an EC key on P-256, P-384 or P-521, whichever the authority asks for")
	var algorithm, oid, named cryptobyte.String
	var point []byte
	if !info.ReadASN1(&algorithm, asn1.SEQUENCE) || !algorithm.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) ||
		!info.ReadASN1BitStringAsBytes(&point) || !info.Empty() {
		return nil, malformed("the public key cannot be read")
	}
	if string(oid) != oidECPublicKey || !algorithm.ReadASN1(&named, asn1.OBJECT_IDENTIFIER) || !algorithm.Empty() {
		return nil, unfit
	}
	curve, ok := curves[string(named)]
	if !ok || (p.Curves != nil && !slices.Contains(p.Curves, curve)) {
		return nil, unfit
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, refused("the public key is not an uncompressed point on its curve")
	}
	if known()[abscissa(point)] {
		return nil, refused("everybody knows the private key: generate one at random")
	}
	return key, nil
}

// abscissa returns the x coordinate of an uncompressed point. The private keys d and n-d share it.
func abscissa(point []byte) string { return hex.EncodeToString(point[1 : 1+len(point)/2]) }

// smallScalars is how many private keys from 1 up, and from n-1 down, are known to everybody.
const smallScalars = 16

// published are x coordinates of keys that standards print with their private half, and that end up in devices by way of
// test code. Their lengths tell the curves apart.
var published = []string{
	// RFC 6979, A.2.5 to A.2.7
	"60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6",
	"ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64def8f0ea9055866064a254515480bc13",
	"01894550d0785932e00eaa23b694f213f8c3121f86dc97a04e5a7167db4e5bcd371123d46e45db6b5d5370a7f20fb633155d38ffa16d2bd761dcac474b9a2f5023a4",
	// RFC 5903, 8.1 to 8.3, initiator and responder
	"dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180",
	"d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63",
	"667842d7d180ac2cde6f74f37551f55755c7645c20ef73e31634fe72b4c55ee6de3ac808acb4bdb4c88732aee95f41aa",
	"e558dbef53eecde3d3fccfc1aea08a89a987475d12fd950d83cfa41732bc509d0d1ac43a0336def96fda41d0774a3571",
	"0015417e84dbf28c0ad3c278713349dc7df153c897a1891bd98bab4357c9ecbee1e3bf42e00b8e380aeae57c2d107564941885942af5a7f4601723c4195d176ced3e",
	"00d0b3975ac4b799f5bea16d5e13e9af971d5e9b984c9f39728b5e5739735a219b97c356436adc6e95bb0352f6be64a6c2912d4ef2d0433ced2b6171640012d9460f",
	// RFC 7515, A.3 and A.4; RFC 7517, A.2; RFC 7518, C
	"7fcdce2770f6c45d4183cbee6fdb4b7b580733357be9ef13bacf6e3c7bd15445",
	"01e929050f124fc6bc55c7d5393365df9def4ab0c22cb25798f934eb04e3c6bae3701a57a7910e9d81bf363159e8ebcb155d6349f4bdb6ccf8a94c5c59c7aac101a4",
	"30a0424cd21c2944838a2d75c92b37e76ea20d9f00893a3b4eee8a3c0aafec3e",
	"808d060082c176eed3e776a4ac598cc8672c1779f974eecc9b03411ca5b9495d",
	"c1e349cb61ec70248ce801034c3834e1b88ebe1161cb25af38741f785fcfc4c4",
	// NIST CAVP, KAS ECC CDH primitive, count 0 of P-256, P-384 and P-521
	"ead218590119e8876b29146ff89ca61770c4edbbf97d38ce385ed281d8a6b230",
	"9803807f2f6d2fd966cdd0290bd410c0190352fbec7ff6247de1302df86f25d34fe4a97bef60cff548355c015dbb3e5f",
	"00602f9d0cf9e526b29e22381c203c48a886c2b0673033366314f1ffbcba240ba42f4ef38a76174635f91e6b4ed34275eb01c8467d05ca80315bf1a7bbd945f550a5",
	// NIST, ECDSA examples with P-256
	"b7e08afdfe94bad3f1dc8c734798ba1c62b3a0ad1e9ea2a38201cd0889bc7a19",
}

// known holds the x coordinates of all keys that everybody knows.
var known = sync.OnceValue(func() map[string]bool {
	out := make(map[string]bool)
	for _, x := range published {
		out[x] = true
	}
	for _, curve := range curves {
		scalar := make([]byte, (curve.Params().BitSize+7)/8)
		for d := byte(1); d <= smallScalars; d++ {
			scalar[len(scalar)-1] = d
			key, err := ecdsa.ParseRawPrivateKey(curve, scalar)
			if err != nil {
				panic("est: " + err.Error()) // a small scalar is a private key of every curve
			}
			point, err := key.PublicKey.Bytes()
			if err != nil {
				panic("est: " + err.Error()) // on a curve of the standard library
			}
			out[abscissa(point)] = true
		}
	}
	return out
})
