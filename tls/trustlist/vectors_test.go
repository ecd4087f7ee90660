package trustlist_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

const topic = "protocol-trust-list"

var handlers = map[string]testvec.Handler{
	"trust_list": listVector, "trust_list_refused": listRefused, "pin": pinVector, "pin_refused": pinRefused,
}

func TestVectors(t *testing.T) {
	t.Parallel()
	testvec.Run(t, topic, handlers)
}

func TestVectorsCanFail(t *testing.T) {
	t.Parallel()
	testvec.Flip(t, topic, handlers, map[string][]string{
		"trust_list": {"document", "version", "digest"}, "pin": {"spki", "pin", "typed"},
	})
}

func accepted(v testvec.Vector) (trustlist.Accepted, error) {
	a := trustlist.Accepted{Tenant: v.String("tenant"), Version: uint64(v.Int("accepted_version")), Digest: [sha256.Size]byte(v.Hex("accepted_digest"))}
	for _, text := range v.Strings("pins") {
		p, err := trustlist.ParsePin(text)
		if err != nil {
			return a, err
		}
		a.Pins = append(a.Pins, p)
	}
	return a, nil
}

func listVector(v testvec.Vector) (int, error) {
	a, err := accepted(v)
	if err != nil {
		return 0, err
	}
	l, err := trustlist.Open(v.Hex("document"), a)
	if err != nil {
		return 0, err
	}
	next := a.Next(l)
	for _, c := range []struct{ name, got, want string }{
		{"tenant", l.Tenant, v.String("tenant")},
		{"version", strconv.FormatUint(l.Version, 10), v.String("version")},
		{"not_before", fmt.Sprint(l.NotBefore.Unix()), fmt.Sprint(v.Int("not_before"))},
		{"terminals", hexOf(l.Terminals), fmt.Sprint(v.Strings("terminals"))},
		{"services", hexOf(l.Services), fmt.Sprint(v.Strings("services"))},
		{"keydist", hexOf(l.KeyDist), fmt.Sprint(v.Strings("keydist"))},
		{"pins_after", fmt.Sprint(next.Pins), fmt.Sprint(v.Strings("pins_after"))},
		{"digest", hex.EncodeToString(next.Digest[:]), v.String("digest")},
		{"accepted version", strconv.FormatUint(next.Version, 10), v.String("version")},
	} {
		if c.got != c.want {
			return 0, fmt.Errorf("%s: got %s, want %s", c.name, c.got, c.want)
		}
	}
	if _, err := trustlist.Open(v.Hex("document"), next); err != nil {
		return 0, fmt.Errorf("a second time: %w", err)
	}
	return 10, nil
}

func hexOf(certs []*x509.Certificate) string {
	var out []string
	for _, c := range certs {
		out = append(out, hex.EncodeToString(c.Raw))
	}
	return fmt.Sprint(out)
}

func listRefused(v testvec.Vector) (int, error) {
	a, err := accepted(v)
	if err != nil {
		return 0, err
	}
	l, err := trustlist.Open(v.Hex("document"), a)
	if err == nil || l != nil {
		return 0, fmt.Errorf("accepted: %s", v.String("reason"))
	}
	if !errors.Is(err, trustlist.ErrTrust) || !strings.Contains(err.Error(), v.String("error")) {
		return 0, fmt.Errorf("refused with %q, want ErrTrust with %q", err, v.String("error"))
	}
	return 1, nil
}

func pinVector(v testvec.Vector) (int, error) {
	pub, err := x509.ParsePKIXPublicKey(v.Hex("spki"))
	if err != nil {
		return 0, err
	}
	of, err := trustlist.PinOf(pub)
	if err != nil {
		return 0, err
	}
	typed, err := trustlist.ParsePin(v.String("typed"))
	if err != nil {
		return 0, err
	}
	if of != typed || of.String() != v.String("pin") {
		return 0, fmt.Errorf("of the key %v, as typed %v, want %s", of, typed, v.String("pin"))
	}
	return 2, nil
}

func pinRefused(v testvec.Vector) (int, error) {
	if p, err := trustlist.ParsePin(v.String("typed")); err == nil || !p.IsZero() || !strings.Contains(err.Error(), v.String("error")) {
		return 0, fmt.Errorf("pin %v, %v, want an error with %q", p, err, v.String("error"))
	}
	return 1, nil
}

// TestOpenSSL lets OpenSSL check the signatures of the lists, those that are accepted and those that are not.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	testvec.Program(t, "openssl")
	dir := t.TempDir()
	verify := func(v testvec.Vector, context string) string {
		file := func(name string, b []byte) string {
			path := filepath.Join(dir, v.ID+"."+name)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		// A signature that does not verify is exit status 1, like every other trouble: the text tells.
		out, err := exec.CommandContext(t.Context(), "openssl", "dgst", "-sha256",
			"-verify", file("pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: v.Hex("signer")})),
			"-signature", file("signature", v.Hex("signature")), file("signed", append([]byte(context), v.Hex("payload")...))).CombinedOutput()
		if err != nil && len(out) == 0 {
			t.Fatalf("openssl: %v", err)
		}
		return string(out)
	}
	testvec.Run(t, topic, map[string]testvec.Handler{"trust_list": func(v testvec.Vector) (int, error) {
		parts := slices.Concat(v.Hex("payload"), v.Hex("signer"), v.Hex("signature"))
		if got := v.Hex("document"); len(got) < len(parts) || !bytes.HasSuffix(got, v.Hex("signature")) || !bytes.Contains(got, v.Hex("payload")) {
			return 0, errors.New("the document does not have the parts")
		}
		if out := verify(v, "latchkey-trust-v1\x00"); !strings.Contains(out, "Verified OK") {
			return 0, fmt.Errorf("openssl: %s", out)
		}
		if out := verify(v, "latchkey-trust-v1"); !strings.Contains(strings.ToLower(out), "verification failure") {
			return 0, fmt.Errorf("openssl without the NUL: %s", out)
		}
		return 2, nil
	}}, "trust_list_refused", "pin", "pin_refused")
}
