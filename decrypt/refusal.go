package decrypt

import (
	"cmp"
	"net/http"
	"slices"
	"time"
)

// Code names a reason for refusing, stable across releases. docs/errors.md lists every one.
type Code string

// What the claims of a message can be refused for (docs/protocol.md, verdicts).
const (
	CodeKSNReplayed      Code = "KsnReplayed"
	CodeKSNSpent         Code = "KsnSpent"
	CodeKSNTooOld        Code = "KsnTooOld"
	CodeKSNFenced        Code = "KsnFenced"
	CodeKSNOutOfWindow   Code = "KsnOutOfWindow"
	CodeTreatmentDiffers Code = "TreatmentDiffers"
	CodeResendCapReached Code = "ResendCapReached"
	CodeReversed         Code = "Reversed"
)

// What is wrong with a message or what it names.
const (
	CodeMessageMalformed    Code = "MessageMalformed"
	CodeMACInvalid          Code = "MacInvalid"
	CodeMACNotPermitted     Code = "MacNotPermitted"
	CodePINBlockInvalid     Code = "PinBlockInvalid"
	CodePurposeNotPermitted Code = "PurposeNotPermitted"
	CodePathNotPermitted    Code = "PathNotPermitted"
	CodeTenantMismatch      Code = "TenantMismatch"
	CodeEnvironmentMismatch Code = "EnvironmentMismatch"
	CodeTerminalUnknown     Code = "TerminalUnknown"
	CodeTerminalNotActive   Code = "TerminalNotActive"
	CodeTerminalRevoked     Code = "TerminalRevoked"
	CodeSlotUnknown         Code = "SlotUnknown"
	CodeSlotNotActive       Code = "SlotNotActive"
	CodeKeyIDMismatch       Code = "KeyIdMismatch"
	CodeKeySetUnknown       Code = "KeySetUnknown"
	CodeKeySetRetired       Code = "KeySetRetired"
)

// Why a message is answered HELD.
const (
	CodeTerminalBlocked     Code = "TerminalBlocked"
	CodeTerminalQuarantined Code = "TerminalQuarantined"
	CodeDrainGrantSpent     Code = "DrainGrantSpent"
	CodeKeySetBlocked       Code = "KeySetBlocked"
)

// What is wrong with the call.
const (
	CodeRoleNotPermitted        Code = "RoleNotPermitted"
	CodeRequestMalformed        Code = "RequestMalformed"
	CodeBodyTooLarge            Code = "BodyTooLarge"
	CodeBodyUnreadable          Code = "BodyUnreadable"
	CodeMediaTypeNotSupported   Code = "MediaTypeNotSupported"
	CodeNotFound                Code = "NotFound"
	CodeMethodNotAllowed        Code = "MethodNotAllowed"
	CodeKeyIdentifierInvalid    Code = "KeyIdentifierInvalid"
	CodeKeyNotFound             Code = "KeyNotFound"
	CodePINKeyNotPermitted      Code = "PinKeyNotPermitted"
	CodeTranslationNotPermitted Code = "TranslationNotPermitted"
	CodeRequestUnknown          Code = "RequestUnknown"
	CodeAnswerMalformed         Code = "AnswerMalformed"
	CodeAnswerConflict          Code = "AnswerConflict"
	CodeNotSupported            Code = "NotSupported"
	CodeKeyNotPermitted         Code = "KeyNotPermitted"
	CodeKeyBlockInvalid         Code = "KeyBlockInvalid"
	CodeRateLimited             Code = "RateLimited"
	CodeDirectionNotPermitted   Code = "DirectionNotPermitted"
)

// What is wrong with this service.
const (
	CodeRegistryStale       Code = "RegistryStale"
	CodeRegistryUnavailable Code = "RegistryUnavailable"
	CodeStoreUnavailable    Code = "StoreUnavailable"
	CodeStoreFull           Code = "StoreFull"
	CodeStoreDamaged        Code = "StoreDamaged"
	CodeEngineUnavailable   Code = "EngineUnavailable"
	CodeOverloaded          Code = "Overloaded"
	CodeInternal            Code = "InternalError"
)

// CodeInfo says what a code means and what to do about it.
type CodeInfo struct {
	Code       Code
	HTTPStatus int    // status of the answer that carries it
	Meaning    string // one clause, for the message of an answer
	Hint       string // the next step of the caller
}

