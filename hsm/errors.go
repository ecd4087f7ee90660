package hsm

import (
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
)

// Errors that callers act on. Whatever says that the token cannot work now wraps engine.ErrUnavailable too.
var (
	// ErrNoBridge says that this program was built without the bridge to PKCS#11 modules.
	ErrNoBridge = errors.New("hsm: built without PKCS#11: build with CGO_ENABLED=1 and a C compiler, and without the tag nohsm")
	// ErrModule says that the PKCS#11 module is not there or cannot be loaded.
	ErrModule = errors.New("hsm: module cannot be loaded")
	// ErrNoToken says that no token is what the URI names.
	ErrNoToken = errors.New("hsm: no such token")
	// ErrAmbiguous says that a URI or a name means more than one token or object, of which none is taken.
	ErrAmbiguous = errors.New("hsm: ambiguous")
	// ErrPIN says that the token refused the PIN. It was tried once, and will not be tried again.
	ErrPIN = errors.New("hsm: the PIN was refused")
	// ErrPINTries says that one more wrong PIN locks the token, or that it is locked.
	ErrPINTries = errors.New("hsm: the token is about to lock, or locked")
	// ErrAttributes says that a key in the token may do what it must not, or has a record that is not its own.
	ErrAttributes = errors.New("hsm: key has wrong attributes")
	// ErrExists says that the name is taken.
	ErrExists = errors.New("hsm: name is taken")
	// ErrDuplicate says that the token has this very key under another name.
	ErrDuplicate = errors.New("hsm: the key is here under another name")
	// ErrCarry says that PIN blocks cannot pass as wrapped keys, although Options.CarryPINs wants it.
	ErrCarry = errors.New("hsm: PIN blocks cannot be carried")
	// ErrStuck says that a call into the module has not returned in time. Nothing can be done to such a call: the module is used by
	// nobody in this process any more, not even after the call has returned. The program should end, and be started again.
	ErrStuck = fmt.Errorf("%w: a call into the module does not return", engine.ErrUnavailable)
	// ErrVariant says that a TDES base key lacks its variant in the token, from which half of each initial key comes.
	ErrVariant = errors.New("hsm: the C0 variant of a base key is missing")
)

var (
	errClosed = fmt.Errorf("%w: token is closed", engine.ErrUnavailable)
	errBusy   = fmt.Errorf("%w: no session is free", engine.ErrUnavailable)
	errSilent = errors.New("hsm: the token does not answer what it has answered before")
)

// stuckIn says which call does not return.
func stuckIn(call string) error { return fmt.Errorf("%w: %s", ErrStuck, call) }

// rv is a return value of the module other than CKR_OK.
type rv uint

// Error returns the code and, of those that are known here, the name.
func (e rv) Error() string {
	if name, ok := rvNames[e]; ok {
		return fmt.Sprintf("pkcs11: %s (0x%X)", name, uint(e))
	}
	return fmt.Sprintf("pkcs11: return value 0x%X", uint(e))
}

// Return values (CKR_).
const (
	rvHostMemory        rv = 0x002
	rvSlotID            rv = 0x003
	rvGeneral           rv = 0x005
	rvFailed            rv = 0x006
	rvAttrReadOnly      rv = 0x010
	rvAttrSensitive     rv = 0x011
	rvAttrType          rv = 0x012
	rvAttrValue         rv = 0x013
	rvDataInvalid       rv = 0x020
	rvDataLength        rv = 0x021
	rvDeviceError       rv = 0x030
	rvDeviceMemory      rv = 0x031
	rvDeviceRemoved     rv = 0x032
	rvCipherInvalid     rv = 0x040
	rvCipherLength      rv = 0x041
	rvKeyHandle         rv = 0x060
	rvKeySize           rv = 0x062
	rvKeyType           rv = 0x063
	rvKeyFunction       rv = 0x068
	rvKeyNotWrappable   rv = 0x069
	rvKeyUnextractable  rv = 0x06A
	rvMechanism         rv = 0x070
	rvMechanismParam    rv = 0x071
	rvObjectHandle      rv = 0x082
	rvOperationActive   rv = 0x090
	rvOperationNone     rv = 0x091
	rvPINIncorrect      rv = 0x0A0
	rvPINInvalid        rv = 0x0A1
	rvPINLength         rv = 0x0A2
	rvPINExpired        rv = 0x0A3
	rvPINLocked         rv = 0x0A4
	rvSessionClosed     rv = 0x0B0
	rvSessionCount      rv = 0x0B1
	rvSessionHandle     rv = 0x0B3
	rvTokenAbsent       rv = 0x0E0
	rvTokenUnrecognized rv = 0x0E1
	rvUserAlreadyIn     rv = 0x100
	rvUserNotIn         rv = 0x101
	rvNotInitialized    rv = 0x190
	rvInitialized       rv = 0x191
	rvVendor            rv = 0x80000000 // from here on each maker has its own
)

