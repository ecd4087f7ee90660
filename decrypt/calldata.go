package decrypt

import (
	"context"
	"encoding/hex"
	"strings"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// The operations that treatments of calls name, beside those of transactions.
const (
	operationEncrypt   = "encrypt-data"
	operationReEncrypt = "re-encrypt-data"
	operationMACMade   = "generate-mac"
)

// DataCall asks to decrypt or to encrypt data under one transaction key, or under one key of fixed value: then Direction and WorkingKey
// are not looked at.
type DataCall struct {
	Key        CallKey
	Direction  dukpt.Direction  // Request or Both to decrypt, Response to encrypt
	WorkingKey dukpt.WorkingKey // zero: that of the key set
	Mode       dukpt.CipherMode
	IV         []byte // one block, or nil for zeros; nil for ECB; not kept
	Data       []byte // whole blocks; not kept
}

// DecryptData decrypts what a terminal encrypted, once: the same again is answered alike, other data under a KSN that was used
// is refused. Nothing tells a wrong KSN or key from the right one. Errors are a *Refusal.
func (s *Service) DecryptData(ctx context.Context, caller Caller, req DataCall) (*CallResult, error) {
	return s.do(ctx, caller, operationData, func(c *call) (*CallResult, error) {
		if req.Key.fixed() {
			return c.fixedData(ctx, req, ActionDecrypt)
		}
		k, err := c.key(ctx, req.Key, keyset.UsageData)
		if err != nil {
			return nil, err
		}
		plain, claim, err := c.decrypted(ctx, k, req)
		if err != nil {
			return nil, err
		}
		defer secret.Wipe(plain)
		outcome, err := c.commit(ctx, claim)
		if err != nil {
			return nil, err
		}
		return c.result(plain, k.info, outcome), nil
	})
}

// EncryptData encrypts data for a terminal under the response key of a KSN, which carries one content. Errors are a *Refusal.
func (s *Service) EncryptData(ctx context.Context, caller Caller, req DataCall) (*CallResult, error) {
	return s.do(ctx, caller, operationEncrypt, func(c *call) (*CallResult, error) {
		if req.Key.fixed() {
			return c.fixedData(ctx, req, ActionEncrypt)
		}
		k, err := c.key(ctx, req.Key, keyset.UsageData)
		if err != nil {
			return nil, err
		}
		out, claim, err := c.encrypted(ctx, k, req)
		if err != nil {
			return nil, err
		}
		outcome, err := c.commit(ctx, claim)
		if err != nil {
			return nil, err
		}
		return c.result(out, k.info, outcome), nil
	})
}

// ReEncryptData decrypts what a terminal encrypted and encrypts it for a terminal; Data of the second request is not looked
// at. The clear data stays here. Both keys are claimed in one commit. Errors are a *Refusal.
func (s *Service) ReEncryptData(ctx context.Context, caller Caller, from, to DataCall) (*CallResult, error) {
	return s.do(ctx, caller, operationReEncrypt, func(c *call) (*CallResult, error) {
		switch {
		case from.Key.fixed() && to.Key.fixed():
			return c.fixedReEncrypt(ctx, from, to)
		case from.Key.fixed():
			return c.reEncryptForTerminal(ctx, from, to)
		case to.Key.fixed():
			return c.reEncryptOfTerminal(ctx, from, to)
		}
		in, err := c.key(ctx, from.Key, keyset.UsageData)
		if err != nil {
			return nil, err
		}
		out, err := c.key(ctx, to.Key, keyset.UsageData)
		if err != nil {
			return nil, err
		}
		plain, opened, err := c.decrypted(ctx, in, from)
		if err != nil {
			return nil, err
		}
		defer secret.Wipe(plain)
		to.Data = plain
		sealed, made, err := c.encrypted(ctx, out, to)
		if err != nil {
			return nil, err
		}
		if opened.Treatment, err = onwards(opened.Treatment, out, to); err != nil {
			return nil, err
		}
		outcome, err := c.commit(ctx, opened, made)
		if err != nil {
			return nil, err
		}
		return c.result(sealed, out.info, outcome), nil
	})
}

// onwards is the treatment of data that is decrypted to be encrypted again: where it goes is a part of it.
func onwards(encoded []byte, out *lent, to DataCall) ([]byte, error) {
	t, err := ParseTreatment(encoded)
	if err != nil {
		return nil, err
	}
	t.Operation, t.OutgoingKey, t.Resolved = operationReEncrypt, to.Key.Base, out.info.ID
	t.ToFormat = strings.Join([]string{out.ksn.String(), to.WorkingKey.String(), to.Mode.String(), hex.EncodeToString(to.IV)}, "/")
	return t.Encode()
}

// decrypted opens the data of a terminal and makes the claim without which it is not released.
func (c *call) decrypted(ctx context.Context, k *lent, req DataCall) ([]byte, Claim, error) {
	if req.Direction != dukpt.Request && req.Direction != dukpt.Both {
		return nil, Claim{}, refuse(CodeDirectionNotPermitted, "decryption of what a host made")
	}
	spec, treatment, err := dataTreatment(k.set, req)
	if err != nil {
		return nil, Claim{}, err
	}
	treatment.Operation = operationData
	plain, err := k.ops.DecryptData(nil, spec, req.Data)
	if err != nil {
		return nil, Claim{}, c.operationFailed(ctx, k, err)
	}
	claim, err := c.dataClaim(k, PurposeData, req, req.Data, treatment)
	if err != nil {
		secret.Wipe(plain)
	}
	return plain, claim, err
}

// encrypted encrypts for a terminal and makes the claim without which that is not released.
func (c *call) encrypted(ctx context.Context, k *lent, req DataCall) ([]byte, Claim, error) {
	if req.Direction != dukpt.Response {
		return nil, Claim{}, refuse(CodeDirectionNotPermitted, "encryption as if by a terminal")
	}
	if k.set.Profile == keyset.ProfileMagTek || k.set.Profile == keyset.ProfileBareKey { // there both directions have one key
		return nil, Claim{}, refuse(CodeDirectionNotPermitted, "profile %v has no key for responses", k.set.Profile)
	}
	spec, treatment, err := dataTreatment(k.set, req)
	if err != nil {
		return nil, Claim{}, err
	}
	treatment.Operation = operationEncrypt
	out, err := k.ops.EncryptResponse(nil, spec, req.Data)
	if err != nil {
		return nil, Claim{}, c.operationFailed(ctx, k, err)
	}
	claim, err := c.dataClaim(k, PurposeDataResponse, req, out, treatment)
	return out, claim, err
}

func (c *call) dataClaim(k *lent, purpose Purpose, req DataCall, ciphertext []byte, treatment Treatment) (claim Claim, err error) {
	if claim, err = k.claim(purpose, c.now, treatment); err != nil {
		return Claim{}, err
	}
	err = c.claimKey(func(version uint32, key secret.Bytes) (err error) {
		claim.ClaimKeyVersion = version
		claim.Content, err = dataContent(key, k.ksn, purpose, ciphertext, req.IV, req.Mode)
		return err
	})
	return claim, err
}

// dataTreatment says how data is encrypted, and the words for it: those of a transaction when it is the same.
func dataTreatment(set *keyset.KeySet, req DataCall) (dukpt.DataSpec, Treatment, error) {
	spec := set.DataSpec(req.Direction, req.Mode, req.IV)
	key, words, err := workingKey(set, req.WorkingKey, spec.Key)
	if err != nil {
		return dukpt.DataSpec{}, Treatment{}, err
	}
	spec.Key = key
	t := Treatment{Derivation: words}
	switch {
	case set.Scheme == dukpt.TDES && req.Direction == dukpt.Both: // X9.24-1 has one key for both
		spec.Direction = dukpt.Request
	case req.Direction == dukpt.Both:
		t.Variant = req.Direction.String()
	}
	if set.Profile != 0 {
		t.Variant = set.Profile.String()
	}
	return spec, t, nil
}