// codes is the list that docs/errors.md repeats; a test compares them.
var codes = []CodeInfo{
	{CodeKSNReplayed, http.StatusConflict, "the KSN was used before, for other content",
		"do not answer the terminal: the message is a replay, or the terminal was rolled back or cloned; have it sign in"},
	{CodeKSNSpent, http.StatusConflict, "the KSN was used before and its claim is closed",
		"pass the ack on: the terminal moves the message to its exception list"},
	{CodeKSNTooOld, http.StatusConflict, "the counter of the KSN is at or below the floor",
		"pass the ack on: the terminal moves the message to its exception list and continues above the floor"},
	{CodeKSNFenced, http.StatusConflict, "the counter of the KSN is inside a fence that followed a restore",
		"pass the ack on: the terminal moves the message to its exception list and goes on beyond the fence; enter the sale again"},
	{CodeKSNOutOfWindow, http.StatusConflict, "the counter of the KSN is further ahead than the key set allows",
		"have the terminal sign in; rekey it when its counter really is that far"},
	{CodeTreatmentDiffers, http.StatusConflict, "the same content was released before in another way",
		"ask with the same outgoing PIN key and format as the first time"},
	{CodeResendCapReached, http.StatusTooManyRequests, "the message was answered as often as a resend is allowed",
		"stop resending; look up the recorded answer in your own ledger"},
	{CodeReversed, http.StatusConflict, "the message was reversed before it arrived",
		"pass the ack on: nothing is released for a reversed message"},

	{CodeMessageMalformed, http.StatusBadRequest, "the message is not one of this protocol",
		"send the bytes as the terminal sent them; compare with docs/protocol.md"},
	{CodeMACInvalid, http.StatusUnprocessableEntity, "the MAC of the message does not verify",
		"send the bytes as the terminal sent them; if they are, check that its slot holds the initial key that was registered"},
	{CodeMACNotPermitted, http.StatusForbidden, "the MAC is not of the algorithm and length of its key set",
		"configure the terminal from its bundle"},
	{CodePINBlockInvalid, http.StatusUnprocessableEntity, "the PIN block does not verify",
		"have the card holder enter the PIN again; check that PIN and card data belong together"},
	{CodePurposeNotPermitted, http.StatusForbidden, "the key set does not serve the purpose of a field",
		"send PIN blocks under a PIN slot and card data under a data slot"},
	{CodePathNotPermitted, http.StatusForbidden, "the key set is not for this kind of call",
		"use the kind of call that the key set names"},
	{CodeTenantMismatch, http.StatusForbidden, "the message is of another tenant than the caller",
		"send it to the service of its tenant"},
	{CodeEnvironmentMismatch, http.StatusForbidden, "test and production meet in one message",
		"check the environment of the terminal, of its key sets and of their base keys"},
	{CodeTerminalUnknown, http.StatusNotFound, "the terminal is not registered",
		"register it: latchkey terminal register"},
	{CodeTerminalNotActive, http.StatusForbidden, "the terminal is not active yet",
		"have it sign in first"},
	{CodeTerminalRevoked, http.StatusForbidden, "the terminal is compromised, revoked or retired",
		"take it out of service; nothing of it is answered any more"},
	{CodeSlotUnknown, http.StatusForbidden, "the terminal has no such key slot",
		"register the terminal again with the slots that it uses"},
	{CodeSlotNotActive, http.StatusForbidden, "the key slot is pending or retired",
		"have the terminal sign in to confirm the slot"},
	{CodeKeyIDMismatch, http.StatusForbidden, "the KSN is not of the key in that slot",
		"check that the terminal uses the initial key that was registered for it"},
	{CodeKeySetUnknown, http.StatusForbidden, "the key set of the slot is not known here or does not hold its key",
		"create or distribute the key set: latchkey keyset list"},
	{CodeKeySetRetired, http.StatusForbidden, "the key set is retired",
		"give the terminal a key of a set that is in use"},

	{CodeTerminalBlocked, http.StatusOK, "the terminal is blocked: the message is answered HELD",
		"pass the ack on; the terminal keeps the message until it is unblocked"},
	{CodeTerminalQuarantined, http.StatusOK, "the terminal is quarantined: the message is answered HELD",
		"pass the ack on; find out whether the terminal was cloned before releasing it"},
	{CodeDrainGrantSpent, http.StatusOK, "the drain grant of the blocked terminal is used up: the message is answered HELD",
		"pass the ack on; the terminal keeps the message until two persons grant more, or it is unblocked"},
	{CodeKeySetBlocked, http.StatusOK, "a key set of the message is blocked: the message is answered HELD",
		"pass the ack on; the terminal keeps the message until the set is active again"},

	{CodeRoleNotPermitted, http.StatusForbidden, "the caller does not have a role that may do this",
		"use a certificate of role acquirer-host that this service lists among its callers"},
	{CodeRequestMalformed, http.StatusBadRequest, "the request is not the JSON that is wanted here",
		"compare the members with the documentation: unknown, duplicate, wrong-case and null members are refused"},
	{CodeBodyTooLarge, http.StatusRequestEntityTooLarge, "the body is too large",
		"send one message in one request"},
	{CodeBodyUnreadable, http.StatusBadRequest, "the body broke off or came too slowly",
		"send the request again"},
	{CodeMediaTypeNotSupported, http.StatusUnsupportedMediaType, "the body is not of the content type that is wanted here",
		"set the content type that the documentation names"},
	{CodeNotFound, http.StatusNotFound, "no such endpoint",
		"compare the path with the documentation; a path has no trailing slash"},
	{CodeMethodNotAllowed, http.StatusMethodNotAllowed, "this endpoint takes another method",
		"use the method that the Allow header names"},
	{CodeKeyIdentifierInvalid, http.StatusBadRequest, "that cannot be the name of a key",
		"write alias/ and 1 to 64 of A-Z a-z 0-9 / _ -, or the 26 characters of a key id"},
	{CodeKeyNotFound, http.StatusNotFound, "there is no such key",
		"look at the names: latchkey key list"},
	{CodePINKeyNotPermitted, http.StatusForbidden, "that PIN key may not be used by this caller for this key set",
		"name a key that stands on the list of the key set and on that of the caller"},
	{CodeTranslationNotPermitted, http.StatusForbidden, "a PIN must not be moved that way (PCI PIN, requirement 3-3)",
		"ask for another PIN block format or zone key"},
	{CodeRequestUnknown, http.StatusNotFound, "no message with that digest was released here",
		"post the message to /transactions first and use the RequestDigest of the answer"},
	{CodeAnswerMalformed, http.StatusBadRequest, "the answer cannot be given to a terminal",
		"send APPROVED or DECLINED and a body within the limit"},
	{CodeAnswerConflict, http.StatusConflict, "another answer was recorded for the message before",
		"keep to the recorded answer: post the message again to see it"},
	{CodeNotSupported, http.StatusBadRequest, "the service does not do that",
		"look at what it does: docs/aws.md"},
	{CodeDirectionNotPermitted, http.StatusForbidden, "the host reads what terminals send and makes what terminals read",
		"ask for REQUEST or BIDIRECTIONAL to decrypt and verify, and for RESPONSE to encrypt and to make a MAC"},

	{CodeKeyNotPermitted, http.StatusForbidden, "that key may not be used for this, or not by this caller",
		"have the key and the operation put on the caller's list, and look at the usage and the mode of the key: latchkey key list"},
	{CodeKeyBlockInvalid, http.StatusBadRequest, "the key block cannot be used under that key",
		"wrap the key again, in version B or D, under the key that is named; latchkey keyblock inspect shows its header"},
	{CodeRateLimited, http.StatusTooManyRequests, "that was asked too often",
		"wait as long as Retry-After says; docs/deployment.md has the limits and where they are set"},

	{CodeOverloaded, http.StatusServiceUnavailable, "too much work waits, so this was not begun",
		"send it again after the time of Retry-After; nothing was claimed"},
	{CodeRegistryStale, http.StatusServiceUnavailable, "what the registration authority said last is too old to go by, so nothing is released",
		"try again later; look at /readyz and at the connection from this service to the registration authority"},
	{CodeRegistryUnavailable, http.StatusServiceUnavailable, "the sign-in proved a new key and the registration authority could not be told",
		"have the terminal sign in again with the same bytes; look at the log of the service"},
	{CodeStoreUnavailable, http.StatusServiceUnavailable, "the claims cannot be stored now, so nothing is released",
		"try again later; look at /readyz and the log of the service"},
	{CodeStoreFull, http.StatusInsufficientStorage, "there is no room to store claims, so nothing is released",
		"free space on the disk of the database; no restart is needed"},
	{CodeStoreDamaged, http.StatusServiceUnavailable, "the store of claims is damaged, so nothing is released",
		"stop the service, keep the files and restore from a backup that the audit checkpoint confirms"},
	{CodeEngineUnavailable, http.StatusServiceUnavailable, "the keys cannot be used now, so nothing is released",
		"try again later; look at /readyz and the log of the service"},
	{CodeInternal, http.StatusInternalServerError, "the service failed",
		"look at the log of the service"},
}

