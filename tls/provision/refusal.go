package provision

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// Code names a reason for refusing, stable across releases. docs/errors.md lists every one.
type Code string

// What is wrong with an enrolment.
const (
	CodeCredentialsRequired   Code = "CredentialsRequired"
	CodeCredentialsRefused    Code = "CredentialsRefused"
	CodeOneTimeCodeSpent      Code = "CodeSpent"
	CodeOneTimeCodeExpired    Code = "CodeExpired"
	CodeOneTimeCodeVoid       Code = "CodeVoid"
	CodeSigningRequestRefused Code = "SigningRequestRefused"
	CodeTooManyAttempts       Code = "TooManyAttempts"
	CodeIssuanceCapReached    Code = "IssuanceCapReached"
)

// What is wrong with a call of an enrolled terminal.
const (
	CodeCertificateRequired   Code = "CertificateRequired"
	CodeCertificateSuperseded Code = "CertificateSuperseded"
	CodeCertificateUnknown    Code = "CertificateUnknown"
	CodeStatusNotPermitted    Code = "StatusNotPermitted"
	CodeAgreementNotPermitted Code = "AgreementNotPermitted"
	CodeAgreementMissing      Code = "AgreementMissing"
	CodeSlotUnknown           Code = "SlotUnknown"
	CodeSlotNotWanted         Code = "SlotNotWanted"
	CodeRequestMalformed      Code = "RequestMalformed"
	CodeMediaTypeNotSupported Code = "MediaTypeNotSupported"
	CodeBodyTooLarge          Code = "BodyTooLarge"
	CodeBodyUnreadable        Code = "BodyUnreadable"
	CodeChannelUnbound        Code = "ChannelUnbound"
	CodeDistributorRefused    Code = "KeyDistributionRefused"
)

// What is wrong with an operation.
const (
	CodeRoleNotPermitted     Code = "RoleNotPermitted"
	CodeTenantMismatch       Code = "TenantMismatch"
	CodeOperationMalformed   Code = "OperationMalformed"
	CodeTerminalUnknown      Code = "TerminalUnknown"
	CodeTerminalExists       Code = "TerminalExists"
	CodeStatusUnchanged      Code = "StatusUnchanged"
	CodeKeySetUnknown        Code = "KeySetUnknown"
	CodeKeySetNotPermitted   Code = "KeySetNotPermitted"
	CodeKeyUnknown           Code = "KeyUnknown"
	CodeKeyIDForeign         Code = "KeyIdForeign"
	CodeKeyIDTaken           Code = "KeyIdTaken"
	CodeCounterLower         Code = "CounterLower"
	CodeApprovalUnknown      Code = "ApprovalUnknown"
	CodeApprovalSettled      Code = "ApprovalSettled"
	CodeApprovalSelf         Code = "ApprovalSelf"
	CodeApprovalWaits        Code = "ApprovalWaits"
	CodeCampaignExists       Code = "CampaignExists"
	CodeObservationRefused   Code = "ObservationRefused"
	CodeTrustListUnavailable Code = "TrustListUnavailable"
)

// What is wrong with this service.
const (
	CodeOverloaded             Code = "Overloaded"
	CodeIssuerUnavailable      Code = "IssuerUnavailable"
	CodeDistributorUnavailable Code = "KeyDistributionUnavailable"
	CodeStoreUnavailable       Code = "StoreUnavailable"
	CodeStoreFull              Code = "StoreFull"
	CodeStoreDamaged           Code = "StoreDamaged"
	CodeInternal               Code = "InternalError"
)

// CodeInfo says what a code means and what to do about it.
type CodeInfo struct {
	Code       Code
	HTTPStatus int    // status of the answer that carries it
	Meaning    string // one clause, for the message of an answer
	Hint       string // the next step of the caller
}

