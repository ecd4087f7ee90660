package decrypt

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

// MACCall asks to verify or to make a MAC under one transaction key, or under one key of fixed value: then Direction and WorkingKey are
// not looked at, and a MAC has the length that is asked for, or is whole.
type MACCall struct {
	Key        CallKey
	Direction  dukpt.Direction    // Request or Both to verify, Response to make one
	WorkingKey dukpt.WorkingKey   // zero: that of the key set
	Algorithm  dukpt.MACAlgorithm // that of the key set; its padding is that of the set, too
	Length     int                // bytes of a MAC that is made; zero: as the key set says. VerifyMAC counts those of MAC
	Message    []byte             // not kept
	MAC        []byte             // to verify; not kept
}

// VerifyMAC verifies the MAC of a terminal and claims its key: another message under the KSN is refused afterwards. A MAC as
// long as its key set asks of evidence moves the counter. Errors are a *Refusal.
func (s *Service) VerifyMAC(ctx context.Context, caller Caller, req MACCall) (*CallResult, error) {
	return s.do(ctx, caller, operationMAC, func(c *call) (*CallResult, error) {
		if req.Key.fixed() {
			return c.fixedMAC(ctx, req, ActionVerifyMAC)
		}
		if req.Direction != dukpt.Request && req.Direction != dukpt.Both {
			return nil, refuse(CodeDirectionNotPermitted, "verification of what a host made")
		}
		k, err := c.key(ctx, req.Key, keyset.UsageMAC)
		if err != nil {
			return nil, err
		}
		req.Length = len(req.MAC)
		spec, treatment, err := macTreatment(k.set, req)
		if err != nil {
			return nil, err
		}
		treatment.Operation = operationMAC
		err = k.ops.VerifyMAC(spec, req.Message, req.MAC)
		if errors.Is(err, dukpt.ErrVerify) {
			return nil, refuse(CodeMACInvalid, "KSN %v", k.ksn)
		}
		if err != nil {
			return nil, c.operationFailed(ctx, k, err)
		}
		claim, err := c.macClaim(k, PurposeMAC, req.Message, req.MAC, treatment)
		if err != nil {
			return nil, err
		}
		if len(req.MAC) >= k.set.MAC.Evidence {
			claim.Authenticated, claim.MACKSN = true, k.ksn
		}
		outcome, err := c.commit(ctx, claim)
		if err != nil {
			return nil, err
		}
		res := c.result(nil, k.info, outcome)
		res.Authenticated = claim.Authenticated
		return res, nil
	})
}

// GenerateMAC makes the MAC of a message for a terminal under the response key of a KSN, which carries one content. What would be
// an ack of this module's own protocol is refused: an ack says what a terminal may do without its host. Errors are a *Refusal.
func (s *Service) GenerateMAC(ctx context.Context, caller Caller, req MACCall) (*CallResult, error) {
	return s.do(ctx, caller, operationMACMade, func(c *call) (*CallResult, error) {
		if req.Key.fixed() {
			return c.fixedMAC(ctx, req, ActionGenerateMAC)
		}
		if req.Direction != dukpt.Response {
			return nil, refuse(CodeDirectionNotPermitted, "a MAC as if by a terminal")
		}
		k, err := c.key(ctx, req.Key, keyset.UsageMAC)
		if err != nil {
			return nil, err
		}
		if req.Length == 0 {
			req.Length = k.set.MAC.Length
		}
		spec, treatment, err := macTreatment(k.set, req)
		if err != nil {
			return nil, err
		}
		treatment.Operation = operationMACMade
		mac, err := k.ops.MACResponse(nil, spec, req.Message)
		if err != nil {
			return nil, c.operationFailed(ctx, k, err)
		}
		if readsAsAck(req.Message, mac, spec.Padding) {
			return nil, refuse(CodePurposeNotPermitted, "the message is an ack, which POST /transactions/answer makes")
		}
		claim, err := c.macClaim(k, PurposeMACResponse, req.Message, mac, treatment)
		if err != nil {
			return nil, err
		}
		outcome, err := c.commit(ctx, claim)
		if err != nil {
			return nil, err
		}
		return c.result(mac, k.info, outcome), nil
	})
}

// readsAsAck reports whether a message is an ack under its MAC, or would be one with the same MAC: under padding with zeros a message has
// the MAC of each that fills as many blocks and differs in the zeros behind it.
func readsAsAck(msg, mac []byte, padding dukpt.MACPadding) bool {
	all := [][]byte{msg}
	if padding == dukpt.MACPadding1 {
		const block = 8 // of DES
		full := (len(msg) + block - 1) / block * block
		filled := append(bytes.Clone(msg), make([]byte, full-len(msg))...)
		all = all[:0]
		for n := max(len(bytes.TrimRight(msg, "\x00")), full-block+1); n <= full; n++ {
			all = append(all, filled[:n])
		}
	}
	return slices.ContainsFunc(all, func(m []byte) bool {
		_, err := message.ParseAck(message.AssembleAck(m, mac))
		return err == nil
	})
}

func (c *call) macClaim(k *lent, purpose Purpose, msg, mac []byte, treatment Treatment) (claim Claim, err error) {
	if claim, err = k.claim(purpose, c.now, treatment); err != nil {
		return Claim{}, err
	}
	err = c.claimKey(func(version uint32, key secret.Bytes) (err error) {
		claim.ClaimKeyVersion = version
		claim.Content, err = MACContent(key, k.ksn, purpose, msg, mac)
		return err
	})
	return claim, err
}

// macTreatment says how a MAC is computed, and the words for it: those of a transaction when it is the same. A MAC may be
// longer than those of the key set, never shorter.
func macTreatment(set *keyset.KeySet, req MACCall) (dukpt.MACSpec, Treatment, error) {
	spec := set.MACSpec()
	if req.Algorithm != spec.Algorithm {
		return spec, Treatment{}, refuse(CodeMACNotPermitted, "key set %s has MACs of %v, not of %v", set.ID, spec.Algorithm, req.Algorithm)
	}
	if req.Length < spec.Length {
		return spec, Treatment{}, refuse(CodeMACNotPermitted, "key set %s has MACs of %d bytes or more, not of %d", set.ID, spec.Length, req.Length)
	}
	key, words, err := workingKey(set, req.WorkingKey, spec.Key)
	if err != nil {
		return spec, Treatment{}, err
	}
	t := Treatment{Derivation: words, Variant: spec.Algorithm.String()}
	if spec.Padding != 0 {
		t.Padding = spec.Padding.String()
	}
	spec.Key, spec.Length = key, req.Length
	if req.Direction == dukpt.Both && set.Scheme == dukpt.AES { // under TDES it is the request key
		spec.Direction = dukpt.Both
		t.Variant += "/" + req.Direction.String()
	}
	return spec, t, nil
}
