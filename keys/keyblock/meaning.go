package keyblock

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/keys"
)

// ErrAbsent says that a header has no optional block of the kind that was asked for.
var ErrAbsent = errors.New("keyblock: no such optional block")

// data returns the data of the optional block id, which has the form of the standard.
func (h Header) data(id string) (string, error) {
	for _, ob := range h.Optional {
		if ob.ID != id {
			continue
		}
		if r, ok := rules[id]; ok && !r.form(ob.Data) {
			return "", fmt.Errorf("%w: %s is not in the form of the standard", ErrOptional, id)
		}
		return ob.Data, nil
	}
	return "", ErrAbsent
}

// InitialKSN returns the initial key serial number of a TDES DUKPT key, of KS (6.3.6.8). This and the methods that follow give
// ErrAbsent where the optional block is missing and ErrOptional where it is not in the form of the standard.
func (h Header) InitialKSN() (ksn [10]byte, err error) {
	err = h.bytes(OptionalKS, ksn[:])
	return ksn, err
}

// InitialKeyID returns the initial key id of an AES DUKPT key, of IK (6.3.6.6).
func (h Header) InitialKeyID() (id [8]byte, err error) {
	err = h.bytes(OptionalIK, id[:])
	return id, err
}

func (h Header) bytes(id string, dst []byte) error {
	data, err := h.data(id)
	if err != nil {
		return err
	}
	_, err = hex.Decode(dst, []byte(data))
	return err
}

// BaseKeyID names a base derivation key: by the key set id of TDES DUKPT, or by the id of AES DUKPT. It is comparable.
type BaseKeyID struct {
	AES bool
	ID  string // upper-case hexadecimal digits: 10 of a key set id, 8 of an AES base derivation key id
}

// BaseKeyID returns which base derivation key is wrapped, of BI (6.3.6.2).
func (h Header) BaseKeyID() (BaseKeyID, error) {
	data, err := h.data(OptionalBI)
	if err != nil {
		return BaseKeyID{}, err
	}
	return BaseKeyID{AES: data[:2] == "01", ID: data[2:]}, nil
}

// CheckValue returns the check value in KC, KP or PK (6.3.6.7, 6.3.6.12): of 3 bytes for the legacy method, of 5 for CMAC.
func (h Header) CheckValue(id string) (keys.KCV, error) {
	if id != OptionalKC && id != OptionalKP && id != OptionalPK {
		return keys.KCV{}, fmt.Errorf("%w: %s has no check value", ErrOptional, id)
	}
	data, err := h.data(id)
	if err != nil {
		return keys.KCV{}, err
	}
	return keys.ParseKCV(data[2:])
}

// checkValueData writes a check value as KC, KP and PK have it; "" for none.
func checkValueData(v keys.KCV) string {
	switch s := v.String(); len(s) {
	case 6:
		return "00" + s
	case 10:
		return "01" + s
	}
	return ""
}

// Label returns the label, of LB (6.3.6.10).
func (h Header) Label() (string, error) { return h.data(OptionalLB) }

// Created returns when the key block was made, of TC (6.3.6.13). The clock is that of whoever made it.
func (h Header) Created() (time.Time, error) { return h.time(OptionalTC) }

// Stamped returns the time stamp of the key block, of TS (6.3.6.14).
func (h Header) Stamped() (time.Time, error) { return h.time(OptionalTS) }

func (h Header) time(id string) (time.Time, error) {
	data, err := h.data(id)
	if err != nil {
		return time.Time{}, err
	}
	t, _ := parseTime(data)
	return t, nil
}

// parseTime reads the four forms of 6.3.6.13, all of them in UTC: with and without delimiters, to the second and to its hundredth.
func parseTime(data string) (time.Time, bool) {
	layout, text := "2006-01-02T15:04:05Z", data
	switch len(data) {
	case len("YYYYMMDDhhmmssssZ"): // the fraction without its point, which package time wants
		text = data[:14] + "." + data[14:]
		layout = "20060102150405.00Z"
	case len("YYYYMMDDhhmmssZ"):
		layout = "20060102150405Z"
	case len("YYYY-MM-DDThh:mm:ss.ssZ"):
		layout = "2006-01-02T15:04:05.00Z"
	}
	t, err := time.Parse(layout, text)
	if err != nil || t.Format(layout) != text {
		return time.Time{}, false
	}
	return t, true
}

func isTime(data string) bool { _, ok := parseTime(data); return ok }

// Hash is the hash algorithm of an HMAC key: the two digits of HM.
type Hash string

// HashSHA256 is the one hash algorithm of HMAC keys here.
const HashSHA256 Hash = "21"

var hashNames = map[Hash]string{
	"10": "SHA-1", "20": "SHA-224", HashSHA256: "SHA-256", "22": "SHA-384", "23": "SHA-512", "24": "SHA-512/224", "25": "SHA-512/256",
	"30": "SHA3-224", "31": "SHA3-256", "32": "SHA3-384", "33": "SHA3-512", "40": "SHAKE128", "41": "SHAKE256",
}

