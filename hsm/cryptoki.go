package hsm

import (
	"context"
	"crypto"
	"encoding/binary"
	"fmt"
	"strconv"
)

// cryptoki is one token as this room uses it: the part of PKCS#11 that it needs, with the module behind it. The bridge is one,
// and the tests have another that makes errors. A session is for one goroutine at a time, everything else for many.
type cryptoki interface {
	// attach loads the module, initialises it where nobody has, and finds the token, without login. Before anything else. It tells
	// step each call into the module before it is made, and "" when it waits for others.
	attach(ctx context.Context, step func(call string)) error
	// abandon says that a call into the module does not return. Nobody else in this process gets into it from here on.
	abandon(why error)
	// restart finalises the module and initialises it, which all its tokens in this process notice by another generation. It
	// does nothing when the generation is no more the known one. It tells what it calls as attach does.
	restart(known uint64, step func(call string)) error
	// generation counts the restarts of the module.
	generation() uint64
	// enter marks calls under way, so that no restart cuts them off; it fails when the generation is no more the known one.
	// leave ends them.
	enter(known uint64) error
	leave()
	// login logs in where nobody is. It tries the PIN once, and never again when it was refused.
	login(s session) error
	info() (tokenInfo, error)
	// close lets go of the token, and tells what it calls as attach does. It may be called where attach failed, and more than once.
	close(step func(call string))

	openSession() (session, error)
	closeSession(s session) error

	findObjects(s session, template []attribute, most int) ([]object, error)
	attributes(s session, o object, types []uint) ([]attribute, error)
	createObject(s session, template []attribute) (object, error)
	copyObject(s session, o object, template []attribute) (object, error)
	destroyObject(s session, o object) error
	generateKey(s session, m mechanism, template []attribute) (object, error)
	generateKeyPair(s session, m mechanism, public, private []attribute) (object, object, error)
	deriveKey(s session, m mechanism, base object, template []attribute) (object, error)
	encrypt(s session, m mechanism, key object, in []byte) ([]byte, error)
	decrypt(s session, m mechanism, key object, in []byte) ([]byte, error)
	sign(s session, m mechanism, key object, in []byte) ([]byte, error)
	// signer returns the one key pair with this label and CKA_ID, of which one may be nil, as a signer with sessions of its own.
	signer(label, id []byte) (crypto.Signer, error)
	wrapKey(s session, m mechanism, wrapping, key object) ([]byte, error)
	unwrapKey(s session, m mechanism, wrapping object, wrapped []byte, template []attribute) (object, error)
}

// module is a PKCS#11 module of which nothing is known but its path.
type module interface {
	// list returns the tokens that are there. It tells what it calls as attach does.
	list(ctx context.Context, step func(call string)) ([]tokenInfo, error)
	abandon(why error)
}

// session and object are handles of the module.
type (
	session uint
	object  uint
)

// mechanism is a mechanism with its parameter: at most one of the three, but for AES-GCM, which has iv and data.
type mechanism struct {
	code   uint
	iv     []byte // an initialisation vector
	data   []byte // CK_KEY_DERIVATION_STRING_DATA: what is encrypted to give a key; for AES-GCM associated data
	public []byte // the other side's public point, for ECDH without a KDF
}

// attribute is one attribute of an object, with its value as PKCS#11 has it in memory.
type attribute struct {
	code  uint
	bytes []byte
}

// tokenInfo is what is public about a token.
type tokenInfo struct {
	slot                               uint
	label, manufacturer, model, serial string
	flags                              uint
}

// Flags of a token (CKF_).
const (
	flagInitialized = 0x00000400
	flagPINFinalTry = 0x00020000
	flagPINLocked   = 0x00040000
)

