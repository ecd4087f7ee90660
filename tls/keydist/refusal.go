package keydist

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"time"
)

// ErrNoKeyID is what a refusal with CodeNoKeyID is: every key id of the set was given out.
var ErrNoKeyID = errors.New("keydist: the key set has no key id left")

// Code names a reason for refusing, stable across releases. docs/errors.md lists every one.
type Code string

// What is wrong with an order.
const (
	CodeRoleNotPermitted            Code = "RoleNotPermitted"
	CodeOrderMalformed              Code = "OrderMalformed"
	CodeTenantMismatch              Code = "TenantMismatch"
	CodeEnvironmentMismatch         Code = "EnvironmentMismatch"
	CodeTLSCertificateInvalid       Code = "TlsCertificateInvalid"
	CodeAgreementCertificateInvalid Code = "AgreementCertificateInvalid"
	CodeSigningRequestRefused       Code = "SigningRequestRefused"
	CodeKeySetUnknown               Code = "KeySetUnknown"
	CodeKeySetNotActive             Code = "KeySetNotActive"
	CodeCurveMismatch               Code = "CurveMismatch"
	CodeDeliveryNotPermitted        Code = "DeliveryNotPermitted"
	CodeAttestationInvalid          Code = "AttestationInvalid"
	CodeAttestationNotListed        Code = "AttestationNotListed"
	CodeNoKeyID                     Code = "NoKeyId"
	CodeKeySetStopped               Code = "KeySetStopped"
	CodeTooManyPending              Code = "TooManyPending"
	CodeKeyIDUnknown                Code = "KeyIdUnknown"
	CodeKeyIDMismatch               Code = "KeyIdMismatch"
	CodeKeyIDGivenOut               Code = "KeyIdGivenOut"
	CodeSettlementConflict          Code = "SettlementConflict"
)

// What is wrong with this host.
const (
	CodeStoreUnavailable  Code = "StoreUnavailable"
	CodeStoreFull         Code = "StoreFull"
	CodeStoreDamaged      Code = "StoreDamaged"
	CodeKeysUnavailable   Code = "KeysUnavailable"
	CodeIssuerUnavailable Code = "IssuerUnavailable"
)

// CodeInfo says what a code means and what to do about it.
type CodeInfo struct {
	Code       Code
	HTTPStatus int    // status of the answer that carries it
	Meaning    string // one clause, for the message of an answer
	Hint       string // the next step of whoever runs the caller
}

