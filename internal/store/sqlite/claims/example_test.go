package claims_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite/claims"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/message"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// A database is made, a message is claimed in it, and claimed again.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "latchkey")
	check(err)
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "decryptd.db")
	_, err = claims.Open(path, claims.Options{})
	fmt.Println("missing:", errors.Is(err, sqlite.ErrMissing))

	db, err := claims.Open(path, claims.Options{Create: true})
	check(err)
	defer func() { _ = db.Close() }()
	base, err := keys.ParseFingerprint("000102030405060708090a0b0c0d0e0f")
	check(err)
	ksn, err := dukpt.ParseKSNHex("123456789012345600000001")
	check(err)
	treatment, err := decrypt.Treatment{Operation: "verify-mac"}.Encode()
	check(err)
	digest := message.DigestOf([]byte("a message"))
	set := decrypt.ClaimSet{
		Digest: digest, Original: digest, Tenant: "SHOP", Time: time.UnixMilli(1767225601123),
		Claims: []decrypt.Claim{{
			BaseKey: base, KSN: ksn, Purpose: decrypt.PurposeMAC, Content: sha256.Sum256([]byte("its content")), Treatment: treatment,
			Authenticated: true, MACKSN: ksn, MaxContents: 1, Windowed: true, W: 4096, J: 10_000,
			Horizon: time.UnixMilli(1767225601123).Add(-30 * 24 * time.Hour),
		}},
		Audit: audit.Record{Time: time.UnixMilli(1767225601123), Instance: "decrypt-1", Action: "transaction/sale"},
	}
	for range 2 {
		out, err := db.Claim(context.Background(), set)
		check(err)
		fmt.Println(out.Verdict)
	}
	set.Claims[0].Content = sha256.Sum256([]byte("another content"))
	_, err = db.Claim(context.Background(), set)
	fmt.Println(err)
	// Output:
	// missing: true
	// FRESH
	// RESEND
	// decrypt: KsnReplayed: the KSN was used before, for other content: KSN 123456789012345600000001, purpose mac, ordinal 1, floor 0
}
