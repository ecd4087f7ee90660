package decrypt

import (
	"fmt"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// Verdict is what became of a claim. The zero value is none.
type Verdict uint8

// The verdicts.
const (
	Fresh   Verdict = iota + 1 // never released before: release it
	Resend                     // this very content was released before, in this way: release the same again
	Refused                    // release nothing; Ruling.Code says why
)

// String returns "FRESH", "RESEND" or "REFUSED".
func (v Verdict) String() string {
	switch v {
	case Fresh:
		return "FRESH"
	case Resend:
		return "RESEND"
	case Refused:
		return "REFUSED"
	}
	return fmt.Sprintf("decrypt.Verdict(%d)", uint8(v))
}

// Ruling is a verdict and what it changes.
type Ruling struct {
	Verdict Verdict
	Code    Code // why it was refused; empty otherwise
	// State and Row are what to store. When the verdict is Refused, Row is the row as it was, and State differs from the
	// state as it was in Conflicts and Evidence only.
	State KeyIDState
	Row   []Entry
	Entry int // index in Row of the content that was claimed; -1 when refused
}

// Judge decides one claim against the counter state and the row that it falls into. It is pure: neither argument is
// changed, FirstSeen of a new entry is left to the caller. The order is that of docs/protocol.md, section 5:
//
//  1. the message was reversed: CodeReversed;
//  2. the row is older than the horizon: CodeKSNSpent. It is as old as its oldest content;
//  3. this content and treatment was released: Resend, up to TriesCap times, then CodeResendCapReached;
//  4. the counter is spent: CodeKSNSpent;
//  5. this content was released with another treatment: CodeTreatmentDiffers, which is no evidence of anything;
//  6. another content and no room for one more: CodeKSNReplayed, counted as a conflict, and as evidence of a clone or a
//     roll-back when both contents are authenticated;
//  7. at or below the floor, which is that of the claim or of the counter, whichever is higher: CodeKSNFenced inside a fence, else CodeKSNTooOld. This holds for a further content of a row
//     too: below the floor nothing new is ever released;
//  8. more than J above the highest authenticated counter or the floor: CodeKSNOutOfWindow;
//  9. else Fresh.
//
// A sign-in releases nothing, so 2, 4 and 7 do not apply to it. W and J apply to windowed claims only. The highest counter
// moves with authenticated, windowed claims that are not refused, and pulls the floor W behind itself.
func Judge(state KeyIDState, row []Entry, c Claim) Ruling {
	at := slices.IndexFunc(row, func(e Entry) bool { return !e.Tombstone() && e.Content == c.Content })
	if code := closed(row, at); code != "" {
		return refuseClaim(state, row, code)
	}
	if c.Purpose != PurposeSignIn && expired(row, c.Horizon) {
		return refuseClaim(state, row, CodeKSNSpent)
	}
	if at >= 0 && sameTreatment(row[at].Treatment, c.Treatment) {
		return again(state, row, at, c)
	}
	if c.Purpose != PurposeSignIn && covered(state.Spent, c.KSN.Ordinal()) {
		return refuseClaim(state, row, CodeKSNSpent)
	}
	if at >= 0 {
		return refuseClaim(state, row, CodeTreatmentDiffers)
	}
	if len(row) >= c.MaxContents && !planted.On(planted.GuardClaim) {
		return replayed(state, row, c)
	}
	from := state
	if !planted.On(planted.ImportUnfloored) {
		from = state.Raised(c.KSN.KeyID(), c.Floor, c.Fences)
	}
	if code := outside(from, c); code != "" {
		return refuseClaim(state, row, code)
	}
	return fresh(from, row, c)
}

// closed refuses the content that a reversal closed, and everything where a reversal came before its message.
func closed(row []Entry, at int) Code {
	if at >= 0 && !row[at].ClosedBy.IsZero() {
		return CodeReversed
	}
	if slices.ContainsFunc(row, func(e Entry) bool { return e.Tombstone() }) {
		return CodeReversed
	}
	return ""
}

// expired reports whether a row was first used before the horizon.
func expired(row []Entry, horizon time.Time) bool {
	return slices.ContainsFunc(row, func(e Entry) bool { return e.FirstSeen.Before(horizon) })
}

func again(state KeyIDState, row []Entry, at int, c Claim) Ruling {
	if row[at].Tries >= TriesCap {
		return refuseClaim(state, row, CodeResendCapReached)
	}
	row = slices.Clone(row)
	row[at].Tries++
	return Ruling{Verdict: Resend, State: moved(state, c), Row: row, Entry: at}
}

func replayed(state KeyIDState, row []Entry, c Claim) Ruling {
	state.Conflicts++
	if c.Authenticated && slices.ContainsFunc(row, func(e Entry) bool { return e.Authenticated }) {
		state.Evidence++
	}
	return refuseClaim(state, row, CodeKSNReplayed)
}

func fresh(state KeyIDState, row []Entry, c Claim) Ruling {
	row = append(slices.Clone(row), Entry{
		Content: c.Content, ClaimKeyVersion: c.ClaimKeyVersion, FillKeyVersion: c.FillKeyVersion,
		Treatment: slices.Clone(c.Treatment), Authenticated: c.Authenticated, MACKSN: c.MACKSN,
	})
	return Ruling{Verdict: Fresh, State: moved(state, c), Row: row, Entry: len(row) - 1}
}

func refuseClaim(state KeyIDState, row []Entry, code Code) Ruling {
	return Ruling{Verdict: Refused, Code: code, State: state, Row: row, Entry: -1}
}

// outside refuses counters too far below or above. It counts in 64 bits: high + J may pass 2^32.
func outside(state KeyIDState, c Claim) Code {
	ordinal := c.KSN.Ordinal()
	if ordinal <= state.Floor && c.Purpose != PurposeSignIn && !covered(state.Released, ordinal) {
		if covered(state.Fences, ordinal) {
			return CodeKSNFenced
		}
		return CodeKSNTooOld
	}
	if c.Windowed && uint64(ordinal) > uint64(max(state.High, state.Floor))+uint64(c.J) {
		return CodeKSNOutOfWindow
	}
	return ""
}

// moved returns the state after a claim that was not refused.
func moved(state KeyIDState, c Claim) KeyIDState {
	ordinal := c.KSN.Ordinal()
	state.Seen = max(state.Seen, ordinal)
	if !c.Authenticated || !c.Windowed {
		return state
	}
	state.High = max(state.High, ordinal)
	if state.High > c.W {
		state.Floor = max(state.Floor, state.High-c.W)
	}
	return state
}

func covered(ranges []Range, ordinal uint32) bool {
	return slices.ContainsFunc(ranges, func(r Range) bool { return r.Contains(ordinal) })
}