var codes = []CodeInfo{
	{CodeCredentialsRequired, http.StatusUnauthorized, "a terminal enrols with its id and a one-time code",
		"send both as user and password of HTTP Basic; to renew a certificate, connect with it and call simplereenroll"},
	{CodeCredentialsRefused, http.StatusUnauthorized, "terminal id and one-time code do not belong together",
		"compare both with the slip; after five wrong codes ask an operator for a new one: latchkey terminal code"},
	{CodeOneTimeCodeSpent, http.StatusConflict, "the one-time code has been used",
		"if this terminal has not enrolled, somebody else has: tell an operator, who revokes the terminal or makes a new code"},
	{CodeOneTimeCodeExpired, http.StatusForbidden, "the one-time code has expired",
		"ask an operator for a new one: latchkey terminal code"},
	{CodeOneTimeCodeVoid, http.StatusForbidden, "the one-time code is void",
		"ask an operator for a new one: latchkey terminal code"},
	{CodeSigningRequestRefused, http.StatusBadRequest, "the certificate signing request is refused",
		"make a PKCS #10 request for the terminal's own name with a key on P-256, P-384 or P-521, and nothing else in it"},
	{CodeTooManyAttempts, http.StatusTooManyRequests, "too many attempts to enrol or renew",
		"wait as long as Retry-After says"},
	{CodeIssuanceCapReached, http.StatusTooManyRequests, "the terminal has been given as many certificates as a day allows",
		"find out why it asks for so many; try again tomorrow"},

	{CodeCertificateRequired, http.StatusForbidden, "this is for terminals that have enrolled",
		"connect with the certificate of the terminal"},
	{CodeCertificateSuperseded, http.StatusForbidden, "the certificate has been renewed",
		"connect with the newest certificate; if it was lost, repeat the renewal with the same key or ask an operator for a code"},
	{CodeCertificateUnknown, http.StatusForbidden, "the certificate is not the current one of this terminal",
		"connect with the newest certificate, or ask an operator for a code: latchkey terminal code"},
	{CodeStatusNotPermitted, http.StatusForbidden, "the status of the terminal does not permit it",
		"ask an operator: latchkey terminal show"},
	{CodeAgreementNotPermitted, http.StatusForbidden, "no agreement key can be enrolled now",
		"enrol it within 15 minutes of the enrolment, once for each code; later renew it with the same key"},
	{CodeAgreementMissing, http.StatusConflict, "the terminal has no certificate for an agreement key",
		"enrol one first at the label agreement"},
	{CodeSlotUnknown, http.StatusNotFound, "no such slot is assigned to the terminal",
		"look at /enrolment for the slots of this terminal"},
	{CodeSlotNotWanted, http.StatusConflict, "the slot has its key",
		"have an operator ask for a new one: latchkey terminal rekey"},
	{CodeRequestMalformed, http.StatusBadRequest, "the request is not what is wanted here",
		"compare it with docs/protocol.md"},
	{CodeMediaTypeNotSupported, http.StatusUnsupportedMediaType, "the body is not of the content type that is wanted here",
		"set the content type that docs/protocol.md names"},
	{CodeBodyTooLarge, http.StatusRequestEntityTooLarge, "the body is too large",
		"send one request; nothing that is wanted here is so long"},
	{CodeBodyUnreadable, http.StatusBadRequest, "the body broke off or came too slowly",
		"send the request again"},
	{CodeChannelUnbound, http.StatusForbidden, "the connection gives no channel binding",
		"connect with TLS 1.3, without anything in between that ends TLS"},
	{CodeDistributorRefused, http.StatusConflict, "the key-distribution host refuses it",
		"look at the message and at the log of the key-distribution host"},

	{CodeRoleNotPermitted, http.StatusForbidden, "the caller does not have a role that may do this",
		"use the certificate of an operator; auditors read; services follow the feed"},
	{CodeTenantMismatch, http.StatusForbidden, "the caller is of another tenant",
		"call the registration authority of your tenant"},
	{CodeOperationMalformed, http.StatusBadRequest, "the operation lacks something or has too much",
		"read the message; latchkey terminal --help shows what each operation needs"},
	{CodeTerminalUnknown, http.StatusNotFound, "the terminal is not registered",
		"look at the names: latchkey terminal list"},
	{CodeTerminalExists, http.StatusConflict, "a terminal of that id is registered, or was",
		"choose another id: the id of a terminal is never used again"},
	{CodeStatusUnchanged, http.StatusConflict, "the terminal is in that status already",
		"nothing is to be done"},
	{CodeKeySetUnknown, http.StatusNotFound, "the key set is not known here",
		"look at the names: latchkey keyset list"},
	{CodeKeySetNotPermitted, http.StatusConflict, "the key set cannot be assigned",
		"assign an active set of this environment whose delivery is attested or code"},
	{CodeKeyUnknown, http.StatusNotFound, "the terminal has no such key in that slot",
		"look at its slots: latchkey terminal show"},
	{CodeKeyIDForeign, http.StatusConflict, "the key id is not one of the key set",
		"compare it with the range of the set: latchkey keyset show"},
	{CodeKeyIDTaken, http.StatusConflict, "the key id is in use, or was",
		"find out which terminal has it: latchkey terminal list --key-set; a key id is of one terminal, for ever"},
	{CodeCounterLower, http.StatusConflict, "a higher counter was imported for the key before",
		"find out which one is right; a floor never goes down, so leave the line out if it is the higher one"},
	{CodeApprovalUnknown, http.StatusNotFound, "no operation of that id waits for approval",
		"look at what waits: latchkey approve --list"},
	{CodeApprovalSettled, http.StatusConflict, "the operation has been approved before, has waited too long, or the status of the terminal has changed since",
		"ask for it again if it is still wanted"},
	{CodeApprovalSelf, http.StatusForbidden, "nobody approves an operation of their own in production",
		"have another operator approve it"},
	{CodeApprovalWaits, http.StatusConflict, "nobody else has approved the operation yet",
		"have another operator approve it: latchkey approve"},
	{CodeCampaignExists, http.StatusConflict, "the key set is known to be compromised",
		"see how far its terminals are: latchkey key compromise"},
	{CodeObservationRefused, http.StatusConflict, "an observation contradicts the registry",
		"look at the audit log of the registration authority: was one of the databases restored?"},
	{CodeTrustListUnavailable, http.StatusServiceUnavailable, "there is no trust list to hand out",
		"look at trust-list in the configuration of the registration authority"},

	{CodeOverloaded, http.StatusServiceUnavailable, "too many terminals at once",
		"wait as long as Retry-After says"},
	{CodeIssuerUnavailable, http.StatusServiceUnavailable, "the issuer cannot be used now, so nothing is certified",
		"send the same request again later"},
	{CodeDistributorUnavailable, http.StatusServiceUnavailable, "the key-distribution host cannot be used now",
		"send the same request again later"},
	{CodeStoreUnavailable, http.StatusServiceUnavailable, "the registry cannot be used now, so nothing was changed",
		"try again later; look at /readyz and the log of the service"},
	{CodeStoreFull, http.StatusInsufficientStorage, "there is no room to change the registry, so nothing was changed",
		"free space on the disk of the database; no restart is needed"},
	{CodeStoreDamaged, http.StatusServiceUnavailable, "the registry is damaged, so nothing was changed",
		"stop the service, keep the files and restore from a backup that the audit checkpoint confirms"},
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

// Refusal is the error of everything that is not done.
type Refusal struct {
	Code       Code
	Detail     string        // public values only; may be empty
	RetryAfter time.Duration // when it may be tried again; zero says nothing
	Cause      error         // for the log, never for a peer; may be nil
}

// Error returns the code, its meaning and the detail, and not the cause.
func (r *Refusal) Error() string {
	info, ok := r.Code.Info()
	text := "provision: " + string(r.Code)
	if ok {
		text += ": " + info.Meaning
	}
	if r.Detail != "" {
		text += ": " + r.Detail
	}
	return text
}

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Cause }

// Unavailable reports whether the same request may succeed later without anyone changing it: the service failed, not the
// request.
func (r *Refusal) Unavailable() bool {
	info, ok := r.Code.Info()
	return !ok || info.HTTPStatus >= http.StatusInternalServerError
}

func refuse(code Code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// codeOf returns the code of a refusal, empty for every other error and for none.
func codeOf(err error) Code {
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return refusal.Code
	}
	return ""
}
