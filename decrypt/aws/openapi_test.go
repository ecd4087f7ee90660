package aws

import (
	"testing"

	"github.com/latchkey-pos/latchkey/internal/openapitest"
)

// TestOpenAPIHasEveryMember compares the schemas of docs/openapi.yaml with the shapes.
func TestOpenAPIHasEveryMember(t *testing.T) {
	t.Parallel()
	doc := openapitest.Load(t, "../../docs/openapi.yaml")
	for name, v := range map[string]any{
		"DecryptDataInput": decryptDataInput{}, "EncryptDataInput": encryptDataInput{}, "ReEncryptDataInput": reEncryptDataInput{},
		"TranslatePinDataInput": translatePinDataInput{}, "GenerateMacInput": generateMacInput{}, "VerifyMacInput": verifyMacInput{},
		"EncryptionAttributes": encryptionAttributes{}, "DukptEncryptionAttributes": dukptEncryption{}, "TranslationAttributes": translationAttributes{},
		"IsoFormat": isoFormat{}, "DukptPinAttributes": dukptPIN{}, "MacAttributes": macAttributes{}, "MacAlgorithmDukpt": dukptMAC{},
		"SymmetricEncryptionAttributes": symmetricEncryption{}, "WrappedKey": wrappedKey{}, "WrappedKeyMaterial": wrappedMaterial{},
		"Exception": exceptionBody{}, "Labels": labels{},
	} {
		openapitest.Members(t, doc, name, v, false)
	}
}
