package hsm

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
)

// ErrSealed says that bytes were altered, or not sealed under this label by this key: these cannot be told apart.
var ErrSealed = errors.New("hsm: altered, or sealed under another key or label")

// The key of a sealer is an object of its own, or two, with this word in CKA_ID and its name in CKA_LABEL. Keys of the host
// have other words: neither is taken for the other.
const (
	sealRecord = "latchkey-seal-1"
	sealGCM    = sealRecord + " gcm" // AES-256-GCM
	sealCBC    = sealRecord + " cbc" // AES-256-CBC, and the next for the MAC
	sealMAC    = sealRecord + " mac" // AES-256-CMAC
)

// What a sealed text begins with.
const (
	formGCM = 1 // 12 bytes of IV, ciphertext, tag; the label is associated data
	formCBC = 2 // 16 bytes of IV, ciphertext, CMAC of form, label, IV and ciphertext
)

const (
	gcmIV  = 12
	gcmTag = 16
	// MaxSealed is the most that Seal takes, in bytes.
	MaxSealed = 1 << 20
)

// Sealer encrypts what a device keeps outside, under a key that was made in the token and never leaves. It is safe for
// concurrent use, and finds its key again when the token was lost. It fits terminal.Sealer but for its errors.
type Sealer struct {
	token *Token
	label string

	mu    sync.Mutex
	of    *connection // where keys are handles
	known sealKeys
}

// sealKeys are the objects of a sealer: one, or one for the cipher and one for the MAC. The zero value is none.
type sealKeys struct{ gcm, cbc, mac object }

// CreateSealer makes the key of a sealer in the token, called as the object attribute of the URI says, or takes the one that is
// there. With a known answer it finds out whether the token has AES-GCM; if it has not, there are two keys, for AES-CBC and
// CMAC. A key that is new is asked for what it must refuse. Errors wrap ErrURI, ErrAmbiguous, ErrAttributes,
// dukpt.ErrUnsupported or engine.ErrUnavailable.
func (t *Token) CreateSealer(ctx context.Context, named URI) (*Sealer, error) {
	s, err := t.sealer(named)
	if err != nil {
		return nil, err
	}
	if err := t.loading.take(ctx); err != nil {
		return nil, err
	}
	defer t.loading.give()
	err = t.use(ctx, func(c *connection, l *lease) error { return s.create(c, l) })
	if err != nil {
		return nil, unsupported(err)
	}
	return t.OpenSealer(ctx, named)
}