var codes = []CodeInfo{
	{CodeRoleNotPermitted, http.StatusForbidden, "the caller does not have a role that may do this",
		"use the certificate of the registration authority of this tenant"},
	{CodeOrderMalformed, http.StatusBadRequest, "the order is not the CBOR that is wanted here",
		"run the registration authority and the key-distribution host of one release"},
	{CodeTenantMismatch, http.StatusForbidden, "the order is of another tenant",
		"send it to the key-distribution host of its tenant"},
	{CodeEnvironmentMismatch, http.StatusForbidden, "the key set is of another environment than this host",
		"assign a key set of the environment that the host serves"},
	{CodeTLSCertificateInvalid, http.StatusForbidden, "the TLS certificate is not a valid one of this terminal",
		"have the terminal enrol or renew; compare the roots of the terminals authority on both hosts"},
	{CodeAgreementCertificateInvalid, http.StatusForbidden, "the agreement certificate is not a valid one of this terminal",
		"have the terminal enrol its agreement key again"},
	{CodeSigningRequestRefused, http.StatusBadRequest, "the certificate signing request of the agreement key is refused",
		"make the request for the terminal's own name, signed by the agreement key, on P-256, P-384 or P-521"},
	{CodeKeySetUnknown, http.StatusNotFound, "the key set is not known here",
		"create or distribute the key set: latchkey keyset list"},
	{CodeKeySetNotActive, http.StatusConflict, "the key set is blocked or retired",
		"assign a key set that is active"},
	{CodeCurveMismatch, http.StatusConflict, "the agreement key is on another curve than keys of the set need",
		"have the terminal enrol an agreement key on the curve that the message names"},
	{CodeDeliveryNotPermitted, http.StatusForbidden, "keys of the set are not delivered that way",
		"deliver keys of production sets to attested agreement keys; keys of sets with delivery none come from elsewhere"},
	{CodeAttestationInvalid, http.StatusForbidden, "the agreement key is not certified by a maker that this host trusts",
		"have the terminal send the maker's certificate chain of its agreement key; look at the makers of the host: latchkey attested show"},
	{CodeAttestationNotListed, http.StatusForbidden, "the maker's certificate of the agreement key is not on the list of this host",
		"have two people put the device on the list: latchkey attested sign"},
	{CodeNoKeyID, http.StatusConflict, "the key set has no key id left",
		"create a key set with another range and assign it"},
	{CodeKeySetStopped, http.StatusConflict, "no key of the key set is delivered any more",
		"assign another key set: look at latchkey key compromise"},
	{CodeTooManyPending, http.StatusTooManyRequests, "too many keys of this slot wait for the terminal to confirm them",
		"wait as long as Retry-After says; find out why the terminal confirms none"},
	{CodeKeyIDUnknown, http.StatusNotFound, "this host gave out no such key id",
		"compare the databases of registration authority and key-distribution host: was one restored?"},
	{CodeKeyIDMismatch, http.StatusConflict, "the key id is that of another terminal, slot or key set",
		"compare the databases of registration authority and key-distribution host: was one restored?"},
	{CodeKeyIDGivenOut, http.StatusConflict, "this host gave the key id out itself",
		"find out which terminal has it: latchkey terminal list; a key that was injected elsewhere has another id"},
	{CodeSettlementConflict, http.StatusConflict, "the key id is retired and cannot be confirmed any more",
		"have the terminal fetch a new key"},

	{CodeStoreUnavailable, http.StatusServiceUnavailable, "key ids cannot be recorded now, so none is given out",
		"try again later; look at /readyz and the log of the host"},
	{CodeStoreFull, http.StatusInsufficientStorage, "there is no room to record key ids, so none is given out",
		"free space on the disk of the database; no restart is needed"},
	{CodeStoreDamaged, http.StatusServiceUnavailable, "the record of key ids is damaged, so none is given out",
		"stop the host, keep the files and restore from a backup that the audit checkpoint confirms"},
	{CodeKeysUnavailable, http.StatusServiceUnavailable, "the keys cannot be used now, so nothing is delivered",
		"try again later; look at /readyz and the log of the host"},
	{CodeIssuerUnavailable, http.StatusServiceUnavailable, "the issuer cannot be used now, so nothing is certified",
		"try again later; look at /readyz and the log of the host"},
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

// Refusal is the error of everything that is not done. Nothing was delivered, certified or settled; a key id may have been
// used up.
type Refusal struct {
	Code   Code
	Detail string // public values only; may be empty
}

// Error returns the code, its meaning and the detail.
func (r *Refusal) Error() string {
	info, ok := r.Code.Info()
	text := "keydist: " + string(r.Code)
	if ok {
		text += ": " + info.Meaning
	}
	if r.Detail != "" {
		text += ": " + r.Detail
	}
	return text
}

// Is reports whether target is ErrNoKeyID and so is the refusal.
func (r *Refusal) Is(target error) bool { return target == ErrNoKeyID && r.Code == CodeNoKeyID }

// Unavailable reports whether the same order may succeed later without anyone changing it: the host failed and not the
// order, or the order came too early.
func (r *Refusal) Unavailable() bool {
	info, ok := r.Code.Info()
	return !ok || info.HTTPStatus >= http.StatusInternalServerError || info.HTTPStatus == http.StatusTooManyRequests
}

// RetryAfter returns how long the same order has to wait: PendingPause when too many keys wait, and otherwise zero, which
// says nothing.
func (r *Refusal) RetryAfter() time.Duration {
	if r.Code == CodeTooManyPending {
		return PendingPause
	}
	return 0
}

func refuse(code Code, detail string) *Refusal { return &Refusal{Code: code, Detail: detail} }
