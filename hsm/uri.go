package hsm

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

var (
	// ErrURI says that a text is not a PKCS#11 URI that is understood here.
	ErrURI = errors.New("hsm: not a PKCS#11 URI")
	// ErrPINValue says that a URI holds a PIN, which files, histories and lists of processes would show.
	ErrPINValue = errors.New("hsm: a PIN stands in the URI")
)

// maxURI bounds what is read.
const maxURI = 4096

// URI names a token, or an object in one (RFC 7512). An attribute that is absent matches everything. The zero value names
// nothing. It is comparable, and prints without its PIN.
type URI struct {
	path   [pathAttributes]value
	module value
	source value
	pin    secret.Bytes
}

// value is the value of an attribute, if it is there.
type value struct {
	set  bool
	text string
}

// matches reports whether an attribute of a thing is what the URI asks for.
func (v value) matches(text string) bool { return !v.set || v.text == text }

// The attributes of the path, in the order in which String writes them.
const (
	atToken = iota
	atManufacturer
	atSerial
	atModel
	atSlot
	atObject
	atID
	atType
	pathAttributes
)

var pathNames = [pathAttributes]string{
	atToken: "token", atManufacturer: "manufacturer", atSerial: "serial", atModel: "model", atSlot: "slot-id", atObject: "object",
	atID: "id", atType: "type",
}

// The characters that stand for themselves beside letters, digits, "-", "." , "_" and "~" (RFC 7512, 2.3).
const (
	pathCharacters  = ":[]@!$'()*+,=&"
	queryCharacters = ":[]@!$'()*+,=/?|"
)

// ParseURI reads a PKCS#11 URI: token, manufacturer, serial, model, slot-id, object, id and type in the path, module-path and
// pin-source in the query. Anything else is refused with [ErrURI], so that no part of a name goes unheeded, and so is an
// attribute that comes twice. A pin-value is refused with [ErrPINValue]. Neither error repeats what was read.
func ParseURI(s string) (URI, error) { return parseURI(s, false) }

// ParseURIWithPIN is ParseURI for a URI that may hold a pin-value: for tokens of tests. See [URI.PIN].
func ParseURIWithPIN(s string) (URI, error) { return parseURI(s, true) }

func parseURI(s string, pinAllowed bool) (URI, error) {
	var u URI
	rest, ok := strings.CutPrefix(s, "pkcs11:")
	if !ok || len(s) > maxURI {
		return URI{}, fmt.Errorf("%w: it begins with pkcs11: and has at most %d bytes", ErrURI, maxURI)
	}
	path, query, asked := strings.Cut(rest, "?")
	if err := eachAttribute(path, ";", pathCharacters, u.setPath); err != nil {
		return URI{}, err
	}
	if !asked {
		return u, nil
	}
	err := eachAttribute(query, "&", queryCharacters, func(name, text string) error { return u.setQuery(name, text, pinAllowed) })
	if err != nil {
		u.pin.Wipe()
		return URI{}, err
	}
	return u, nil
}

// eachAttribute visits the attributes of one part, decoded.
func eachAttribute(part, separator, characters string, visit func(name, text string) error) error {
	if part == "" {
		return nil
	}
	for _, attribute := range strings.Split(part, separator) {
		name, encoded, ok := strings.Cut(attribute, "=")
		if !ok {
			return fmt.Errorf("%w: an attribute without =", ErrURI)
		}
		text, err := decode(encoded, characters)
		if err != nil {
			return err
		}
		if err := visit(name, text); err != nil {
			return err
		}
	}
	return nil
}

func (u *URI) setPath(name, text string) error {
	for i := range u.path {
		if pathNames[i] != name {
			continue
		}
		switch {
		case u.path[i].set:
			return fmt.Errorf("%w: %s comes twice", ErrURI, name)
		case i == atSlot:
			if n, err := strconv.ParseUint(text, 10, 64); err != nil || strconv.FormatUint(n, 10) != text {
				return fmt.Errorf("%w: slot-id is not a decimal number", ErrURI)
			}
		case i == atType && text != "secret-key" && text != "private" && text != "public" && text != "cert" && text != "data":
			return fmt.Errorf("%w: type is not one of secret-key, private, public, cert, data", ErrURI)
		}
		u.path[i] = value{true, text}
		return nil
	}
	return fmt.Errorf("%w: the path has an attribute that is not understood", ErrURI)
}

