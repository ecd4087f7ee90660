package vault

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/hashicorp/vault/api"

	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// ErrUnwrap says that a wrapping token gave no secret-id. Unless it has expired, somebody else has unwrapped it, and has the
// secret-id now.
var ErrUnwrap = errors.New("vault: the wrapping token gives no secret-id: it has expired, or somebody else has used it")

// Login is a way to log in: an *AppRole, a *TokenFile or a *Certificate.
type Login interface {
	// login gets a token by a client that has none. With a token that is in a file already, it looks it up.
	login(ctx context.Context, fresh func() (*api.Client, error)) (*api.Secret, error)
}

// Tokens and secret-ids are of about 36 to 100 characters; those of namespaces and batch tokens are longer.
const (
	minSecret = 8
	maxSecret = 4096
)

// AppRole logs in with a role-id and a secret-id. It is safe for concurrent use, and prints no secrets.
type AppRole struct {
	Mount  string // of the auth method; empty: approle
	RoleID string // required; public
	// SecretIDFile holds the secret-id, or with Wrapped a token that unwraps it, once. It has mode 0600.
	SecretIDFile string
	Wrapped      bool
	// Keep, if not nil, keeps what was unwrapped over a restart, for the token is spent then.
	Keep Keeper

	mu        sync.Mutex
	unwrapped secret.Bytes
	of        [sha256.Size]byte // of the wrapping token that it came from
	unsaved   bool              // it is in this process only
}

// Keeper keeps a secret where only this service reads it. It is safe for concurrent use.
type Keeper interface {
	// Load returns what was saved, which the caller wipes; the error wraps os.ErrNotExist when that is nothing.
	Load() (secret.Bytes, error)
	// Ready does beforehand what takes its time or may fail: between the moment when a wrapping token is spent and the end of
	// Save the secret is in this process only.
	Ready() error
	// Save keeps a secret durably, in the place of the one before, as quickly as it can. It does not keep the argument.
	Save(secret.Bytes) error
}

// CheckRoleID reports a role-id that would change the request it is put into, or is none.
func CheckRoleID(s string) error {
	if len(s) < 8 || len(s) > 128 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("vault: the role-id is not one line of 8 to 128 characters")
	}
	return nil
}

func (a *AppRole) login(ctx context.Context, fresh func() (*api.Client, error)) (*api.Secret, error) {
	if err := CheckRoleID(a.RoleID); err != nil {
		return nil, err
	}
	id, err := a.secretID(ctx, fresh)
	if err != nil {
		return nil, err
	}
	defer id.Wipe()
	client, err := fresh()
	if err != nil {
		return nil, err
	}
	return client.Logical().WriteWithContext(ctx, "auth/"+a.mount()+"/login", map[string]any{
		"role_id": a.RoleID, "secret_id": string(id.Expose()),
	})
}

func (a *AppRole) mount() string { return cmp.Or(a.Mount, "approle") }

