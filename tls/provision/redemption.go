package provision

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/internal/crockford"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

const (
	longCode    = 26 // characters: 130 bits
	shortCode   = 12 // characters: 60 bits, and a check character
	maxFailures = 5
	// replayTime is how long a spent code gives the same key the same certificate, for terminals that lost the answer.
	replayTime = 10 * time.Minute
	// agreementTime is how long after its redemption a code permits an agreement key.
	agreementTime = 15 * time.Minute
)

// newCode draws a one-time code. The caller wipes it. The check character of a short code is one that every keypad has.
func newCode(short bool) secret.Bytes {
	entropy := secret.New(17)
	defer entropy.Wipe()
	for {
		_, _ = rand.Read(entropy.Expose()) // cannot fail
		if code, ok := codeFrom(entropy, short); ok {
			return code
		}
	}
}

// codeFrom writes random bits as a code. It fails when the check character of a short code is one that keypads do not have.
func codeFrom(entropy secret.Bytes, isShort bool) (secret.Bytes, bool) {
	if !isShort {
		return appendCode(entropy, longCode, longCode), true
	}
	code := appendCode(entropy, shortCode, shortCode+1)
	check := crockford.Check(code.Expose()[:shortCode])
	if !isAlphabet(check) {
		code.Wipe()
		return secret.Bytes{}, false
	}
	code.Expose()[shortCode] = check
	return code, true
}

func appendCode(entropy secret.Bytes, characters, size int) secret.Bytes {
	code := secret.New(size)
	crockford.Append(code.Expose()[:0], entropy.Expose(), characters)
	return code
}

func isAlphabet(c byte) bool { return strings.IndexByte(crockford.Alphabet, c) >= 0 }

// readCode returns a typed code as it was drawn, and false for what can be no code: another length, another character, or
// a check character that shows a typing mistake. The caller wipes it.
func readCode(typed secret.Bytes) (secret.Bytes, bool) {
	buffer := secret.New(typed.Len())
	defer buffer.Wipe()
	code, err := crockford.Normalize(buffer.Expose()[:0], typed.Expose())
	if err != nil {
		return secret.Bytes{}, false
	}
	var ok bool
	switch len(code) {
	case longCode:
		ok = isAlphabet(code[longCode-1]) // Normalize lets the last one be a check symbol
	case shortCode + 1:
		ok = isAlphabet(code[shortCode]) && crockford.Check(code[:shortCode]) == code[shortCode]
	}
	if !ok {
		return secret.Bytes{}, false
	}
	return secret.From(code), true
}

// checkValue is what a code is recognised by: HMAC-SHA-256(pepper, terminal id || 00 || code).
func (e *Engine) checkValue(id keyset.TerminalID, code secret.Bytes) [32]byte {
	mac := hmac.New(sha256.New, e.config.Pepper.Expose())
	mac.Write([]byte(id))
	mac.Write([]byte{0})
	mac.Write(code.Expose())
	return [32]byte(mac.Sum(nil))
}

// pepperCheck tells one pepper from another. No terminal id has lower-case letters.
func (e *Engine) pepperCheck() [32]byte {
	mac := hmac.New(sha256.New, e.config.Pepper.Expose())
	mac.Write([]byte("latchkey-pepper-v1"))
	return [32]byte(mac.Sum(nil))
}

// redemption is one attempt to redeem a code.
type redemption struct {
	terminal keyset.TerminalID
	check    [32]byte
	key      KeyHash
}

// verdict is what a code says to an attempt.
type verdict uint8

const (
	wrong   verdict = iota // not this code
	redeem                 // reserve it and go on
	repeat                 // spent on this key: the same answer again
	spent                  // used with another key, or too long ago
	expired                // too old
	void                   // voided
)

// judge compares an attempt with the code of the terminal, nil when it has none, in time that does not depend on either.
func (a *redemption) judge(c *OneTimeCode, now time.Time) verdict {
	known := 1
	if c == nil {
		known, c = 0, &OneTimeCode{}
	}
	if known&subtle.ConstantTimeCompare(a.check[:], c.Check[:]) != 1 {
		return wrong
	}
	if c.State == StateVoid && c.Failures < maxFailures && !now.Before(c.Expires) {
		return expired // the sweeper has voided it since
	}
	if c.State == StateVoid {
		return void
	}
	if c.State == StateSpent && c.KeyHash == a.key {
		if now.Before(c.Spent.Add(replayTime)) {
			return repeat
		}
		return spent
	}
	if !now.Before(c.Expires) {
		return expired
	}
	if c.State != StateOpen && c.KeyHash != a.key && !planted.On(planted.GuardCodeBinding) {
		return spent
	}
	return redeem
}

// fail counts a wrong guess, durably, and voids the code at the fifth. Without a code to count at it writes too, so that
// the answer takes as long.
func (t *transaction) fail(c *OneTimeCode) error {
	if c == nil || !c.live() {
		meta, err := t.Meta()
		if err != nil {
			return err
		}
		return t.PutMeta(meta)
	}
	c.Failures++
	if c.Failures >= maxFailures {
		c.State = StateVoid
	}
	return t.PutOneTimeCode(c)
}

// refusal is what an attempt is told.
func (v verdict) refusal() *Refusal {
	switch v {
	case spent:
		return refuse(CodeOneTimeCodeSpent, "")
	case expired:
		return refuse(CodeOneTimeCodeExpired, "")
	case void:
		return refuse(CodeOneTimeCodeVoid, "")
	}
	return refuse(CodeCredentialsRefused, "")
}
