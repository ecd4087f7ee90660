package message

import (
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// Sizes in bytes, and counts.
const (
	// FormatVersion is the version of messages and acks.
	FormatVersion = 1
	// MaxSize is the most that any message has.
	MaxSize = 16 << 10
	// MaxInner is the most that a message other than a resend has, so that each fits into a resend.
	MaxInner = MaxSize - 512
	// MaxBody is the most that an opaque body has.
	MaxBody = 8 << 10
	// MaxCiphertext is the most that one field has.
	MaxCiphertext = 4 << 10
	// MaxFields is the most fields of one message.
	MaxFields = 8
	// MinMAC and MaxMAC bound the length of a MAC.
	MinMAC, MaxMAC = keyset.MinMACLength, keyset.MaxMACLength
	// NonceSize is the length of the nonce of a sign-in.
	NonceSize = 16

	// maxAround is what surrounds a payload in a message: an array head, two byte-string heads and the longest MAC.
	maxAround = 1 + 3 + 1 + MaxMAC
	maxTime   = 253402300799 // 9999-12-31T23:59:59Z
)

// ErrMessage is wrapped by every error about bytes that are no message, and about parts that make none.
var ErrMessage = errors.New("message: invalid message")

// Payload is what a terminal says. It is plain data: Encode checks it, and Parse returns checked ones. Slices are the
// caller's.
type Payload struct {
	Version     uint               // FormatVersion
	Type        Type               // every type but Ack
	Environment keyset.Environment // of the key sets in use
	Tenant      keyset.TenantID    // whose terminal
	Terminal    keyset.TerminalID  // who speaks
	BootCounter uint64             // starts of the terminal, never going back
	Sequence    uint64             // messages of the terminal; a resend has its own
	Time        int64              // the terminal's clock, seconds since 1970 UTC
	Offline     bool               // decided without the host
	Queued      bool               // waited in the terminal's queue
	MAC         MACRef             // key and algorithm of the message's MAC
	Fields      []Field            // encrypted fields; none in a sign-in or resend
	Amount      *Amount            // required in a sale and an advice, none in a sign-in or resend
	Original    *Original          // required in a reversal and a void, allowed in an advice
	Nonce       []byte             // sign-in only: NonceSize random bytes
	SlotMACs    []SlotMAC          // sign-in only: one for each further slot to be confirmed
	Inner       []byte             // resend only: the original message, byte for byte
	Body        []byte             // opaque to both ends of this protocol; none in a sign-in or resend
}

// MACRef names the key of a MAC and how it is computed. It is comparable.
type MACRef struct {
	Slot      uint8              // key slot, 1 to keyset.MaxSlots
	KSN       dukpt.KSN          // key of this one MAC
	Algorithm dukpt.MACAlgorithm // one that keyset.CheckMAC knows under the scheme
	Padding   dukpt.MACPadding   // of MACRetail and MACCBC; zero for the others
	Length    int                // bytes, MinMAC to the block size or MaxMAC
}

// Spec returns how the MAC is computed with a working key, which is zero under TDES. Direction is left to the method.
func (r MACRef) Spec(key dukpt.WorkingKey) dukpt.MACSpec {
	return dukpt.MACSpec{Algorithm: r.Algorithm, Key: key, Padding: r.Padding, Length: r.Length}
}

// Field is one encrypted field.
type Field struct {
	Slot       uint8            // key slot, 1 to keyset.MaxSlots
	KSN        dukpt.KSN        // key of this field
	Usage      Usage            // what it holds
	Mode       dukpt.CipherMode // of data; zero for a PIN block
	IV         []byte           // one block or none, of data under CBC
	PINFormat  pin.Format       // of a PIN block; zero for data
	Ciphertext []byte           // one PIN block, or 1 byte to MaxCiphertext of data in whole blocks
}

// Original names the message that a reversal, void or advice is about.
type Original struct {
	Sequence uint64    // its sequence
	KSN      dukpt.KSN // of its MAC
	Digest   Digest    // of its bytes
}

// SlotMAC confirms one key slot in a sign-in: a MAC over SignInContent under the key it names.
type SlotMAC struct {
	MACRef
	MAC []byte // MACRef.Length bytes
}

// Check reports the first rule of docs/protocol.md, section 3, that the payload breaks. The error wraps ErrMessage.
func (p *Payload) Check() error {
	err := p.checkOuter()
	if err != nil || p.Type != Resend {
		return err
	}
	_, err = p.openInner()
	return err
}

// checkOuter checks everything but what is inside a resend.
func (p *Payload) checkOuter() error {
	for _, check := range []func() error{
		p.checkHeader, p.MAC.check, p.checkFields, p.checkMembers, p.checkValues, p.checkSignIn,
	} {
		err := check()
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *Payload) checkHeader() error {
	if p.Version != FormatVersion {
		return broken("format version %d, want %d", p.Version, FormatVersion)
	}
	if p.Type < Sale || p.Type > Resend {
		return broken("type %v is none that a terminal sends", p.Type)
	}
	if p.Environment != keyset.Production && p.Environment != keyset.Test {
		return broken("environment is neither production nor test")
	}
	if _, err := keyset.ParseTenant(string(p.Tenant)); err != nil {
		return broken("%v", err)
	}
	if _, err := keyset.ParseTerminal(string(p.Terminal)); err != nil {
		return broken("%v", err)
	}
	if p.Time < 0 || p.Time > maxTime {
		return broken("time is out of range")
	}
	return nil
}

func (r MACRef) check() error {
	if err := checkSlot(r.Slot); err != nil {
		return err
	}
	if r.KSN.IsZero() {
		return broken("a MAC names no KSN")
	}
	s := r.Spec(r.anyKey())
	if err := keyset.CheckMAC(r.KSN.Scheme(), s); err != nil {
		return broken("MAC: %v", err)
	}
	if err := s.Validate(r.KSN.Scheme()); err != nil {
		return broken("MAC: %v", err)
	}
	return nil
}

// anyKey returns a type of key that the algorithm goes with. A message does not say which one it is: its key set does.
func (r MACRef) anyKey() dukpt.WorkingKey {
	switch {
	case r.KSN.Scheme() != dukpt.AES:
		return 0
	case r.Algorithm == dukpt.MACHMACSHA256:
		return dukpt.KeyHMAC128
	}
	return dukpt.KeyAES128
}

func checkSlot(slot uint8) error {
	if slot < 1 || slot > keyset.MaxSlots {
		return broken("slot %d, want 1 to %d", slot, keyset.MaxSlots)
	}
	return nil
}

func (p *Payload) checkFields() error {
	if len(p.Fields) > MaxFields {
		return broken("%d fields, want at most %d", len(p.Fields), MaxFields)
	}
	for i := range p.Fields {
		f := &p.Fields[i]
		if err := f.check(); err != nil {
			return err
		}
		if f.Usage == UsagePIN && p.Type != Sale {
			return broken("a PIN block in a message of type %v", p.Type)
		}
		for j := range i {
			other := &p.Fields[j]
			if other.Slot == f.Slot && other.KSN == f.KSN && other.Usage == f.Usage {
				return broken("two %v fields under slot %d and one KSN", f.Usage, f.Slot)
			}
		}
	}
	return nil
}

func (f *Field) check() error {
	if err := checkSlot(f.Slot); err != nil {
		return err
	}
	if f.KSN.IsZero() {
		return broken("a field names no KSN")
	}
	switch f.Usage {
	case UsagePIN:
		return f.checkPIN()
	case UsageData:
		return f.checkData()
	}
	return broken("a field has no usage")
}

func (f *Field) checkPIN() error {
	if f.Mode != 0 || len(f.IV) != 0 {
		return broken("a PIN block has no mode and no IV")
	}
	if f.PINFormat != pin.Format0 && f.PINFormat != pin.Format4 {
		return broken("PIN format not supported: %v", f.PINFormat)
	}
	block := blockSize(f.KSN)
	if f.PINFormat.BlockSize() != block {
		return broken("PIN format %v does not go with %v keys", f.PINFormat, f.KSN.Scheme())
	}
	if len(f.Ciphertext) != block {
		return broken("a PIN block of %d bytes, want %d", len(f.Ciphertext), block)
	}
	return nil
}

func (f *Field) checkData() error {
	if f.PINFormat != 0 {
		return broken("card data has no PIN format")
	}
	block := blockSize(f.KSN)
	switch f.Mode {
	case dukpt.CBC:
		if len(f.IV) != 0 && len(f.IV) != block {
			return broken("an IV of %d bytes, want %d or none", len(f.IV), block)
		}
	case dukpt.ECB:
		if len(f.IV) != 0 {
			return broken("ECB takes no IV")
		}
	default:
		return broken("card data has no mode")
	}
	n := len(f.Ciphertext)
	if n < 1 || n > MaxCiphertext {
		return broken("ciphertext of %d bytes, want 1 to %d", n, MaxCiphertext)
	}
	if n%block != 0 {
		return broken("ciphertext of %d bytes is not in whole blocks of %d", n, block)
	}
	return nil
}

// blockSize returns the block length of what a KSN's keys encrypt with.
func blockSize(ksn dukpt.KSN) int {
	if ksn.Scheme() == dukpt.TDES {
		return 8
	}
	return 16
}

// rule says of a member whether a type must, may or must not have it.
type rule uint8

const (
	never rule = iota
	may
	always
)

// members says which members a type has beside its header and MAC.
var members = map[Type]struct{ fields, amount, original, nonce, inner, body rule }{
	Sale:     {fields: may, amount: always, body: may},
	Reversal: {fields: may, amount: may, original: always, body: may},
	Void:     {fields: may, amount: may, original: always, body: may},
	Advice:   {fields: may, amount: always, original: may, body: may},
	SignIn:   {nonce: always},
	Resend:   {inner: always},
}

func (p *Payload) checkMembers() error {
	m := members[p.Type]
	for _, c := range []struct {
		name string
		rule rule
		set  bool
	}{
		{"fields", m.fields, len(p.Fields) > 0},
		{"amount", m.amount, p.Amount != nil},
		{"original", m.original, p.Original != nil},
		{"nonce", m.nonce, len(p.Nonce) > 0},
		{"slot MACs", min(m.nonce, may), len(p.SlotMACs) > 0},
		{"inner message", m.inner, len(p.Inner) > 0},
		{"body", m.body, len(p.Body) > 0},
	} {
		if c.set && c.rule == never {
			return broken("a message of type %v has no %s", p.Type, c.name)
		}
		if !c.set && c.rule == always {
			return broken("a message of type %v needs its %s", p.Type, c.name)
		}
	}
	return nil
}

func (p *Payload) checkValues() error {
	if p.Amount != nil {
		if err := p.Amount.Check(); err != nil {
			return err
		}
	}
	if o := p.Original; o != nil && (o.KSN.IsZero() || o.Digest.IsZero()) {
		return broken("the original is not fully named")
	}
	if len(p.Body) > MaxBody {
		return broken("body of %d bytes, want at most %d", len(p.Body), MaxBody)
	}
	return nil
}

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMessage, fmt.Sprintf(format, args...))
}