// String returns the name of the hash algorithm, or its digits.
func (a Hash) String() string {
	if name, ok := hashNames[a]; ok {
		return name
	}
	return "hash " + string(a)
}

// Hash returns the hash algorithm of an HMAC key, of HM (6.3.6.5).
func (h Header) Hash() (Hash, error) {
	data, err := h.data(OptionalHM)
	return Hash(data), err
}

// Derivation is one kind of key that may be derived from the wrapped one.
type Derivation struct {
	Usage         string // two characters
	Algorithm     byte
	Mode          keys.Mode
	Exportability keys.Exportability
}

// Derivations returns which keys may be derived, of DA (6.3.6.4).
func (h Header) Derivations() ([]Derivation, error) {
	data, err := h.data(OptionalDA)
	if err != nil {
		return nil, err
	}
	all, _ := parseDerivations(data)
	return all, nil
}

const (
	derivationSize = 5 // usage, algorithm, mode of use, exportability
	letters        = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// parseDerivations reads the version 01 and one or more derivations, none of them twice.
func parseDerivations(data string) ([]Derivation, bool) {
	rest, ok := strings.CutPrefix(data, "01")
	if !ok || rest == "" || len(rest)%derivationSize != 0 {
		return nil, false
	}
	var all []Derivation
	seen := make(map[Derivation]bool)
	for ; rest != ""; rest = rest[derivationSize:] {
		d := Derivation{Usage: rest[:2], Algorithm: rest[2], Mode: keys.Mode(rest[3]), Exportability: keys.Exportability(rest[4])}
		_, errMode := keys.ParseMode(rest[3])
		_, errExport := keys.ParseExportability(rest[4])
		if !isCharacters(d.Usage) || strings.IndexByte(algorithms, d.Algorithm) < 0 || errMode != nil || errExport != nil || seen[d] {
			return nil, false
		}
		seen[d] = true
		all = append(all, d)
	}
	return all, true
}

func isDerivations(data string) bool { _, ok := parseDerivations(data); return ok }

// IsEphemeral reports whether an asymmetric key lives for one exchange only, of AL (6.3.6.1).
func (h Header) IsEphemeral() (bool, error) {
	data, err := h.data(OptionalAL)
	return data == "0100", err
}

// Pedigree says under what a key has been wrapped in its life (6.3.6.15).
type Pedigree byte

// The pedigrees.
const (
	PedigreeStrong      Pedigree = '0' // always under keys of its strength or stronger
	PedigreeWeak        Pedigree = '1' // once under a weaker key
	PedigreeQuantum     Pedigree = '2' // once under an asymmetric key that a quantum computer may break
	PedigreeQuantumWeak Pedigree = '3' // both
)

// Pedigree returns the wrapping pedigree, of WP (6.3.6.15).
func (h Header) Pedigree() (Pedigree, error) {
	data, err := h.data(OptionalWP)
	if err != nil {
		return 0, err
	}
	return Pedigree(data[2]), nil
}

// Certificate is a certificate of the wrapped public key.
type Certificate struct {
	EMV bool   // an EMV certificate; else one of X.509
	Raw []byte // the certificate; of X.509 its DER
}

// Certificates returns the certificates of the wrapped key, of CT (6.3.6.3): one, or a chain. Nothing of them is verified.
func (h Header) Certificates() ([]Certificate, error) {
	data, err := h.data(OptionalCT)
	if err != nil {
		return nil, err
	}
	all, _ := parseCertificates(data)
	return all, nil
}

// parseCertificates reads 00 or 01 and one certificate in base64, or 02 and certificates with a length of four hexadecimal
// digits behind the 00 or 01 of each.
func parseCertificates(data string) ([]Certificate, bool) {
	rest, isChain := strings.CutPrefix(data, "02")
	if !isChain {
		c, ok := parseCertificate(data)
		return []Certificate{c}, ok
	}
	var all []Certificate
	for rest != "" {
		if len(rest) < 6 || !isHex(rest[2:6]) {
			return nil, false
		}
		size, err := strconv.ParseUint(rest[2:6], 16, 16)
		if err != nil || int(size) > len(rest)-6 {
			return nil, false
		}
		c, ok := parseCertificate(rest[:2] + rest[6:6+size])
		if !ok {
			return nil, false
		}
		all, rest = append(all, c), rest[6+size:]
	}
	return all, len(all) > 0
}

func parseCertificate(data string) (Certificate, bool) {
	if !strings.HasPrefix(data, "00") && !strings.HasPrefix(data, "01") || strings.ContainsAny(data, "\r\n") { // base64 skips line ends
		return Certificate{}, false
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(data[2:])
	return Certificate{EMV: data[1] == '1', Raw: raw}, err == nil && len(raw) > 0
}

func isCertificates(data string) bool { _, ok := parseCertificates(data); return ok }