func (u *URI) setQuery(name, text string, pinAllowed bool) error {
	var at *value
	switch name {
	case "module-path":
		at = &u.module
	case "pin-source":
		at = &u.source
	case "pin-value":
		if !pinAllowed {
			return fmt.Errorf("%w: give it by pin-source, or in a file", ErrPINValue)
		}
		if !u.pin.IsZero() || text == "" {
			return fmt.Errorf("%w: pin-value comes twice, or is empty", ErrURI)
		}
		u.pin = secret.From([]byte(text))
		return nil
	default:
		return fmt.Errorf("%w: the query has an attribute that is not understood", ErrURI)
	}
	if at.set || text == "" {
		return fmt.Errorf("%w: %s comes twice, or is empty", ErrURI, name)
	}
	*at = value{true, text}
	return nil
}

// decode undoes the percent-encoding, once. A NUL is refused: behind it C reads another name than Go.
func decode(s, characters string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '%':
			n, err := strconv.ParseUint(s[i+1:min(i+3, len(s))], 16, 8)
			if err != nil || i+3 > len(s) {
				return "", fmt.Errorf("%w: %% without two hexadecimal digits", ErrURI)
			}
			if n == 0 {
				return "", fmt.Errorf("%w: a NUL", ErrURI)
			}
			c = byte(n)
			i += 2
		case !unreserved(c) && strings.IndexByte(characters, c) < 0:
			return "", fmt.Errorf("%w: a character that has to be percent-encoded", ErrURI)
		}
		out.WriteByte(c)
	}
	return out.String(), nil
}

func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// Module returns the path of the PKCS#11 module, "" for none.
func (u URI) Module() string { return u.module.text }

// PINSource returns where the PIN is, "" for nowhere: a path, or file: and a path.
func (u URI) PINSource() string { return u.source.text }

// PIN returns the pin-value of a URI read by ParseURIWithPIN, shared by all copies of the URI, and nothing without one.
func (u URI) PIN() secret.Bytes { return u.pin }

// Object returns what the URI says of an object, and nothing else: the key of a token that is known.
func (u URI) Object() URI {
	var o URI
	for _, at := range []int{atObject, atID, atType} {
		o.path[at] = u.path[at]
	}
	return o
}

// IsZero reports whether the URI names nothing: no attribute is there.
func (u URI) IsZero() bool { return u == URI{} }

// String returns the URI in one spelling, without its PIN.
func (u URI) String() string {
	var path, query []string
	for i, v := range u.path {
		if v.set {
			path = append(path, pathNames[i]+"="+encode(v.text, pathCharacters))
		}
	}
	if u.module.set {
		query = append(query, "module-path="+encode(u.module.text, queryCharacters))
	}
	if u.source.set {
		query = append(query, "pin-source="+encode(u.source.text, queryCharacters))
	}
	out := "pkcs11:" + strings.Join(path, ";")
	if len(query) > 0 {
		out += "?" + strings.Join(query, "&")
	}
	return out
}

func encode(s, characters string) string {
	var out strings.Builder
	for i := range len(s) {
		if unreserved(s[i]) || strings.IndexByte(characters, s[i]) >= 0 {
			out.WriteByte(s[i])
		} else {
			fmt.Fprintf(&out, "%%%02X", s[i])
		}
	}
	return out.String()
}

// matchesToken reports whether a token in a slot is one that the URI may mean.
func (u URI) matchesToken(t tokenInfo) bool {
	return u.path[atToken].matches(t.label) && u.path[atManufacturer].matches(t.manufacturer) && u.path[atSerial].matches(t.serial) &&
		u.path[atModel].matches(t.model) && u.path[atSlot].matches(strconv.FormatUint(uint64(t.slot), 10))
}

// choose returns the one token that the URI names. It fails with ErrNoToken and ErrAmbiguous.
func (u URI) choose(all []tokenInfo) (tokenInfo, error) {
	var found []tokenInfo
	for _, t := range all {
		if u.matchesToken(t) {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 0:
		return tokenInfo{}, fmt.Errorf("%w: %s", ErrNoToken, u)
	case 1:
		return found[0], nil
	}
	return tokenInfo{}, fmt.Errorf("%w: %s means %d tokens: add a serial", ErrAmbiguous, u, len(found))
}
