package planted

// Name names one deliberate fault.
type Name string

// The guards of the demonstration, each of which a step of `latchkey demo` must miss when it is off.
const (
	// GuardClaim answers a second content of one KSN as if it were fresh.
	GuardClaim Name = "guard.claim"
	// GuardMACFirst lets a message through whose MAC does not verify.
	GuardMACFirst Name = "guard.mac-first"
	// GuardFormat4PAN skips the PAN check of a format 4 PIN block.
	GuardFormat4PAN Name = "guard.format4-pan"
	// GuardPurpose lets a field be opened for a purpose its key set does not have.
	GuardPurpose Name = "guard.purpose"
	// GuardBlocked answers terminals whose key set is blocked.
	GuardBlocked Name = "guard.blocked"
	// GuardCodeBinding lets a spent one-time code enrol another key.
	GuardCodeBinding Name = "guard.code-binding"
	// GuardKDHSignature lets a delivery be installed whose signature does not verify.
	GuardKDHSignature Name = "guard.kdh-signature"
	// GuardTrustList lets a terminal trust a list that a stranger has signed.
	GuardTrustList Name = "guard.trust-list"
	// GuardFeedGate admits whom the registry feed has revoked.
	GuardFeedGate Name = "guard.feed-gate"
)

// Faults of the host and of parsers.
const (
	// ClaimAfterAnswer answers before the claim is durable.
	ClaimAfterAnswer Name = "bug.claim-after-answer"
	// ClaimUnchecked judges claims by what a service has seen last, locks nothing, and takes a claim that is there for its own.
	ClaimUnchecked Name = "bug.claim-unchecked"
	// StandbyUnconfirmed takes a commit for durable that the standby did not confirm.
	StandbyUnconfirmed Name = "bug.standby-unconfirmed"
	// LagUnnoticed takes a standby for what it was promoted from, although nobody waited for it.
	LagUnnoticed Name = "bug.lag-unnoticed"
	// RestoreJournal leaves the write-ahead log of the database before beside the one that takes its place.
	RestoreJournal Name = "bug.restore-journal"
	// RewrapEarly makes a local master key the one of its ring before every key is wrapped under it.
	RewrapEarly Name = "bug.rewrap-early"
	// ClibOverrun writes a result into the buffer of a C caller although it does not fit.
	ClibOverrun Name = "bug.clib-overrun"
	// ParseKSN accepts a counter that no terminal can reach.
	ParseKSN Name = "bug.parse-ksn"
	// ParseKeyBlock trusts the declared length of a key.
	ParseKeyBlock Name = "bug.parse-keyblock"
	// ParsePINBlock skips the fill check.
	ParsePINBlock Name = "bug.parse-pinblock"
	// ParseMessage accepts trailing bytes.
	ParseMessage Name = "bug.parse-message"
	// ParseJSON accepts unknown members.
	ParseJSON Name = "bug.parse-json"
	// ParseEST accepts what follows the certificates of an EST body.
	ParseEST Name = "bug.parse-est"
	// ParseStatus accepts a question about a serial number that no certificate has.
	ParseStatus Name = "bug.parse-status"
	// ParseCSR accepts a certificate signing request that asks for another name.
	ParseCSR Name = "bug.parse-csr"
	// ParseDelivery accepts a delivery with a key id outside of its key set.
	ParseDelivery Name = "bug.parse-delivery"
	// ParseFeed accepts a feed record that does not follow the one before.
	ParseFeed Name = "bug.parse-feed"
	// ImportUnfloored answers what another host may have answered before a key came here.
	ImportUnfloored Name = "bug.import-unfloored"
	// FleetCodeDrawn gives a terminal of a list another code when its part is sent again.
	FleetCodeDrawn Name = "bug.fleet-code-drawn"
	// CodeReservedLate reserves a one-time code only after the certificate has been issued and answered.
	CodeReservedLate Name = "bug.code-reserved-late"
	// OrphansForgotten leaves no trace of a certificate that is about to be issued, so that nobody looks for it after a crash.
	OrphansForgotten Name = "bug.orphans-forgotten"
	// SettleLate keeps a certificate some time after the issuer has signed it, so that a kill comes between.
	SettleLate Name = "bug.settle-late"
	// SkipWipe leaves every secret in memory that was to be wiped.
	SkipWipe Name = "bug.skip-wipe"
	// TokenErrorIgnored takes what a cipher in a token gave for an answer although the token failed.
	TokenErrorIgnored Name = "bug.token-error-ignored"

	// CoreAllowed leaves core files and tracing of a daemon permitted.
	CoreAllowed Name = "bug.core-allowed"
	// PINsUnlimited translates blocks under keys of fixed value as often as it is asked to.
	PINsUnlimited Name = "bug.pins-unlimited"
	// CallsUnwatched lets a call into a PKCS#11 module hang for ever.
	CallsUnwatched Name = "bug.calls-unwatched"
	// ModuleReopened has a PKCS#11 module opened once more in which a call does not return.
	ModuleReopened Name = "bug.module-reopened"
	// KeyIDAllocatedLate makes the allocation of a key id durable only after its key has been delivered.
	KeyIDAllocatedLate Name = "bug.key-id-allocated-late"
	// CeremonySamePerson takes one custodian for two.
	CeremonySamePerson Name = "bug.ceremony-same-person"
	// CeremonyCheckValue takes a component, and a key of components, with another check value than was approved.
	CeremonyCheckValue Name = "bug.ceremony-check-value"
	// VaultUnchecked hands out what Vault has signed, whatever it is.
	VaultUnchecked Name = "bug.vault-unchecked"
	// VaultUnseated has as many calls with Vault at once as there are callers.
	VaultUnseated Name = "bug.vault-unseated"
	// VaultRelentless asks a Vault that has failed again and again.
	VaultRelentless Name = "bug.vault-relentless"
	// RenewTogether has terminals renew at the end of their window, and come again after equal pauses.
	RenewTogether Name = "bug.renew-together"
	// RetryAfterIgnored has terminals come again before the authority said.
	RetryAfterIgnored Name = "bug.retry-after-ignored"
)

// Faults of the state that a terminal keeps.
const (
	// StateNoSync takes what was written for durable.
	StateNoSync Name = "bug.state-no-sync"
	// StateNoSyncDir takes a new name for durable.
	StateNoSyncDir Name = "bug.state-no-sync-dir"
	// StateUseFirst hands keys out before the registers that follow them are saved.
	StateUseFirst Name = "bug.state-use-first"
	// StateTwoCopies leaves the third copy of a content as it was.
	StateTwoCopies Name = "bug.state-two-copies"
	// StateAlternate writes the new content beside the old one, in turn.
	StateAlternate Name = "bug.state-alternate"
	// StateGhost calls a sale off whose message may be on the medium.
	StateGhost Name = "bug.state-ghost"
)

// Faults of the link and of the queue of a terminal.
const (
	// LinkNoDeadline waits for an answer as long as the connection stands.
	LinkNoDeadline Name = "bug.link-no-deadline"
	// QueueUnsaved calls a sale without the host made before it is saved.
	QueueUnsaved Name = "bug.queue-unsaved"
	// QueueForgetFirst forgets a message when it is sent, and not when it is answered.
	QueueForgetFirst Name = "bug.queue-forget-first"
	// QueueRemade makes a sale anew to send it again.
	QueueRemade Name = "bug.queue-remade"
)
