package claims

import (
	"bytes"
	"errors"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/store/columns"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

// recordAnswer stores a first decision and the first ack of each digest.
func (t tx) recordAnswer(a decrypt.Answer) (decrypt.Answer, error) {
	if a.Digest.IsZero() || len(a.Ack) == 0 {
		return decrypt.Answer{}, errors.New("claims: an answer without digest or ack")
	}
	if _, err := message.ParseResult(a.Result.String()); err != nil {
		return decrypt.Answer{}, err
	}
	asked, ok, err := lookupRequest(t, a.Digest)
	if err != nil {
		return decrypt.Answer{}, err
	}
	if !ok || asked.Tenant != a.Tenant || asked.Original != a.Original {
		return t.refuseAnswer(a, &decrypt.Refusal{Code: decrypt.CodeRequestUnknown, Detail: "digest " + a.Digest.String()})
	}
	first, known, err := lookupAnswer(t, a.Digest)
	if err != nil {
		return decrypt.Answer{}, err
	}
	if known && (first.Result != a.Result || !bytes.Equal(first.Body, a.Body)) {
		return t.refuseAnswer(a, &decrypt.Refusal{Code: decrypt.CodeAnswerConflict, Detail: "recorded: " + first.Result.String()})
	}
	if known && len(first.Ack) > 0 {
		first.Again = true
		return first, nil
	}
	return t.writeAnswer(a, known)
}

func (t tx) refuseAnswer(a decrypt.Answer, r *decrypt.Refusal) (decrypt.Answer, error) {
	a.Audit.Result, a.Audit.Reason = decrypt.Refused.String(), string(r.Code)
	if err := t.Audit(a.Audit); err != nil {
		return decrypt.Answer{}, err
	}
	return decrypt.Answer{}, r
}

func (t tx) writeAnswer(a decrypt.Answer, known bool) (decrypt.Answer, error) {
	if err := t.Audit(a.Audit); err != nil {
		return decrypt.Answer{}, err
	}
	if !known {
		err := t.Exec(`INSERT INTO answers (original, v, tenant, result, body, at) VALUES (?, ?, ?, ?, ?, ?)`,
			a.Original[:], version, string(a.Tenant), a.Result.String(), columns.NotNil(a.Body), a.Time.UnixMilli())
		if err != nil {
			return decrypt.Answer{}, err
		}
	}
	err := t.Exec(`INSERT INTO acks (digest, v, original, ack, ksn, content, at) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		a.Digest[:], version, a.Original[:], a.Ack, orNull(a.KSN.Append(nil), a.KSN.IsZero()),
		orNull(a.Content[:], a.Content == decrypt.Content{}), a.Time.UnixMilli())
	if err != nil {
		return decrypt.Answer{}, err
	}
	out, _, err := lookupAnswer(t, a.Digest)
	out.Again = known
	return out, err
}

// lookupAnswer finds the decision on the message that the digest stands for, and the ack of this digest, if any.
func lookupAnswer(q tx, digest message.Digest) (decrypt.Answer, bool, error) {
	original := digest
	asked, ok, err := lookupRequest(q, digest)
	if err != nil {
		return decrypt.Answer{}, false, err
	}
	if ok {
		original = asked.Original
	}
	a, ok, err := lookupDecision(q, original)
	if err != nil || !ok {
		return decrypt.Answer{}, false, err
	}
	a.Digest = digest
	if err := lookupAck(q, &a); err != nil {
		return decrypt.Answer{}, false, err
	}
	return a, true, nil
}

// lookupDecision reads a row of answers.
func lookupDecision(q tx, original message.Digest) (decrypt.Answer, bool, error) {
	a := decrypt.Answer{Original: original}
	var tenant, result string
	var at int64
	ok, err := q.One(`SELECT tenant, result, body, at FROM answers WHERE original = ?`, []any{original[:]}, &tenant, &result, &a.Body, &at)
	if err != nil || !ok {
		return decrypt.Answer{}, false, err
	}
	a.Tenant = keyset.TenantID(tenant)
	a.Time = time.UnixMilli(at).UTC()
	if a.Result, err = message.ParseResult(result); err != nil {
		return decrypt.Answer{}, false, sqlite.Unreadable("result", err)
	}
	return a, true, nil
}

// lookupAck adds the ack that was recorded for the digest of a, if any.
func lookupAck(q tx, a *decrypt.Answer) error {
	var ksn, content []byte
	ok, err := q.One(`SELECT ack, ksn, content FROM acks WHERE digest = ?`, []any{a.Digest[:]}, &a.Ack, &ksn, &content)
	if err != nil || !ok {
		return err
	}
	copy(a.Content[:], content)
	a.KSN, err = read.OptionalKSN(ksn)
	return err
}
