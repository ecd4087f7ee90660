package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
)

// What the codes of a key block header mean (ANSI X9.143, 6.2 and 6.3.1 to 6.3.5).
var (
	usageNames = map[string]string{
		"B0": "DUKPT base derivation key", "B1": "DUKPT initial key", "B2": "base key variant", "B3": "key derivation key, not DUKPT",
		"C0": "card verification key", "D0": "data encryption", "D1": "asymmetric data encryption", "D2": "decimalization table encryption",
		"D3": "encryption of sensitive data", "E0": "EMV issuer key: application cryptograms", "E1": "EMV issuer key: secure messaging, confidentiality",
		"E2": "EMV issuer key: secure messaging, integrity", "E3": "EMV issuer key: data authentication code", "E4": "EMV issuer key: dynamic numbers",
		"E5": "EMV issuer key: card personalization", "E6": "EMV issuer key: other", "E7": "EMV asymmetric key for PIN encryption",
		"I0": "initialization vector", "K0": "key encryption", "K1": "key block protection", "K2": "TR-34 key of a receiving device",
		"K3": "asymmetric key for key wrapping or agreement", "K4": "ISO 20038 key block protection", "M0": "MAC of ISO 16609 algorithm 1, TDES",
		"M1": "MAC of ISO 9797-1 algorithm 1", "M2": "MAC of ISO 9797-1 algorithm 2", "M3": "MAC of ISO 9797-1 algorithm 3",
		"M4": "MAC of ISO 9797-1 algorithm 4", "M5": "MAC of ISO 9797-1:1999 algorithm 5", "M6": "CMAC", "M7": "HMAC", "M8": "MAC of ISO 9797-1 algorithm 6",
		"P0": "PIN encryption", "P1": "PIN generation", "S0": "digital signature", "S1": "signature of a certificate authority", "S2": "asymmetric key outside X9.24",
		"V0": "PIN verification", "V1": "PIN verification, IBM 3624", "V2": "PIN verification, Visa PVV", "V3": "PIN verification, X9.132 algorithm 1",
		"V4": "PIN verification, X9.132 algorithm 2", "V5": "PIN verification, X9.132 algorithm 3",
	}
	algorithmNames = map[byte]string{'A': "AES", 'D': "DES", 'E': "elliptic curve", 'H': "HMAC", 'R': "RSA", 'S': "DSA", 'T': "TDES"}
	modeNames      = map[keys.Mode]string{
		keys.ModeBoth: "encrypt and decrypt, wrap and unwrap", keys.ModeGenVerify: "generate and verify MACs", keys.ModeDecrypt: "decrypt or unwrap only",
		keys.ModeEncrypt: "encrypt or wrap only", keys.ModeGenerate: "generate MACs only", keys.ModeNone: "no special restriction",
		keys.ModeSign: "sign only", keys.ModeSignBoth: "sign and decrypt", keys.ModeVerify: "verify only", keys.ModeDerive: "derive other keys",
		keys.ModeVariant: "make variants",
	}
	exportNames   = map[string]string{"E": "under another protection key", "N": "not exportable", "S": "in other forms too"}
	contextNames  = map[string]string{"0": "as the protection key says", "1": "storage only", "2": "key exchange only"}
	pedigreeNames = map[keyblock.Pedigree]string{
		keyblock.PedigreeStrong: "always wrapped under keys of its strength", keyblock.PedigreeWeak: "was wrapped under a weaker key",
		keyblock.PedigreeQuantum:     "was wrapped under an asymmetric key: a quantum computer may open it",
		keyblock.PedigreeQuantumWeak: "was wrapped under a weaker and under an asymmetric key",
	}
)

// meaning says what an optional block means; "" where its data says it, or where it has no form of the standard.
func meaning(h keyblock.Header, id string) string {
	switch id {
	case keyblock.OptionalBI:
		return known(h.BaseKeyID, func(b keyblock.BaseKeyID) string {
			return map[bool]string{true: "AES DUKPT base derivation key ", false: "TDES DUKPT key set "}[b.AES] + b.ID
		})
	case keyblock.OptionalIK:
		return known(h.InitialKeyID, func([8]byte) string { return "AES DUKPT initial key id" })
	case keyblock.OptionalKS:
		return known(h.InitialKSN, func([10]byte) string { return "TDES DUKPT initial key serial number" })
	case keyblock.OptionalKC, keyblock.OptionalKP, keyblock.OptionalPK:
		whose := map[string]string{keyblock.OptionalKC: "the key", keyblock.OptionalKP: "the protection key", keyblock.OptionalPK: "the protection key of the export"}[id]
		return known(func() (keys.KCV, error) { return h.CheckValue(id) }, func(v keys.KCV) string { return "check value of " + whose + ": " + v.String() })
	case keyblock.OptionalHM:
		return known(h.Hash, keyblock.Hash.String)
	case keyblock.OptionalTC:
		return known(h.Created, func(t time.Time) string { return "made " + t.Format(time.RFC3339) })
	case keyblock.OptionalTS:
		return known(h.Stamped, func(t time.Time) string { return "time stamp " + t.Format(time.RFC3339) })
	case keyblock.OptionalDA:
		return known(h.Derivations, derivationsText)
	case keyblock.OptionalCT:
		return known(h.Certificates, func(all []keyblock.Certificate) string { return fmt.Sprintf("certificates: %d", len(all)) })
	case keyblock.OptionalAL:
		return known(h.IsEphemeral, func(e bool) string { return map[bool]string{true: "ephemeral key", false: "static key"}[e] })
	case keyblock.OptionalWP:
		return known(h.Pedigree, func(p keyblock.Pedigree) string { return pedigreeNames[p] })
	case keyblock.OptionalLB:
		return "label"
	}
	return ""
}

// known puts a value into words where there is one.
func known[T any](read func() (T, error), words func(T) string) string {
	v, err := read()
	if err != nil {
		return ""
	}
	return words(v)
}

func derivationsText(all []keyblock.Derivation) string {
	var texts []string
	for _, d := range all {
		texts = append(texts, fmt.Sprintf("%s %c %v %v", d.Usage, d.Algorithm, d.Mode, d.Exportability))
	}
	return "may derive " + strings.Join(texts, ", ")
}