// secretID returns the secret-id, which the caller wipes. A file that is not wrapped is read each time, so that whoever
// replaces it need not restart anything.
func (a *AppRole) secretID(ctx context.Context, fresh func() (*api.Client, error)) (secret.Bytes, error) {
	if !a.Wrapped {
		return readSecret(a.SecretIDFile, "secret-id")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	token, err := readSecret(a.SecretIDFile, "wrapping token")
	gone := errors.Is(err, os.ErrNotExist)
	if err != nil && !gone {
		return secret.Bytes{}, err
	}
	defer token.Wipe()
	if a.unwrapped.IsZero() {
		if err := a.load(); err != nil {
			return secret.Bytes{}, err
		}
	}
	of := sha256.Sum256(token.Expose())
	if !a.unwrapped.IsZero() && (gone || a.of == of) {
		return a.kept()
	}
	if gone {
		return secret.Bytes{}, err
	}
	if a.Keep != nil {
		if err := a.Keep.Ready(); err != nil {
			return secret.Bytes{}, fmt.Errorf("vault: keep the secret-id: %w", err)
		}
	}
	id, err := a.unwrap(ctx, token, fresh)
	if err != nil {
		return secret.Bytes{}, err
	}
	a.unwrapped.Wipe()
	a.unwrapped, a.of, a.unsaved = id, of, a.Keep != nil
	return a.kept()
}

// kept returns the secret-id once it would survive a restart, and not before: the token is spent.
func (a *AppRole) kept() (secret.Bytes, error) {
	if a.unsaved {
		if err := a.save(); err != nil {
			return secret.Bytes{}, err
		}
		a.unsaved = false
	}
	return a.unwrapped.Clone(), nil
}

// unwrap exchanges a wrapping token for the secret-id. It asks first where the token came from: somebody who has taken the
// right one could have put one of their own in its place, and we would log in with their secret-id.
func (a *AppRole) unwrap(ctx context.Context, token secret.Bytes, fresh func() (*api.Client, error)) (secret.Bytes, error) {
	client, err := fresh()
	if err != nil {
		return secret.Bytes{}, err
	}
	wrapped := string(token.Expose())
	info, err := client.Logical().WriteWithContext(ctx, "sys/wrapping/lookup", map[string]any{"token": wrapped})
	if status(err) >= 400 && status(err) < 500 {
		return secret.Bytes{}, fmt.Errorf("%w: %s", ErrUnwrap, describe("look up", err))
	}
	if err != nil {
		return secret.Bytes{}, err
	}
	if info == nil {
		return secret.Bytes{}, ErrUnwrap
	}
	made, _ := info.Data["creation_path"].(string)
	if !strings.HasPrefix(made, "auth/"+a.mount()+"/role/") || !strings.HasSuffix(made, "/secret-id") {
		return secret.Bytes{}, fmt.Errorf("%w: it was made by %q and wraps no secret-id", ErrUnwrap, plain(made))
	}
	out, err := client.Logical().UnwrapWithContext(ctx, wrapped)
	if status(err) >= 400 && status(err) < 500 {
		return secret.Bytes{}, fmt.Errorf("%w: %s", ErrUnwrap, describe("unwrap", err))
	}
	if err != nil {
		return secret.Bytes{}, err
	}
	if out == nil {
		return secret.Bytes{}, ErrUnwrap
	}
	id, _ := out.Data["secret_id"].(string)
	if len(id) < minSecret || len(id) > maxSecret {
		return secret.Bytes{}, fmt.Errorf("%w: there is none in it", ErrUnwrap)
	}
	return secret.From([]byte(id)), nil
}

// load gets what was kept: the hash of a wrapping token and the secret-id that it gave.
func (a *AppRole) load() error {
	if a.Keep == nil {
		return nil
	}
	kept, err := a.Keep.Load()
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("vault: kept secret-id: %w", err)
	}
	defer kept.Wipe()
	b := kept.Expose()
	if len(b) < sha256.Size+minSecret || len(b) > sha256.Size+maxSecret {
		return errors.New("vault: kept secret-id: wrong length")
	}
	a.of, a.unwrapped = [sha256.Size]byte(b), secret.From(b[sha256.Size:])
	return nil
}

// save keeps them.
func (a *AppRole) save() error {
	both := secret.New(sha256.Size + a.unwrapped.Len())
	defer both.Wipe()
	copy(both.Expose(), a.of[:])
	copy(both.Expose()[sha256.Size:], a.unwrapped.Expose())
	if err := a.Keep.Save(both); err != nil {
		return fmt.Errorf("vault: keep the secret-id: %w", err)
	}
	return nil
}

// Format prints the role-id, whatever the verb.
func (a *AppRole) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, a.text()) }

// MarshalText gives what Format prints, for encoders that would otherwise look inside.
func (a *AppRole) MarshalText() ([]byte, error) { return []byte(a.text()), nil }

func (a *AppRole) text() string { return "vault.AppRole(" + a.RoleID + ")" }

// TokenFile logs in with a token that is in a file of mode 0600, such as the sink of a Vault agent. The file is read again
// whenever the token is good no more.
type TokenFile struct{ File string }

func (t *TokenFile) login(ctx context.Context, fresh func() (*api.Client, error)) (*api.Secret, error) {
	token, err := readSecret(t.File, "token")
	if err != nil {
		return nil, err
	}
	defer token.Wipe()
	client, err := fresh()
	if err != nil {
		return nil, err
	}
	client.SetToken(string(token.Expose()))
	self, err := client.Auth().Token().LookupSelfWithContext(ctx)
	if err != nil {
		return nil, err
	}
	ttl, err := self.TokenTTL()
	if err != nil {
		return nil, err
	}
	renewable, err := self.TokenIsRenewable()
	if err != nil {
		return nil, err
	}
	return &api.Secret{Auth: &api.SecretAuth{
		ClientToken: client.Token(), Renewable: renewable, LeaseDuration: int(ttl.Seconds()),
	}}, nil
}

// Certificate logs in with the client certificate of the connection: the one in Server.TLS.
type Certificate struct {
	Mount string // of the auth method; empty: cert
	Name  string // of the certificate role; required
}

func (c *Certificate) login(ctx context.Context, fresh func() (*api.Client, error)) (*api.Secret, error) {
	client, err := fresh()
	if err != nil {
		return nil, err
	}
	return client.Logical().WriteWithContext(ctx, "auth/"+cmp.Or(c.Mount, "cert")+"/login", map[string]any{"name": c.Name})
}

func readSecret(file, what string) (secret.Bytes, error) {
	s, err := seal.ReadSecret(file, what, minSecret, maxSecret)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("vault: %w", err)
	}
	if strings.ContainsFunc(string(s.Expose()), func(r rune) bool { return r <= ' ' || r > '~' }) {
		s.Wipe()
		return secret.Bytes{}, fmt.Errorf("vault: %s holds more than one line, or no %s", file, what)
	}
	return s, nil
}
