package keydist_test

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

const topic = "protocol-makers"

var handlers = map[string]testvec.Handler{"makers": makersVector, "makers_refused": makersRefused}

func TestVectors(t *testing.T) {
	t.Parallel()
	testvec.Run(t, topic, handlers)
}

func TestVectorsCanFail(t *testing.T) {
	t.Parallel()
	testvec.Flip(t, topic, handlers, map[string][]string{"makers": {"payload", "tenant", "revision"}})
}

// makersVector reads a payload, and makes one of its content with roots and devices in another order.
func makersVector(v testvec.Vector) (int, error) {
	m, err := keydist.ParseMakers(v.Hex("payload"))
	if err != nil {
		return 0, err
	}
	var roots []string
	for _, root := range m.Roots {
		roots = append(roots, hex.EncodeToString(root.Raw))
	}
	for _, c := range []struct{ name, got, want string }{
		{"tenant", string(m.Tenant), v.String("tenant")},
		{"environment", m.Environment.String(), v.String("environment")},
		{"revision", strconv.FormatUint(m.Revision, 10), v.String("revision")},
		{"roots", fmt.Sprint(roots), fmt.Sprint(v.Strings("roots"))},
		{"devices", fmt.Sprint(m.Devices.Lines()), fmt.Sprint(v.Strings("devices"))},
	} {
		if c.got != c.want {
			return 0, fmt.Errorf("%s: got %s, want %s", c.name, c.got, c.want)
		}
	}
	made, err := makersOf(v)
	if err != nil {
		return 0, err
	}
	got, err := made.Marshal()
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(got, v.Hex("payload")) {
		return 0, fmt.Errorf("the content is written as %x", got)
	}
	return 6, nil
}

// makersOf is what a vector says, the last root and device first.
func makersOf(v testvec.Vector) (*keydist.Makers, error) {
	m := &keydist.Makers{Tenant: keyset.TenantID(v.String("tenant"))}
	var err error
	if m.Environment, err = keyset.ParseEnvironment(v.String("environment")); err != nil {
		return nil, err
	}
	if m.Revision, err = strconv.ParseUint(v.String("revision"), 10, 64); err != nil {
		return nil, err
	}
	for _, text := range v.Strings("roots") {
		der, err := hex.DecodeString(text)
		if err != nil {
			return nil, err
		}
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		m.Roots = append(m.Roots, root)
	}
	slices.Reverse(m.Roots)
	lines := v.Strings("devices")
	slices.Reverse(lines)
	m.Devices, err = keydist.ParseAllowList([]byte(strings.Join(lines, "\n")))
	return m, err
}

func makersRefused(v testvec.Vector) (int, error) {
	m, err := keydist.ParseMakers(v.Hex("payload"))
	if err == nil || m != nil {
		return 0, fmt.Errorf("accepted: %s", v.String("reason"))
	}
	if !errors.Is(err, keydist.ErrMakers) || !strings.Contains(err.Error(), v.String("error")) {
		return 0, fmt.Errorf("refused with %q, want ErrMakers with %q", err, v.String("error"))
	}
	return 1, nil
}
