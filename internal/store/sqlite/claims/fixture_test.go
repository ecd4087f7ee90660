package claims

import (
	"crypto/sha256"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/message"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// claimSet is a message with a MAC and card data under the n-th key, of a set without windows.
func claimSet(name string, n uint32) decrypt.ClaimSet {
	claim := func(p decrypt.Purpose) decrypt.Claim {
		return decrypt.Claim{
			BaseKey: must(keys.ParseFingerprint("000102030405060708090a0b0c0d0e0f")),
			KSN:     must(must(dukpt.ParseKeyID("1234567890123456")).AtOrdinal(n)), Purpose: p,
			Content:   sha256.Sum256([]byte(name + p.String())),
			Treatment: must(decrypt.Treatment{Operation: "decrypt-data"}.Encode()), MaxContents: 1,
			Horizon: noon.Add(-24 * time.Hour),
		}
	}
	d := message.DigestOf([]byte(name))
	return decrypt.ClaimSet{
		Digest: d, Original: d, Tenant: "SHOP", Time: noon,
		Claims: []decrypt.Claim{claim(decrypt.PurposeMAC), claim(decrypt.PurposeData)},
		Audit:  audit.Record{Time: noon, Instance: "decrypt-1", Action: "transaction/sale", Object: name},
	}
}