// mayTry refuses to try a PIN where a wrong one would lock the token, unless it is wanted, and where the token is locked.
func mayTry(flags uint, wanted bool) error {
	if flags&flagPINLocked != 0 {
		return fmt.Errorf("%w: it is locked; the security officer can set a new PIN", ErrPINTries)
	}
	if flags&flagPINFinalTry != 0 && !wanted {
		return fmt.Errorf("%w: say that this try may be the last, or log in by the maker's tool", ErrPINTries)
	}
	return nil
}

// Attributes (CKA_).
const (
	attrClass             = 0x000
	attrToken             = 0x001
	attrPrivate           = 0x002
	attrLabel             = 0x003
	attrValue             = 0x011
	attrKeyType           = 0x100
	attrID                = 0x102
	attrSensitive         = 0x103
	attrEncrypt           = 0x104
	attrDecrypt           = 0x105
	attrWrap              = 0x106
	attrUnwrap            = 0x107
	attrSign              = 0x108
	attrVerify            = 0x10A
	attrDerive            = 0x10C
	attrValueLen          = 0x161
	attrExtractable       = 0x162
	attrLocal             = 0x163
	attrNeverExtractable  = 0x164
	attrAlwaysSensitive   = 0x165
	attrModifiable        = 0x170
	attrECParams          = 0x180
	attrECPoint           = 0x181
	attrAllowedMechanisms = 0x40000600
)

// Classes of objects (CKO_) and types of keys (CKK_).
const (
	classPublic  = 2
	classPrivate = 3
	classSecret  = 4

	typeEC      = 0x03
	typeEdwards = 0x40
	typeGeneric = 0x10
	typeDES     = 0x13
	typeDES2    = 0x14
	typeDES3    = 0x15
	typeAES     = 0x1F
)

// Mechanisms (CKM_).
const (
	mechDESECB     = 0x121
	mechDES3ECB    = 0x132
	mechDES3CBC    = 0x133
	mechDES3CMAC   = 0x138
	mechSHA256HMAC = 0x251
	mechExtract    = 0x365 // CKM_EXTRACT_KEY_FROM_KEY
	mechSHA384HMAC = 0x261
	mechSHA512HMAC = 0x271
	mechECKeyPair  = 0x1040
	mechECDSA      = 0x1041
	mechECDH       = 0x1050
	mechEdKeyPair  = 0x1055 // CKM_EC_EDWARDS_KEY_PAIR_GEN
	mechEdDSA      = 0x1057
	mechAESKeyGen  = 0x1080
	mechAESECB     = 0x1081
	mechAESCBC     = 0x1082
	mechAESGCM     = 0x1087
	mechAESCMAC    = 0x108A
	mechDES3Derive = 0x1102 // CKM_DES3_ECB_ENCRYPT_DATA
	mechAESDerive  = 0x1104 // CKM_AES_ECB_ENCRYPT_DATA
	mechAESKeyWrap = 0x2109
)

// ulong spells a number as a CK_ULONG lies in memory: as long as a pointer, on the systems that the bridge is built for.
func ulong(n uint) []byte {
	b := binary.NativeEndian.AppendUint64(nil, uint64(n))
	if strconv.IntSize == 64 {
		return b
	}
	return binary.NativeEndian.AppendUint32(nil, uint32(n))
}

func number(code, n uint) attribute { return attribute{code, ulong(n)} }

func flag(code uint, on bool) attribute {
	if on {
		return attribute{code, []byte{1}}
	}
	return attribute{code, []byte{0}}
}

func text(code uint, s string) attribute { return attribute{code, []byte(s)} }

// asNumber reads what number writes.
func (a attribute) asNumber() (uint, bool) {
	switch len(a.bytes) {
	case 4:
		return uint(binary.NativeEndian.Uint32(a.bytes)), true
	case 8:
		return uint(binary.NativeEndian.Uint64(a.bytes)), true
	}
	return 0, false
}

// asFlag reads what flag writes.
func (a attribute) asFlag() bool { return len(a.bytes) == 1 && a.bytes[0] != 0 }