var rvNames = map[rv]string{
	rvHostMemory: "CKR_HOST_MEMORY", rvSlotID: "CKR_SLOT_ID_INVALID", rvGeneral: "CKR_GENERAL_ERROR", rvFailed: "CKR_FUNCTION_FAILED",
	rvAttrReadOnly: "CKR_ATTRIBUTE_READ_ONLY", rvAttrSensitive: "CKR_ATTRIBUTE_SENSITIVE", rvAttrType: "CKR_ATTRIBUTE_TYPE_INVALID",
	rvAttrValue: "CKR_ATTRIBUTE_VALUE_INVALID", rvDataInvalid: "CKR_DATA_INVALID", rvDataLength: "CKR_DATA_LEN_RANGE",
	rvDeviceError: "CKR_DEVICE_ERROR", rvDeviceMemory: "CKR_DEVICE_MEMORY", rvDeviceRemoved: "CKR_DEVICE_REMOVED",
	rvCipherInvalid: "CKR_ENCRYPTED_DATA_INVALID", rvCipherLength: "CKR_ENCRYPTED_DATA_LEN_RANGE", rvKeyHandle: "CKR_KEY_HANDLE_INVALID",
	rvKeySize: "CKR_KEY_SIZE_RANGE", rvKeyType: "CKR_KEY_TYPE_INCONSISTENT", rvKeyFunction: "CKR_KEY_FUNCTION_NOT_PERMITTED",
	rvKeyNotWrappable: "CKR_KEY_NOT_WRAPPABLE", rvKeyUnextractable: "CKR_KEY_UNEXTRACTABLE", rvMechanism: "CKR_MECHANISM_INVALID",
	rvMechanismParam: "CKR_MECHANISM_PARAM_INVALID", rvObjectHandle: "CKR_OBJECT_HANDLE_INVALID", rvOperationActive: "CKR_OPERATION_ACTIVE",
	rvOperationNone: "CKR_OPERATION_NOT_INITIALIZED", rvPINIncorrect: "CKR_PIN_INCORRECT", rvPINInvalid: "CKR_PIN_INVALID",
	rvPINLength: "CKR_PIN_LEN_RANGE", rvPINExpired: "CKR_PIN_EXPIRED", rvPINLocked: "CKR_PIN_LOCKED", rvSessionClosed: "CKR_SESSION_CLOSED",
	rvSessionCount: "CKR_SESSION_COUNT", rvSessionHandle: "CKR_SESSION_HANDLE_INVALID", rvTokenAbsent: "CKR_TOKEN_NOT_PRESENT",
	rvTokenUnrecognized: "CKR_TOKEN_NOT_RECOGNIZED", rvUserAlreadyIn: "CKR_USER_ALREADY_LOGGED_IN", rvUserNotIn: "CKR_USER_NOT_LOGGED_IN",
	rvNotInitialized: "CKR_CRYPTOKI_NOT_INITIALIZED", rvInitialized: "CKR_CRYPTOKI_ALREADY_INITIALIZED",
}

// class says what an error of the module means for what comes next.
type class uint8

const (
	classRequest class = iota + 1 // this request is refused; the session is as good as before
	classSession                  // the session is spoilt: another one may do
	classLogin                    // handles or login are gone: sessions, login and keys have to be made anew
	classLost                     // the token is gone: the module has to start anew
	classPIN                      // the PIN is refused: never again
	classBusy                     // the token has no room now
)

// classify tells errors apart. What does not come from the module is one of the request.
func classify(err error) class {
	if errors.Is(err, ErrPIN) || errors.Is(err, ErrPINTries) {
		return classPIN
	}
	if errors.Is(err, ErrNoToken) || errors.Is(err, errSilent) { // an empty list of slots is how a module says that its token is away
		return classLost
	}
	code, ok := errors.AsType[rv](err)
	if !ok {
		return classRequest
	}
	switch code {
	case rvPINIncorrect, rvPINInvalid, rvPINLength, rvPINExpired, rvPINLocked:
		return classPIN
	case rvSessionClosed, rvSessionHandle, rvOperationActive, rvOperationNone:
		return classSession
	case rvKeyHandle, rvObjectHandle, rvUserNotIn:
		return classLogin
	case rvSlotID, rvGeneral, rvDeviceError, rvDeviceRemoved, rvTokenAbsent, rvTokenUnrecognized, rvNotInitialized:
		return classLost
	case rvHostMemory, rvDeviceMemory, rvSessionCount:
		return classBusy
	}
	return classRequest
}

// doubtful reports whether an error says that something failed, and not what: some modules say so of a request that they do not like,
// others when their line is gone. By itself it is one of the request, because that is what it means of what a token lacks, and what was
// decided about a key stays decided.
func doubtful(err error) bool {
	code, ok := errors.AsType[rv](err)
	return ok && (code == rvFailed || code >= rvVendor) && classify(err) == classRequest && !errors.Is(err, ErrAttributes)
}

// silent says that an error came where nobody's request was to blame.
func silent(err error) error {
	if !doubtful(err) {
		return err
	}
	return fmt.Errorf("%w: %w", errSilent, err)
}

// unavailable says that the token cannot work now, and why.
func unavailable(err error) error {
	if errors.Is(err, engine.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", engine.ErrUnavailable, err)
}

// refusedByKey reports whether the token refused a use because of the key's attributes, and not for another reason.
func refusedByKey(err error) bool {
	code, ok := errors.AsType[rv](err)
	if !ok {
		return false
	}
	switch code {
	case rvKeyFunction, rvMechanism, rvKeyType, rvKeyUnextractable, rvKeyNotWrappable, rvAttrSensitive, rvAttrType:
		return true
	}
	return false
}
