package keydist

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/latchkey-pos/latchkey/tls/identity"
)

// MaxAllowList bounds the text of an allow-list in bytes.
const MaxAllowList = 16 << 20

const (
	certificatePrefix = "certificate:"
	maxDeviceSerial   = 64
	maxSerialBytes    = 20 // RFC 5280, 4.1.2.2
)

// ErrAllowList is wrapped by every error about the text of an allow-list. It names the line and quotes nothing.
var ErrAllowList = errors.New("keydist: not a list of devices")

// AllowList says which devices of the trusted makers may have keys of sets that ask for attested agreement keys. It does not
// change and is safe for concurrent use. The zero value allows none.
type AllowList struct {
	devices      map[string]bool // by the attribute serialNumber of the subject
	certificates map[string]bool // by the serial number of the certificate
}

// ParseAllowList reads the text of a list, one device a line: the serial number of the device as the maker's certificate
// has it in the attribute serialNumber of its subject, or "certificate:" and the serial number of the certificate in
// lower-case hex. Empty lines and lines that begin with # are left out. Anything else, and a line that is there twice, is an
// error that wraps ErrAllowList.
func ParseAllowList(text []byte) (*AllowList, error) {
	if len(text) > MaxAllowList {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrAllowList, MaxAllowList)
	}
	l := newAllowList()
	n := 0
	for line := range strings.SplitSeq(string(text), "\n") {
		n++
		if line == "" || line[0] == '#' {
			continue
		}
		if err := l.add(line); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrAllowList, n, err)
		}
	}
	return l, nil
}

func newAllowList() *AllowList {
	return &AllowList{devices: map[string]bool{}, certificates: map[string]bool{}}
}

func (l *AllowList) add(line string) error {
	names, name, valid := l.devices, line, deviceSerial(line)
	if serial, ok := strings.CutPrefix(line, certificatePrefix); ok {
		names, name, valid = l.certificates, serial, certificateSerial(serial)
	}
	if !valid {
		return errors.New("want the serial number of a device, or certificate: and lower-case hex")
	}
	if names[name] {
		return errors.New("it is there twice")
	}
	names[name] = true
	return nil
}

// Len returns how many devices are on the list.
func (l *AllowList) Len() int {
	if l == nil {
		return 0
	}
	return len(l.devices) + len(l.certificates)
}

// Allows reports whether a certificate of a maker is for a device on the list. It says nothing about who signed it.
func (l *AllowList) Allows(cert *x509.Certificate) bool {
	return l != nil && cert != nil && (l.devices[cert.Subject.SerialNumber] || l.certificates[identity.Serial(cert)])
}

// Lines returns the list, sorted, one device each, as ParseAllowList reads them.
func (l *AllowList) Lines() []string {
	if l == nil {
		return nil
	}
	lines := slices.Collect(maps.Keys(l.devices))
	for serial := range l.certificates {
		lines = append(lines, certificatePrefix+serial)
	}
	slices.Sort(lines)
	return lines
}

// Format returns the text of the list, sorted, as ParseAllowList reads it.
func (l *AllowList) Format() []byte {
	var out []byte
	for _, line := range l.Lines() {
		out = append(append(out, line...), '\n')
	}
	return out
}

// deviceSerial reports whether s can be the serial number of a device: letters, digits and - . / _ only.
func deviceSerial(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("-./_", rune(c)) {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= maxDeviceSerial
}

// certificateSerial reports whether s is a serial number as identity.Serial spells it.
func certificateSerial(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) >= 1 && len(b) <= maxSerialBytes && b[0] != 0 && s == strings.ToLower(s)
}
