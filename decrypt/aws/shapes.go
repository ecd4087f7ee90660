package aws

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/latchkey-pos/latchkey/pin"
)

// The shapes of requests and answers have the names of the service model. Members that the service cannot serve are read
// as they come and refused by name.

// hexBytes are bytes that travel as hexadecimal digits, and may be secret: they print as their number.
type hexBytes []byte

// UnmarshalText reads digits of either case.
func (h *hexBytes) UnmarshalText(text []byte) error {
	out := make([]byte, hex.DecodedLen(len(text)))
	if _, err := hex.Decode(out, text); err != nil {
		return errors.New("aws: not hexadecimal digits in pairs")
	}
	*h = out
	return nil
}

// MarshalText writes upper-case digits.
func (h hexBytes) MarshalText() ([]byte, error) {
	out := make([]byte, 0, hex.EncodedLen(len(h)))
	for _, b := range h {
		out = append(out, "0123456789ABCDEF"[b>>4], "0123456789ABCDEF"[b&15])
	}
	return out, nil
}

// Format prints the number of bytes whatever the verb is.
func (h hexBytes) Format(s fmt.State, _ rune) { _, _ = fmt.Fprintf(s, "%d bytes", len([]byte(h))) }

// panText is a card number as it travels.
type panText struct{ pan pin.PAN }

// UnmarshalText reads 8 to 19 digits.
func (p *panText) UnmarshalText(text []byte) (err error) {
	p.pan, err = pin.ParsePAN(string(text))
	return err
}

// Format prints the number masked.
func (p panText) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, p.pan.Masked()) }

// encryptionAttributes is the union EncryptionDecryptionAttributes, and ReEncryptionAttributes.
type encryptionAttributes struct {
	Symmetric  *symmetricEncryption `json:"Symmetric,omitzero"`
	Asymmetric jsontext.Value       `json:"Asymmetric,omitzero"`
	Emv        jsontext.Value       `json:"Emv,omitzero"`
	Dukpt      *dukptEncryption     `json:"Dukpt,omitzero"`
}

// symmetricEncryption is the shape SymmetricEncryptionAttributes.
type symmetricEncryption struct {
	Mode                 string         `json:"Mode"`
	InitializationVector hexBytes       `json:"InitializationVector,omitzero"`
	PaddingType          jsontext.Value `json:"PaddingType,omitzero"` // of RSA
}

// wrappedKey is the shape WrappedKey.
type wrappedKey struct {
	WrappedKeyMaterial     *wrappedMaterial `json:"WrappedKeyMaterial"`
	KeyCheckValueAlgorithm string           `json:"KeyCheckValueAlgorithm,omitzero"`
}

// wrappedMaterial is the union WrappedKeyMaterial.
type wrappedMaterial struct {
	Tr31KeyBlock              string         `json:"Tr31KeyBlock,omitzero"`
	DiffieHellmanSymmetricKey jsontext.Value `json:"DiffieHellmanSymmetricKey,omitzero"`
}

type dukptEncryption struct {
	KeySerialNumber        string   `json:"KeySerialNumber"`
	Mode                   string   `json:"Mode,omitzero"`
	DukptKeyDerivationType string   `json:"DukptKeyDerivationType,omitzero"`
	DukptKeyVariant        string   `json:"DukptKeyVariant,omitzero"`
	InitializationVector   hexBytes `json:"InitializationVector,omitzero"`
}

type decryptDataInput struct {
	CipherText           hexBytes              `json:"CipherText"`
	DecryptionAttributes *encryptionAttributes `json:"DecryptionAttributes"`
	WrappedKey           *wrappedKey           `json:"WrappedKey,omitzero"`
}

type encryptDataInput struct {
	PlainText            hexBytes              `json:"PlainText"`
	EncryptionAttributes *encryptionAttributes `json:"EncryptionAttributes"`
	WrappedKey           *wrappedKey           `json:"WrappedKey,omitzero"`
}

type reEncryptDataInput struct {
	OutgoingKeyIdentifier        string                `json:"OutgoingKeyIdentifier"`
	CipherText                   hexBytes              `json:"CipherText"`
	IncomingEncryptionAttributes *encryptionAttributes `json:"IncomingEncryptionAttributes"`
	OutgoingEncryptionAttributes *encryptionAttributes `json:"OutgoingEncryptionAttributes"`
	IncomingWrappedKey           *wrappedKey           `json:"IncomingWrappedKey,omitzero"`
	OutgoingWrappedKey           *wrappedKey           `json:"OutgoingWrappedKey,omitzero"`
}

