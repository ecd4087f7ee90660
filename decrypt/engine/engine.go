package engine

import (
	"context"
	"errors"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// Errors that callers act on. Failures of content, such as a MAC or a PIN block that does not verify, are the one error
// of package dukpt, dukpt.ErrVerify, and carry no detail.
var (
	// ErrKeyNotFound says that the engine has no key under the reference.
	ErrKeyNotFound = errors.New("engine: no such key")
	// ErrUnavailable says that the engine cannot work now: closed, token gone, no session. Trying later may help.
	ErrUnavailable = errors.New("engine: not available")
	// ErrUsage says that the key exists and may not do what was asked: its usage, mode or algorithm is another one.
	ErrUsage = errors.New("engine: key is not for this use")
	// ErrEnded says that HostOps were used after End.
	ErrEnded = errors.New("engine: transaction has ended")
)

// Engine holds keys and works with them. It is safe for concurrent use. A cancelled context fails the call it was given
// to and nothing else.
type Engine interface {
	// Begin opens the host side of one DUKPT transaction under a base key. The caller ends it.
	// Errors wrap ErrKeyNotFound, ErrUsage (not a base key, or one of another scheme), ErrUnavailable or the context's.
	Begin(ctx context.Context, base keyset.KeyRef, ksn dukpt.KSN) (HostOps, error)

	// BeginBatch opens one transaction for each KSN, in their order, all or none. The caller ends each.
	BeginBatch(ctx context.Context, base keyset.KeyRef, ksns []dukpt.KSN) ([]HostOps, error)

	// Open gives the operations under a key of fixed value. The caller ends them. Errors wrap ErrKeyNotFound, ErrUsage (a key that
	// derives or wraps others), dukpt.ErrUnsupported (the device has no such operations), ErrUnavailable or the context's.
	Open(ctx context.Context, ref keyset.KeyRef) (FixedOps, error)

	// Unwrap gives the operations under a key that comes in an X9.143 key block under a key of the inventory of usage K0 or K1.
	// Nothing of the header is believed before its MAC has verified. The caller ends them. Errors are as of Open; one that a block is
	// not under the key, or not what it says, is dukpt.ErrVerify and does not say more.
	Unwrap(ctx context.Context, kek keyset.KeyRef, block string) (FixedOps, error)

	// Describe returns what is public about a key. Errors wrap ErrKeyNotFound or ErrUnavailable.
	Describe(ctx context.Context, ref keyset.KeyRef) (KeyInfo, error)

	// Resolve returns the reference of the one key that ref means now: for an alias the identifier behind it, which
	// never means another key. Errors wrap ErrKeyNotFound or ErrUnavailable.
	Resolve(ctx context.Context, ref keyset.KeyRef) (keyset.KeyRef, error)

	// Check uses a key and reports whether the engine works. It is what readiness asks.
	Check(ctx context.Context) error
}

// HostOps is the host role in one DUKPT transaction. It is not safe for concurrent use. After End every operation
// returns ErrEnded. Output is appended to dst, which must not overlap the input.
type HostOps interface {
	// TranslatePIN opens a PIN block of the terminal and seals the PIN again under an inventory key. The outgoing key has
	// usage P0, or the error wraps ErrUsage, and the environment of the base key, or the error wraps ErrUsage too.
	// A forbidden pair of formats or an unequal PAN is pin.ErrTranslation; a block that does not open is dukpt.ErrVerify.
	// A device that moves blocks without opening them cannot tell: there such a block becomes one that does not open under the
	// outgoing key, the fill is that of the terminal, and a change of format is dukpt.ErrUnsupported.
	TranslatePIN(dst []byte, in dukpt.PINBlock, out PINOut) ([]byte, error)

	// DecryptData decrypts what the terminal encrypted. The input is whole blocks, or the error wraps dukpt.ErrLength.
	DecryptData(dst []byte, s dukpt.DataSpec, ct []byte) ([]byte, error)

	// VerifyMAC checks the terminal's MAC over msg. Any failure of content is dukpt.ErrVerify.
	VerifyMAC(s dukpt.MACSpec, msg, mac []byte) error

	// MACResponse appends the MAC of an answer for the terminal.
	MACResponse(dst []byte, s dukpt.MACSpec, msg []byte) ([]byte, error)

	// EncryptResponse appends data encrypted for the terminal.
	EncryptResponse(dst []byte, s dukpt.DataSpec, plain []byte) ([]byte, error)

	// End wipes the working keys. It may be called more than once.
	End()
}

// PINOut says how a translated PIN leaves: under which key of the inventory, in which format, bound to which PAN.
type PINOut struct {
	Format pin.Format
	PAN    pin.PAN       // equal to the PAN that came in
	Key    keyset.KeyRef // usage P0; an alias is resolved when the translation is made
	Under  FixedOps      // from Unwrap of this engine: the key, in place of Key; only for PIN blocks under keys of fixed value
	Fill   [8]byte       // the random fill of format 4, chosen by the caller so that a repeat is byte-identical
}

// KeyInfo is what is public about a key. It is comparable and holds no key.
type KeyInfo struct {
	Ref         keyset.KeyRef // the name it was asked for or made under
	ID          keyset.KeyRef // the identifier that never means another key
	Version     uint32        // version of the name that the identifier belongs to, from 1
	Attributes  keys.Attributes
	KCV         keys.KCV
	Fingerprint keys.Fingerprint // keyed; comparable within one engine only
	Labels      Labels
	Created     time.Time // UTC
}