// OpenSealer returns the sealer whose key the object attribute of the URI names. Errors are those of CreateSealer, or wrap
// engine.ErrKeyNotFound.
func (t *Token) OpenSealer(ctx context.Context, named URI) (*Sealer, error) {
	s, err := t.sealer(named)
	if err != nil {
		return nil, err
	}
	err = t.use(ctx, func(c *connection, l *lease) error {
		_, err := s.keys(c, l)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (t *Token) sealer(named URI) (*Sealer, error) {
	label := named.path[atObject]
	if !label.set || label.text == "" || named.path[atID].set || named.path[atType].set && named.path[atType].text != "secret-key" {
		return nil, fmt.Errorf("%w: the key of a sealer is named by object, and is of type secret-key", ErrURI)
	}
	return &Sealer{token: t, label: label.text}, nil
}

// Name says what guards the key, for people and for policy.
func (s *Sealer) Name() string { return "pkcs11" }

// create makes what is missing. A key for CBC without its MAC, or the other way round, has sealed nothing yet.
func (s *Sealer) create(c *connection, l *lease) error {
	have, err := s.find(c, l)
	if err != nil || have.whole() {
		return err
	}
	if have == (sealKeys{}) {
		ok, err := gcmWorks(c.device, l.session)
		if err != nil {
			return err
		}
		if ok {
			return s.make(c, l, sealGCM, useEncrypt, useDecrypt)
		}
	}
	if have.mac == 0 {
		if err := s.make(c, l, sealMAC, useSign); err != nil {
			return err
		}
	}
	if have.cbc == 0 {
		return s.make(c, l, sealCBC, useEncrypt, useDecrypt)
	}
	return nil
}

// make makes one key in the token and holds it to what it is to be.
func (s *Sealer) make(c *connection, l *lease, id string, uses ...use) error {
	template := append(secretTemplate(typeAES, true, uses...), number(attrValueLen, uint(keys.AES256.KeyBytes())),
		text(attrLabel, s.label), text(attrID, id), flag(attrModifiable, false))
	o, err := c.device.generateKey(l.session, mechanism{code: mechAESKeyGen}, template)
	if err != nil {
		return err
	}
	in := loader{reader: reader{device: c.device, session: l.session}}
	err = in.isSeal(o, uses)
	if err == nil {
		err = in.refuses(o, keys.AES256, uses)
	}
	if err != nil {
		l.destroy(c, o)
	}
	return err
}

// isSeal refuses a key that is not one of a sealer: AES-256, made inside, for these uses alone.
func (l loader) isSeal(o object, uses []use) error {
	a, _, err := l.kind(o)
	if err != nil {
		return err
	}
	if a != keys.AES256 {
		return fmt.Errorf("%w: the key of a sealer is %v", ErrAttributes, a)
	}
	if err := l.permits(o, uses); err != nil {
		return err
	}
	return l.genuine(o)
}

func (k sealKeys) whole() bool { return k.gcm != 0 || k.cbc != 0 && k.mac != 0 }

// keys returns the objects, as a connection has them.
func (s *Sealer) keys(c *connection, l *lease) (sealKeys, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == c {
		return s.known, nil
	}
	k, err := s.find(c, l)
	if err != nil {
		return sealKeys{}, err
	}
	if !k.whole() {
		return sealKeys{}, fmt.Errorf("%w: no sealer is called %q", engine.ErrKeyNotFound, s.label)
	}
	s.of, s.known = c, k
	return k, nil
}

// find looks for the objects and holds each to what it is to be.
func (s *Sealer) find(c *connection, l *lease) (sealKeys, error) {
	s.token.counts.finds.Add(1)
	const most = 16
	found, err := c.device.findObjects(l.session, []attribute{number(attrClass, classSecret), flag(attrToken, true), text(attrLabel, s.label)}, most)
	if err != nil {
		return sealKeys{}, err
	}
	var k sealKeys
	in := loader{reader: reader{device: c.device, session: l.session}}
	for _, o := range found {
		got, err := c.device.attributes(l.session, o, []uint{attrID})
		if err != nil {
			return sealKeys{}, err
		}
		place, uses := &k.gcm, []use{useEncrypt, useDecrypt}
		switch string(got[0].bytes) {
		case sealGCM:
		case sealCBC:
			place = &k.cbc
		case sealMAC:
			place, uses = &k.mac, []use{useSign}
		default:
			continue // somebody else's
		}
		if *place != 0 {
			return sealKeys{}, fmt.Errorf("%w: two keys of a sealer are called %q", ErrAmbiguous, s.label)
		}
		if err := in.isSeal(o, uses); err != nil {
			return sealKeys{}, fmt.Errorf("sealer %q: %w", s.label, err)
		}
		*place = o
	}
	if k.gcm != 0 && (k.cbc != 0 || k.mac != 0) {
		return sealKeys{}, fmt.Errorf("%w: the sealer %q has keys of two kinds", ErrAmbiguous, s.label)
	}
	return k, nil
}

// Seal encrypts plain, at most MaxSealed bytes. The label is bound to the result: Open asks for the same.
func (s *Sealer) Seal(label string, plain []byte) ([]byte, error) {
	if len(plain) > MaxSealed {
		return nil, fmt.Errorf("hsm: %d bytes to seal, want at most %d", len(plain), MaxSealed)
	}
	var out []byte
	err := s.token.use(context.Background(), func(c *connection, l *lease) error {
		k, err := s.keys(c, l)
		if err != nil {
			return err
		}
		if k.gcm != 0 {
			out, err = sealByGCM(c.device, l.session, k.gcm, label, plain)
		} else {
			out, err = sealByCBC(c.device, l.session, k, label, plain)
		}
		return err
	})
	return out, err
}

// Open decrypts what Seal made under this label. The caller wipes the result. The error wraps ErrSealed, or says that the token
// or its key is not there.
func (s *Sealer) Open(label string, sealed []byte) (secret.Bytes, error) {
	var out secret.Bytes
	err := s.token.use(context.Background(), func(c *connection, l *lease) error {
		k, err := s.keys(c, l)
		if err != nil {
			return err
		}
		if k.gcm != 0 {
			out, err = openByGCM(c.device, l.session, k.gcm, label, sealed)
		} else {
			out, err = openByCBC(c.device, l.session, k, label, sealed)
		}
		return err
	})
	return out, err
}

// gcmData is the associated data of a text in the form formGCM.
func gcmData(label string) []byte { return append([]byte{formGCM}, label...) }

func sealByGCM(d cryptoki, in session, key object, label string, plain []byte) ([]byte, error) {
	out := make([]byte, 1+gcmIV, 1+gcmIV+len(plain)+gcmTag)
	out[0] = formGCM
	_, _ = rand.Read(out[1:]) // cannot fail
	text, err := d.encrypt(in, gcmMechanism(out[1:], gcmData(label)), key, plain)
	if err := whole(text, len(plain)+gcmTag, err); err != nil {
		return nil, err
	}
	return append(out, text...), nil
}

func openByGCM(d cryptoki, in session, key object, label string, sealed []byte) (secret.Bytes, error) {
	if len(sealed) < 1+gcmIV+gcmTag || len(sealed) > 1+gcmIV+gcmTag+MaxSealed || sealed[0] != formGCM {
		return secret.Bytes{}, ErrSealed
	}
	iv, text := sealed[1:1+gcmIV], sealed[1+gcmIV:]
	plain, err := d.decrypt(in, gcmMechanism(iv, gcmData(label)), key, text)
	defer secret.Wipe(plain)
	if err != nil {
		return secret.Bytes{}, badTag(d, in, key, err)
	}
	if err := whole(plain, len(text)-gcmTag, nil); err != nil {
		return secret.Bytes{}, err
	}
	return secret.From(plain), nil
}

// badTag says what an error of a decryption means. SoftHSM says CKR_GENERAL_ERROR of a wrong tag, which others say when they
// are lost: a key that still encrypts is not.
func badTag(d cryptoki, in session, key object, err error) error {
	code, ok := errors.AsType[rv](err)
	if !ok {
		return err
	}
	switch code {
	case rvCipherInvalid, rvCipherLength, rvDataInvalid, rvDataLength:
		return ErrSealed
	case rvGeneral, rvFailed:
		if _, alive := sealByGCM(d, in, key, "", nil); alive == nil {
			return ErrSealed
		}
	}
	return err
}

// gcmMechanism is AES-GCM with a tag of 16 bytes. An IV of another length than 12 bytes never reaches the token: SoftHSM takes an
// empty one for zeros.
func gcmMechanism(iv, data []byte) mechanism {
	if len(iv) != gcmIV {
		panic("hsm: GCM with an IV of another length than 12 bytes")
	}
	return mechanism{code: mechAESGCM, iv: iv, data: data}
}

// gcmWorks finds out by a known answer whether a token has AES-GCM as we use it: it encrypts as Go does, and refuses a text that
// was altered. The key is random and lives for the moment.
func gcmWorks(d cryptoki, in session) (bool, error) {
	value := secret.New(keys.AES256.KeyBytes())
	defer value.Wipe()
	_, _ = rand.Read(value.Expose()) // cannot fail
	key, err := d.createObject(in, imported(keys.AES256, value.Expose(), false, useEncrypt, useDecrypt))
	if err != nil {
		return false, err
	}
	ok, err := gcmAnswers(d, in, key, value)
	if gone := d.destroyObject(in, key); err == nil {
		err = gone
	}
	if err != nil && classify(err) == classRequest {
		return false, nil // it has it not, or not like this
	}
	return ok, err
}

func gcmAnswers(d cryptoki, in session, key object, value secret.Bytes) (bool, error) {
	block, err := aes.NewCipher(value.Expose())
	if err != nil {
		return false, err
	}
	defer secret.WipeCipher(block)
	ours, err := cipher.NewGCM(block)
	if err != nil {
		return false, err
	}
	defer secret.WipeCipher(ours)
	const label, sample = "label", "a text of more than one block"
	sealed, err := sealByGCM(d, in, key, label, []byte(sample))
	if err != nil {
		return false, err
	}
	plain, err := ours.Open(nil, sealed[1:1+gcmIV], sealed[1+gcmIV:], gcmData(label))
	if err != nil || string(plain) != sample {
		return false, nil
	}
	again, err := openByGCM(d, in, key, label, sealed)
	if err != nil {
		return false, err
	}
	defer again.Wipe()
	sealed[len(sealed)-1] ^= 1
	_, err = openByGCM(d, in, key, label, sealed)
	return string(again.Expose()) == sample && errors.Is(err, ErrSealed), nil
}

// macData is what the MAC of a text in the form formCBC is over: no two labels and texts give the same.
func macData(label string, head []byte) []byte {
	out := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(label)+len(head)), uint64(len(label)))
	return append(append(out, label...), head...)
}

// sealByCBC encrypts, and then makes a MAC of all that is public.
func sealByCBC(d cryptoki, in session, k sealKeys, label string, plain []byte) ([]byte, error) {
	padded := secret.New(len(plain) + aes.BlockSize - len(plain)%aes.BlockSize)
	defer padded.Wipe()
	for i := copy(padded.Expose(), plain); i < padded.Len(); i++ {
		padded.Expose()[i] = byte(padded.Len() - len(plain)) // PKCS #7
	}
	out := make([]byte, 1+aes.BlockSize)
	out[0] = formCBC
	_, _ = rand.Read(out[1:]) // cannot fail
	text, err := d.encrypt(in, mechanism{code: mechAESCBC, iv: out[1:]}, k.cbc, padded.Expose())
	if err := whole(text, padded.Len(), err); err != nil {
		return nil, err
	}
	out = append(out, text...)
	sum, err := d.sign(in, mechanism{code: mechAESCMAC}, k.mac, macData(label, out))
	if err := whole(sum, aes.BlockSize, err); err != nil {
		return nil, err
	}
	return append(out, sum...), nil
}

// openByCBC compares the MAC before it decrypts anything.
func openByCBC(d cryptoki, in session, k sealKeys, label string, sealed []byte) (secret.Bytes, error) {
	n := len(sealed) - 1
	if n < 3*aes.BlockSize || n%aes.BlockSize != 0 || n > MaxSealed+3*aes.BlockSize || sealed[0] != formCBC {
		return secret.Bytes{}, ErrSealed
	}
	body, sum := sealed[:len(sealed)-aes.BlockSize], sealed[len(sealed)-aes.BlockSize:]
	want, err := d.sign(in, mechanism{code: mechAESCMAC}, k.mac, macData(label, body))
	if err := whole(want, aes.BlockSize, err); err != nil {
		return secret.Bytes{}, err
	}
	if !hmac.Equal(want, sum) {
		return secret.Bytes{}, ErrSealed
	}
	text := body[1+aes.BlockSize:]
	plain, err := d.decrypt(in, mechanism{code: mechAESCBC, iv: body[1 : 1+aes.BlockSize]}, k.cbc, text)
	defer secret.Wipe(plain)
	if err := whole(plain, len(text), err); err != nil {
		return secret.Bytes{}, err
	}
	n = int(plain[len(plain)-1]) // the MAC was right: Seal wrote it
	if n < 1 || n > aes.BlockSize {
		return secret.Bytes{}, ErrSealed
	}
	return secret.From(plain[:len(plain)-n]), nil
}
