package est_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/tls/est"
)

// openssl runs the program of that name: it is the client that others have.
func openssl(t *testing.T, input []byte, args ...string) []byte {
	t.Helper()
	testvec.Program(t, "openssl")
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Stdin = bytes.NewReader(input)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, complaint.Bytes())
	}
	return out.Bytes()
}

// keyFile writes a private key as openssl reads it.
func keyFile(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "key.der")
	if err := os.WriteFile(name, der, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestOpenSSLRequests sends what a shell script would: openssl req, then openssl base64.
func TestOpenSSLRequests(t *testing.T) {
	t.Parallel()
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		key := newKey(curve)
		file := keyFile(t, key)
		current := certificate(t, key, terminal, pkix.Name{Organization: []string{"ACME"}, CommonName: "T-0001"})
		for name, c := range map[string]struct {
			args  []string
			first bool // good for a first enrolment only
		}{
			"subject":          {[]string{"-subj", "/O=ACME/CN=T-0001"}, false},
			"SHA-512":          {[]string{"-subj", "/O=ACME/CN=T-0001", "-sha512"}, false},
			"alternative name": {[]string{"-subj", "/O=ACME/CN=T-0001", "-addext", "subjectAltName=URI:" + uri}, false},
			"no subject":       {[]string{"-subj", "/"}, true},
			"usages": {[]string{"-subj", "/CN=T-0001", "-addext", "basicConstraints=critical,CA:FALSE", "-addext",
				"keyUsage=critical,digitalSignature", "-addext", "extendedKeyUsage=clientAuth"}, true},
		} {
			t.Run(curve.Params().Name+" "+name, func(t *testing.T) {
				t.Parallel()
				args := append([]string{"req", "-new", "-key", file, "-keyform", "DER", "-outform", "DER"}, c.args...)
				der, err := est.DecodeRequest(openssl(t, openssl(t, nil, args...), "base64"))
				if err != nil {
					t.Fatal(err)
				}
				got, err := est.CheckRequest(der, est.Policy{Identity: terminal})
				if err != nil || !key.PublicKey.Equal(got) {
					t.Errorf("first enrolment: %v, %v", got, err)
				}
				if _, err := est.CheckRequest(der, est.Policy{Identity: terminal, Current: current}); (err != nil) != c.first {
					t.Errorf("re-enrolment: %v", err)
				}
			})
		}
		for name, ext := range map[string]string{
			badSAN: "subjectAltName=URI:" + uri + ",DNS:evil.example", badBC: "basicConstraints=CA:TRUE",
			badKU: "keyUsage=keyCertSign", badEKU: "extendedKeyUsage=serverAuth", badExtension: "subjectKeyIdentifier=hash",
		} {
			t.Run(curve.Params().Name+" "+name, func(t *testing.T) {
				t.Parallel()
				der := openssl(t, nil, "req", "-new", "-key", file, "-keyform", "DER", "-outform", "DER", "-subj", "/O=ACME/CN=T-0001", "-addext", ext)
				refuses(t, der, est.Policy{Identity: terminal}, name)
			})
		}
	}
}

// TestOpenSSLReadsOurs has openssl read, and verify, what this package writes.
func TestOpenSSLReadsOurs(t *testing.T) {
	t.Parallel()
	key := newKey(elliptic.P256())
	der, err := est.NewRequest(key, terminal)
	if err != nil {
		t.Fatal(err)
	}
	for _, ending := range []string{"\n", "\r\n"} {
		body := bytes.ReplaceAll(est.EncodeRequest(der), []byte("\n"), []byte(ending))
		text := openssl(t, openssl(t, body, "base64", "-d"), "req", "-inform", "DER", "-noout", "-text", "-verify", "-nameopt", "RFC2253")
		for _, want := range []string{"CN=T-0001,O=ACME", "URI:" + uri, "NIST CURVE: P-256"} {
			if !strings.Contains(string(text), want) {
				t.Errorf("%q is not in %s", want, text)
			}
		}
		certs := []*x509.Certificate{
			certificate(t, key, terminal, pkix.Name{CommonName: "ONE"}), certificate(t, key, terminal, pkix.Name{CommonName: "TWO"}),
		}
		body, err := est.EncodeCerts(certs)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.ReplaceAll(body, []byte("\n"), []byte(ending))
		printed := string(openssl(t, openssl(t, body, "base64", "-d"), "pkcs7", "-inform", "DER", "-print_certs"))
		if i, j := strings.Index(printed, "CN = ONE"), strings.Index(printed, "CN = TWO"); i < 0 || j < i {
			t.Errorf("openssl prints %s", printed)
		}
	}
	attributes, err := est.Attributes(elliptic.P384())
	if err != nil {
		t.Fatal(err)
	}
	text := string(openssl(t, openssl(t, est.EncodeRequest(attributes), "base64", "-d"), "asn1parse", "-inform", "DER"))
	if !strings.Contains(text, ":id-ecPublicKey") || !strings.Contains(text, ":secp384r1") {
		t.Errorf("openssl prints %s", text)
	}
}

// TestWeReadOpenSSL reads the answer of an authority that is a shell script.
func TestWeReadOpenSSL(t *testing.T) {
	t.Parallel()
	cert := certificate(t, newKey(elliptic.P256()), terminal, pkix.Name{CommonName: "T-0001"})
	name := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(name, openssl(t, cert.Raw, "x509", "-inform", "DER"), 0o600); err != nil {
		t.Fatal(err)
	}
	body := openssl(t, openssl(t, nil, "crl2pkcs7", "-nocrl", "-certfile", name, "-certfile", name, "-outform", "DER"), "base64")
	got, err := est.DecodeCerts(body)
	if err != nil || len(got) != 2 || !got[0].Equal(cert) || !got[1].Equal(cert) {
		t.Errorf("got %v, %v", got, err)
	}
}