// Codes returns every code, sorted.
func Codes() []CodeInfo {
	return slices.SortedFunc(slices.Values(codes), func(a, b CodeInfo) int { return cmp.Compare(a.Code, b.Code) })
}

// Info returns what a code means, and false for a text that is no code.
func (c Code) Info() (CodeInfo, bool) {
	i := slices.IndexFunc(codes, func(row CodeInfo) bool { return row.Code == c })
	if i < 0 {
		return CodeInfo{}, false
	}
	return codes[i], true
}

// Refusal is the error of everything that is not done. Nothing was released and no claim was changed, but those of a sign-in
// that ends with CodeRegistryUnavailable: it may come again.
type Refusal struct {
	Code       Code
	Detail     string        // public values only; may be empty
	RetryAfter time.Duration // of CodeRateLimited: how long to wait

	again bool // like the one before: it has been recorded, and a flood of them is not to fill the log
}

// Error returns the code, its meaning and the detail.
func (r *Refusal) Error() string {
	info, ok := r.Code.Info()
	text := "decrypt: " + string(r.Code)
	if ok {
		text += ": " + info.Meaning
	}
	if r.Detail != "" {
		text += ": " + r.Detail
	}
	return text
}

// Unavailable reports whether the same request may succeed later without anyone changing it: the service failed, not the
// request.
func (r *Refusal) Unavailable() bool {
	info, ok := r.Code.Info()
	return !ok || info.HTTPStatus >= http.StatusInternalServerError
}
