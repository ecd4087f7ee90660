package aws

import (
	"context"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// placer puts the bytes of a result into the member of an answer that they belong to.
type placer = func(*output, hexBytes)

func (f face) decryptData(ctx context.Context, caller decrypt.Caller, r *http.Request, body []byte) (*decrypt.CallResult, placer, error) {
	req, err := readDecryptData(r, body)
	if err != nil {
		return nil, nil, &unread{err}
	}
	res, err := f.Service.DecryptData(ctx, caller, req)
	return res, func(o *output, b hexBytes) { o.PlainText = b }, err
}

func readDecryptData(r *http.Request, body []byte) (decrypt.DataCall, error) {
	var in decryptDataInput
	base, err := readKeyed(r, body, &in)
	if err != nil {
		return decrypt.DataCall{}, err
	}
	if err := filled("CipherText", in.CipherText); err != nil {
		return decrypt.DataCall{}, err
	}
	req, err := in.DecryptionAttributes.data("DecryptionAttributes", base, in.CipherText)
	if err != nil {
		return decrypt.DataCall{}, err
	}
	return req, in.WrappedKey.block("WrappedKey", &req.Key)
}

func (f face) encryptData(ctx context.Context, caller decrypt.Caller, r *http.Request, body []byte) (*decrypt.CallResult, placer, error) {
	req, err := readEncryptData(r, body)
	if err != nil {
		return nil, nil, &unread{err}
	}
	res, err := f.Service.EncryptData(ctx, caller, req)
	return res, func(o *output, b hexBytes) { o.CipherText = b }, err
}

func readEncryptData(r *http.Request, body []byte) (decrypt.DataCall, error) {
	var in encryptDataInput
	base, err := readKeyed(r, body, &in)
	if err != nil {
		return decrypt.DataCall{}, err
	}
	if err := filled("PlainText", in.PlainText); err != nil {
		return decrypt.DataCall{}, err
	}
	req, err := in.EncryptionAttributes.data("EncryptionAttributes", base, in.PlainText)
	if err != nil {
		return decrypt.DataCall{}, err
	}
	return req, in.WrappedKey.block("WrappedKey", &req.Key)
}

func (f face) reEncryptData(ctx context.Context, caller decrypt.Caller, r *http.Request, body []byte) (*decrypt.CallResult, placer, error) {
	from, to, err := readReEncryptData(r, body)
	if err != nil {
		return nil, nil, &unread{err}
	}
	res, err := f.Service.ReEncryptData(ctx, caller, from, to)
	return res, func(o *output, b hexBytes) { o.CipherText = b }, err
}

func readReEncryptData(r *http.Request, body []byte) (from, to decrypt.DataCall, err error) {
	var in reEncryptDataInput
	base, err := readKeyed(r, body, &in)
	if err != nil {
		return from, to, err
	}
	if err := filled("CipherText", in.CipherText); err != nil {
		return from, to, err
	}
	if from, err = in.IncomingEncryptionAttributes.data("IncomingEncryptionAttributes", base, in.CipherText); err != nil {
		return from, to, err
	}
	outgoing, err := parseKey("OutgoingKeyIdentifier", in.OutgoingKeyIdentifier)
	if err != nil {
		return from, to, err
	}
	if to, err = in.OutgoingEncryptionAttributes.data("OutgoingEncryptionAttributes", outgoing, nil); err != nil {
		return from, to, err
	}
	if err := in.IncomingWrappedKey.block("IncomingWrappedKey", &from.Key); err != nil {
		return from, to, err
	}
	return from, to, in.OutgoingWrappedKey.block("OutgoingWrappedKey", &to.Key)
}

// readKeyed reads a body beside the key in the path.
func readKeyed(r *http.Request, body []byte, in any) (keyset.KeyRef, error) {
	base, err := pathKey(r)
	if err != nil {
		return keyset.KeyRef{}, err
	}
	return base, read(body, in)
}

func (f face) translatePinData(ctx context.Context, caller decrypt.Caller, _ *http.Request, body []byte) (*decrypt.CallResult, placer, error) {
	req, err := readTranslatePinData(body)
	defer req.PAN.Wipe()
	defer req.ToPAN.Wipe()
	if err != nil {
		return nil, nil, &unread{err}
	}
	res, err := f.Service.TranslatePIN(ctx, caller, req)
	return res, func(o *output, b hexBytes) { o.PinBlock = b }, err
}

func readTranslatePinData(body []byte) (req decrypt.PINCall, err error) {
	var in translatePinDataInput
	if err := read(body, &in); err != nil {
		return req, err
	}
	if err := absent(map[string]jsontext.Value{
		"OutgoingDukptAttributes": in.OutgoingDukptAttributes, "IncomingAs2805Attributes": in.IncomingAs2805Attributes,
	}); err != nil {
		return req, err
	}
	if req.Key.Base, err = parseKey("IncomingKeyIdentifier", in.IncomingKeyIdentifier); err != nil {
		return req, err
	}
	if req.Outgoing, err = parseKey("OutgoingKeyIdentifier", in.OutgoingKeyIdentifier); err != nil {
		return req, err
	}
	if req.Format, req.PAN, err = in.IncomingTranslationAttributes.pin("IncomingTranslationAttributes"); err != nil {
		return req, err
	}
	if req.ToFormat, req.ToPAN, err = in.OutgoingTranslationAttributes.pin("OutgoingTranslationAttributes"); err != nil {
		return req, err
	}
	if err := filled("EncryptedPinBlock", in.EncryptedPinBlock); err != nil {
		return req, err
	}
	req.Block = in.EncryptedPinBlock
	if err := in.IncomingDukptAttributes.into(&req); err != nil {
		return req, err
	}
	if err := in.IncomingWrappedKey.block("IncomingWrappedKey", &req.Key); err != nil {
		return req, err
	}
	out := decrypt.CallKey{Base: req.Outgoing}
	err = in.OutgoingWrappedKey.block("OutgoingWrappedKey", &out)
	req.OutgoingBlock = out.Block
	return req, err
}

// into reads the attributes of the key of a PIN block, of which there is one for both ways. Without them it is a key of fixed value.
func (a *dukptPIN) into(req *decrypt.PINCall) (err error) {
	const path = "IncomingDukptAttributes"
	if a == nil {
		return nil
	}
	if req.Key.KSN, err = parseKSN(path, a.KeySerialNumber); err != nil {
		return err
	}
	if req.WorkingKey, err = parseDerivation(path+".DukptKeyDerivationType", a.DukptKeyDerivationType); err != nil {
		return err
	}
	if a.DukptKeyVariant == "" {
		return nil
	}
	d, err := parseVariant(path, a.DukptKeyVariant)
	if err == nil && d == dukpt.Response {
		return &decrypt.Refusal{Code: decrypt.CodeDirectionNotPermitted, Detail: "a PIN block of a host"}
	}
	return err
}

func (f face) generateMac(ctx context.Context, caller decrypt.Caller, _ *http.Request, body []byte) (*decrypt.CallResult, placer, error) {
	req, err := readGenerateMac(body)
	if err != nil {
		return nil, nil, &unread{err}
	}
	res, err := f.Service.GenerateMAC(ctx, caller, req)
	return res, func(o *output, b hexBytes) { o.Mac = b }, err
}

func readGenerateMac(body []byte) (decrypt.MACCall, error) {
	var in generateMacInput
	if err := read(body, &in); err != nil {
		return decrypt.MACCall{}, err
	}
	req, err := readMAC(in.KeyIdentifier, in.MessageData, in.GenerationAttributes, "GenerationAttributes")
	if err != nil || in.MacLength == nil {
		return req, err
	}
	if *in.MacLength < 1 {
		return req, invalid("MacLength", "not a number of bytes")
	}
	req.Length = *in.MacLength
	return req, nil
}

func (f face) verifyMac(ctx context.Context, caller decrypt.Caller, _ *http.Request, body []byte) (*decrypt.CallResult, placer, error) {
	req, err := readVerifyMac(body)
	if err != nil {
		return nil, nil, &unread{err}
	}
	res, err := f.Service.VerifyMAC(ctx, caller, req)
	return res, nil, err
}

func readVerifyMac(body []byte) (decrypt.MACCall, error) {
	var in verifyMacInput
	if err := read(body, &in); err != nil {
		return decrypt.MACCall{}, err
	}
	req, err := readMAC(in.KeyIdentifier, in.MessageData, in.VerificationAttributes, "VerificationAttributes")
	if err != nil {
		return req, err
	}
	if err := filled("Mac", in.Mac); err != nil {
		return req, err
	}
	if in.MacLength != nil && *in.MacLength != len(in.Mac) {
		return req, invalid("MacLength", "Mac has another number of bytes")
	}
	req.MAC = in.Mac
	return req, nil
}

func readMAC(key string, msg hexBytes, attributes *macAttributes, path string) (decrypt.MACCall, error) {
	base, err := parseKey("KeyIdentifier", key)
	if err != nil {
		return decrypt.MACCall{}, err
	}
	if err := filled("MessageData", msg); err != nil {
		return decrypt.MACCall{}, err
	}
	req, err := attributes.mac(path, base)
	req.Message = msg
	return req, err
}
