package enroll

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// slipTitle is the first line of a slip. The number is the version of the format.
const slipTitle = "latchkey-enrol 1"

// MaxSlip is how many bytes a slip has at most. One of usual names is read by any camera.
const MaxSlip = 1 << 10

// ErrSlip is wrapped by every error about bytes that are no slip. Errors quote nothing of them.
var ErrSlip = errors.New("enroll: not a slip")

// Slip is the slip of paper for a terminal as a machine reads it: the ticket, and all else that an enrolment needs. Its form
// is text of seven lines, each with a line feed: a title, and a name, a space and a value, in this order:
//
//	latchkey-enrol 1
//	tenant ACME
//	terminal T-0001
//	environment production
//	url https://ra.example:8445
//	trust-url http://ra.example:8447
//	ticket CODE-PIN
//
// Lines may end in CR LF, and the last one in nothing: cameras and editors do that.
type Slip struct {
	Tenant, Terminal string
	Environment      string // production or test
	URL              string // registration authority: https://HOST:PORT
	TrustURL         string // where the trust list is published: http://HOST:PORT
	Ticket           Ticket // a secret
}

// slipNames are the names of the lines behind the title.
var slipNames = []string{"tenant", "terminal", "environment", "url", "trust-url", "ticket"}

// fields are the values of the lines but the last.
func (s *Slip) fields() []*string {
	return []*string{&s.Tenant, &s.Terminal, &s.Environment, &s.URL, &s.TrustURL}
}

// ParseSlip reads a slip. The caller wipes the bytes, and the ticket after use. Whether tenant, terminal and environment are
// names is for who enrols to find out. Errors wrap ErrSlip.
func ParseSlip(b []byte) (Slip, error) {
	if len(b) > MaxSlip {
		return Slip{}, fmt.Errorf("%w: %d bytes, want at most %d", ErrSlip, len(b), MaxSlip)
	}
	lines := bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n"))
	if len(lines) != 1+len(slipNames) {
		return Slip{}, fmt.Errorf("%w: %d lines, want %d", ErrSlip, len(lines), 1+len(slipNames))
	}
	for i := range lines {
		lines[i] = bytes.TrimSuffix(lines[i], []byte("\r"))
	}
	if string(lines[0]) != slipTitle {
		return Slip{}, fmt.Errorf("%w: the first line is not %q: is it of another version?", ErrSlip, slipTitle)
	}
	var s Slip
	fields := s.fields()
	for i, name := range slipNames {
		value, ok := bytes.CutPrefix(lines[i+1], []byte(name+" "))
		if !ok || !plainValue(value) {
			return Slip{}, fmt.Errorf("%w: line %d is not %s and a value", ErrSlip, i+2, name)
		}
		if i < len(fields) {
			*fields[i] = string(value)
			continue
		}
		var err error
		if s.Ticket, err = ParseTicket(value); err != nil {
			return Slip{}, fmt.Errorf("%w: %w", ErrSlip, err)
		}
	}
	if err := s.checkURLs(); err != nil {
		s.Ticket.Wipe()
		return Slip{}, err
	}
	return s, nil
}

// plainValue reports whether a value is one printable word.
func plainValue(value []byte) bool {
	return len(value) > 0 && !bytes.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' })
}

// checkURLs wants the two addresses, with nothing behind host and port.
func (s *Slip) checkURLs() error {
	for scheme, text := range map[string]string{"https": s.URL, "http": s.TrustURL} {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != scheme || u.Hostname() == "" || text != scheme+"://"+u.Host {
			return fmt.Errorf("%w: the address is not %s://HOST:PORT", ErrSlip, scheme)
		}
	}
	return nil
}

// Append appends the one spelling of a slip, which ParseSlip reads, to dst. The caller wipes the result. The error wraps
// ErrSlip.
func (s Slip) Append(dst []byte) ([]byte, error) {
	if err := s.checkURLs(); err != nil {
		return nil, err
	}
	if s.Ticket.Code.IsZero() {
		return nil, fmt.Errorf("%w: there is no ticket", ErrSlip)
	}
	begun := len(dst)
	dst = append(dst, slipTitle+"\n"...)
	for i, value := range s.fields() {
		if !plainValue([]byte(*value)) {
			return nil, fmt.Errorf("%w: %s is not one printable word", ErrSlip, slipNames[i])
		}
		dst = append(dst, slipNames[i]+" "+*value+"\n"...)
	}
	dst = append(dst, "ticket "...)
	dst = append(dst, s.Ticket.Code.Expose()...)
	dst = append(dst, "-"+s.Ticket.Pin.String()+"\n"...)
	if len(dst)-begun > MaxSlip {
		secret.Wipe(dst[begun:])
		return nil, fmt.Errorf("%w: more than %d bytes", ErrSlip, MaxSlip)
	}
	return dst, nil
}
