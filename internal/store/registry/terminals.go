package registry

import (
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// Terminal implements provision.Tx.
func (t tx) Terminal(id keyset.TerminalID) (*provision.Terminal, bool, error) {
	return body(t, provision.UnmarshalTerminal, `SELECT body FROM terminals WHERE id = ?`, string(id))
}

// PutTerminal implements provision.Tx.
func (t tx) PutTerminal(row *provision.Terminal) error {
	b, err := row.Marshal()
	if err != nil {
		return err
	}
	return t.exec(`INSERT INTO terminals (id, v, body) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body`,
		string(row.ID), version, b)
}

// Terminals implements provision.Tx.
func (t tx) Terminals(after keyset.TerminalID, limit int, yield func(*provision.Terminal) error) error {
	return bodies(t, provision.UnmarshalTerminal, yield, `SELECT body FROM terminals WHERE id > ? ORDER BY id LIMIT ?`, string(after), most(limit))
}

// OneTimeCode implements provision.Tx.
func (t tx) OneTimeCode(id keyset.TerminalID) (*provision.OneTimeCode, bool, error) {
	return body(t, provision.UnmarshalOneTimeCode, `SELECT body FROM codes WHERE terminal = ?`, string(id))
}

// PutOneTimeCode implements provision.Tx.
func (t tx) PutOneTimeCode(c *provision.OneTimeCode) error {
	b, err := c.Marshal()
	if err != nil {
		return err
	}
	return t.exec(`INSERT INTO codes (terminal, v, state, expires, body) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (terminal) DO UPDATE SET state = excluded.state, expires = excluded.expires, body = excluded.body`,
		string(c.Terminal), version, c.State.String(), c.Expires.Unix(), b)
}

// OverdueCodes implements provision.Tx.
func (t tx) OverdueCodes(unix int64, limit int) ([]*provision.OneTimeCode, error) {
	return collect(t, provision.UnmarshalOneTimeCode,
		`SELECT body FROM codes WHERE state IN ('open', 'reserved') AND expires <= ? ORDER BY expires LIMIT ?`, unix, limit)
}
