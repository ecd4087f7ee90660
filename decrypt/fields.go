package decrypt

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/pin"
)

// openField is a field that has been opened and not yet released.
type openField struct {
	field  *message.Field
	key    *located
	pan    pin.PAN          // the PAN it begins with, or that its PIN block is made with
	target target           // of a PIN
	cipher dukpt.WorkingKey // of a PIN block under AES; zero: AES-128
	claim  Claim
	result FieldResult
}

// target is where a PIN goes.
type target struct {
	asked    keyset.KeyRef // as the caller or the key set names it
	resolved engine.KeyInfo
	format   pin.Format
}

// open opens every field: the card data first, because a PIN block needs the PAN that is in it.
func (t *transaction) open(ctx context.Context) error {
	for i := range t.m.Payload.Fields {
		f := &t.m.Payload.Fields[i]
		k := t.keys[place{f.Slot, f.KSN}]
		if err := t.begin(ctx, k); err != nil {
			return err
		}
		t.fields = append(t.fields, &openField{field: f, key: k, result: FieldResult{
			Slot: f.Slot, KSN: f.KSN, Usage: f.Usage, KeySet: k.set.ID, KCV: k.info.KCV.String(), Labels: k.info.Labels,
		}})
	}
	for _, f := range t.fields {
		if f.field.Usage == message.UsageData {
			if err := t.openData(ctx, f); err != nil {
				return err
			}
		}
	}
	for _, f := range t.fields {
		if f.field.Usage == message.UsagePIN {
			if err := t.openPIN(ctx, f); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *transaction) openData(ctx context.Context, f *openField) error {
	plain, err := f.key.ops.DecryptData(nil, dataSpec(f.key.set, f.field), f.field.Ciphertext)
	if errors.Is(err, dukpt.ErrLength) {
		return refuse(CodeMessageMalformed, "card data under KSN %v is not in whole blocks", f.field.KSN)
	}
	if err != nil {
		return t.engineFailed(ctx, err)
	}
	defer secret.Wipe(plain)
	f.result.Clear = secret.From(plain)
	if pan, err := pin.FindPAN(plain); err == nil { // card data need not start with a PAN
		f.pan = pan
		f.result.MaskedPAN = pan.Masked()
	}
	f.claim, err = t.dataClaim(f)
	return err
}

// dataSpec says how the card data of a field is encrypted.
func dataSpec(set *keyset.KeySet, f *message.Field) dukpt.DataSpec {
	s := set.DataSpec(dukpt.Request, f.Mode, f.IV)
	if set.Scheme == dukpt.TDES && s.Profile == 0 { // a set without data keys; reached with guard.purpose off only
		s.Profile = dukpt.DataOneWay
	}
	return s
}

// openPIN moves the PIN under the zone key, with the PAN of the card data in the same message.
func (t *transaction) openPIN(ctx context.Context, f *openField) error {
	pan, err := t.cardPAN()
	if err != nil {
		return err
	}
	f.pan = pan
	f.target.asked, err = t.caller.outgoing(t.req.OutgoingPINKey, f.key.set)
	if err != nil {
		return err
	}
	f.target.format = t.req.OutgoingPINFormat
	if f.target.format == 0 {
		f.target.format = f.field.PINFormat
	}
	f.target.resolved, err = t.resolve(ctx, f.target.asked)
	if err != nil {
		return err
	}
	f.claim, err = t.pinClaim(f)
	if err != nil {
		return err
	}
	version, fillKey, err := t.secrets.Secret(SecretFill)
	if err != nil {
		return t.engineFailed(ctx, err)
	}
	fillKey.Wipe()
	f.claim.FillKeyVersion = version
	return t.translate(ctx, f, version)
}

// cardPAN returns the PAN that the card data of the message names. It shares the memory of the field.
func (t *transaction) cardPAN() (pin.PAN, error) {
	var found pin.PAN
	for _, f := range t.fields {
		if f.field.Usage != message.UsageData || f.pan.IsZero() {
			continue
		}
		if !found.IsZero() && !found.Equal(f.pan) {
			return pin.PAN{}, refuse(CodeMessageMalformed, "the card data of one message names two PANs")
		}
		found = f.pan
	}
	if found.IsZero() {
		return pin.PAN{}, refuse(CodeMessageMalformed, "a PIN block without card data that names its PAN")
	}
	return found, nil
}

func (s *Service) resolve(ctx context.Context, asked keyset.KeyRef) (engine.KeyInfo, error) {
	id, err := s.engine.Resolve(ctx, asked)
	if err == nil {
		var info engine.KeyInfo
		info, err = s.engine.Describe(ctx, id)
		if err == nil {
			return info, nil
		}
	}
	if errors.Is(err, engine.ErrKeyNotFound) {
		return engine.KeyInfo{}, refuse(CodeKeyNotFound, "%v", asked)
	}
	return engine.KeyInfo{}, s.engineFailed(ctx, err)
}

// translate makes the outgoing block, the same one for the same content and target.
func (s *Service) translate(ctx context.Context, f *openField, fillVersion uint32) error {
	fillKey, err := s.secrets.SecretVersion(SecretFill, fillVersion)
	if err != nil {
		return s.engineFailed(ctx, err)
	}
	defer fillKey.Wipe()
	fill := hmac.New(sha256.New, fillKey.Expose())
	fill.Write(f.claim.Content[:])
	out := engine.PINOut{Format: f.target.format, PAN: f.pan, Key: f.target.resolved.ID, Fill: [8]byte(fill.Sum(nil)[:8])}
	in := dukpt.PINBlock{Format: f.field.PINFormat, Key: f.cipher, PAN: f.pan, Block: f.field.Ciphertext}
	block, err := f.key.ops.TranslatePIN(nil, in, out)
	switch {
	case errors.Is(err, dukpt.ErrVerify):
		return refuse(CodePINBlockInvalid, "KSN %v", f.field.KSN)
	case errors.Is(err, pin.ErrTranslation), errors.Is(err, dukpt.ErrUnsupported), errors.Is(err, dukpt.ErrStrength), errors.Is(err, engine.ErrUsage):
		return refuse(CodeTranslationNotPermitted, "from %v to %v under %v", f.field.PINFormat, f.target.format, f.target.asked)
	case errors.Is(err, engine.ErrKeyNotFound):
		return refuse(CodeKeyNotFound, "%v", f.target.asked)
	case err != nil:
		return s.engineFailed(ctx, err)
	}
	f.result.PINBlock, f.result.PINFormat = block, f.target.format
	f.result.PINKey, f.result.PINKeyKCV = f.target.asked, f.target.resolved.KCV.String()
	return nil
}

// wipe empties what was opened and will not be released.
func (t *transaction) wipe() {
	for _, f := range t.fields {
		f.result.Clear.Wipe()
		secret.Wipe(f.result.PINBlock)
	}
}
