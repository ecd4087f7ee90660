package deliveries

import (
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/internal/store/rows"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

const maxChain = 16 // certificates

var codec = canon.New(maxChain, 4)

// Certify implements keydist.Tx.
func (t tx) Certify(c keydist.Certified) error {
	if len(c.Chain) > maxChain {
		return fmt.Errorf("deliveries: a chain of %d certificates, want at most %d", len(c.Chain), maxChain)
	}
	chain, err := codec.Marshal(c.Chain)
	if err != nil {
		return fmt.Errorf("deliveries: %v", err)
	}
	_, err = t.Exec(`INSERT INTO certified (terminal, spki, v, serial, chain, issued_at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (terminal, spki) DO UPDATE SET serial = excluded.serial, chain = excluded.chain, issued_at = excluded.issued_at`,
		string(c.Terminal), c.SPKI[:], version, c.Serial, chain, c.IssuedAt.UnixMilli())
	if errors.Is(err, rows.ErrExists) {
		return fmt.Errorf("%w: a certificate with serial %s", keydist.ErrConflict, c.Serial)
	}
	return err
}

// Certified implements keydist.Tx.
func (t tx) Certified(terminal keyset.TerminalID, spki [32]byte) (keydist.Certified, bool, error) {
	c := keydist.Certified{Terminal: terminal, SPKI: spki}
	var chain []byte
	var at int64
	ok, err := t.One(`SELECT serial, chain, issued_at FROM certified WHERE terminal = ? AND spki = ?`,
		[]any{string(terminal), spki[:]}, &c.Serial, &chain, &at)
	if err != nil || !ok {
		return keydist.Certified{}, false, err
	}
	if err := codec.Unmarshal(chain, &c.Chain); err != nil {
		return keydist.Certified{}, false, rows.Unreadable("chain", err)
	}
	c.IssuedAt = time.UnixMilli(at).UTC()
	return c, true, nil
}

// AgreementKeys implements keydist.Tx.
func (t tx) AgreementKeys(terminal keyset.TerminalID) (n int, err error) {
	_, err = t.One(`SELECT count(*) FROM certified WHERE terminal = ?`, []any{string(terminal)}, &n)
	return n, err
}
