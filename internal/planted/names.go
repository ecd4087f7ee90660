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
)

// Faults of the host and of parsers.
const (
	// ClaimAfterAnswer answers before the claim is durable.
	ClaimAfterAnswer Name = "bug.claim-after-answer"
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
)