// translationAttributes is the union TranslationIsoFormats.
type translationAttributes struct {
	IsoFormat0    *isoFormat     `json:"IsoFormat0,omitzero"`
	IsoFormat1    *struct{}      `json:"IsoFormat1,omitzero"`
	IsoFormat3    *isoFormat     `json:"IsoFormat3,omitzero"`
	IsoFormat4    *isoFormat     `json:"IsoFormat4,omitzero"`
	As2805Format0 jsontext.Value `json:"As2805Format0,omitzero"`
}

type isoFormat struct {
	PrimaryAccountNumber panText `json:"PrimaryAccountNumber"`
}

// dukptPIN is the shape DukptDerivationAttributes.
type dukptPIN struct {
	KeySerialNumber        string `json:"KeySerialNumber"`
	DukptKeyDerivationType string `json:"DukptKeyDerivationType,omitzero"`
	DukptKeyVariant        string `json:"DukptKeyVariant,omitzero"`
}

type translatePinDataInput struct {
	IncomingKeyIdentifier         string                 `json:"IncomingKeyIdentifier"`
	OutgoingKeyIdentifier         string                 `json:"OutgoingKeyIdentifier"`
	IncomingTranslationAttributes *translationAttributes `json:"IncomingTranslationAttributes"`
	OutgoingTranslationAttributes *translationAttributes `json:"OutgoingTranslationAttributes"`
	EncryptedPinBlock             hexBytes               `json:"EncryptedPinBlock"`
	IncomingDukptAttributes       *dukptPIN              `json:"IncomingDukptAttributes,omitzero"`
	OutgoingDukptAttributes       jsontext.Value         `json:"OutgoingDukptAttributes,omitzero"`
	IncomingWrappedKey            *wrappedKey            `json:"IncomingWrappedKey,omitzero"`
	OutgoingWrappedKey            *wrappedKey            `json:"OutgoingWrappedKey,omitzero"`
	IncomingAs2805Attributes      jsontext.Value         `json:"IncomingAs2805Attributes,omitzero"`
}

// macAttributes is the union MacAttributes.
type macAttributes struct {
	Algorithm              string         `json:"Algorithm,omitzero"`
	EmvMac                 jsontext.Value `json:"EmvMac,omitzero"`
	DukptIso9797Algorithm1 *dukptMAC      `json:"DukptIso9797Algorithm1,omitzero"`
	DukptIso9797Algorithm3 *dukptMAC      `json:"DukptIso9797Algorithm3,omitzero"`
	DukptCmac              *dukptMAC      `json:"DukptCmac,omitzero"`
}

// dukptMAC is the shape MacAlgorithmDukpt, whose derivation type has another name than everywhere else.
type dukptMAC struct {
	KeySerialNumber     string `json:"KeySerialNumber"`
	DukptKeyVariant     string `json:"DukptKeyVariant"`
	DukptDerivationType string `json:"DukptDerivationType,omitzero"`
}

type generateMacInput struct {
	KeyIdentifier        string         `json:"KeyIdentifier"`
	MessageData          hexBytes       `json:"MessageData"`
	GenerationAttributes *macAttributes `json:"GenerationAttributes"`
	MacLength            *int           `json:"MacLength,omitzero"`
}

type verifyMacInput struct {
	KeyIdentifier          string         `json:"KeyIdentifier"`
	MessageData            hexBytes       `json:"MessageData"`
	Mac                    hexBytes       `json:"Mac"`
	VerificationAttributes *macAttributes `json:"VerificationAttributes"`
	MacLength              *int           `json:"MacLength,omitzero"`
}

// output is every answer: one of the four outputs is set, and none after VerifyMac. What follows KeyCheckValue is ours.
type output struct {
	PlainText            hexBytes `json:"PlainText,omitempty"`
	CipherText           hexBytes `json:"CipherText,omitempty"`
	PinBlock             hexBytes `json:"PinBlock,omitempty"`
	Mac                  hexBytes `json:"Mac,omitempty"`
	KeyArn               string   `json:"KeyArn"`
	KeyCheckValue        string   `json:"KeyCheckValue"`
	CounterStatus        string   `json:"CounterStatus"`        // FRESH, RESEND, or NONE without a KSN
	CounterAuthenticated bool     `json:"CounterAuthenticated"` // a MAC of the terminal that is evidence of its counter has verified in this call
	Labels               labels   `json:"Labels"`
}

// labels are those of the native endpoints.
type labels struct {
	KeyMode     string `json:"KeyMode"`
	PINExposure string `json:"PINExposure"`
	Environment string `json:"Environment"`
}
