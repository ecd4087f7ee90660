package remote_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"

	"github.com/latchkey-pos/latchkey/keys/remote"
)

// TestExporter wants one value at both ends of a connection, and another one of the next.
func TestExporter(t *testing.T) {
	t.Parallel()
	values := make(map[[remote.NonceSize]byte]bool)
	for range 2 {
		client, server := connected(t, tls.VersionTLS13)
		here, err := remote.Exporter(client)
		check(t, err)
		there, err := remote.Exporter(server)
		check(t, err)
		if here != there || here == [remote.NonceSize]byte{} {
			t.Errorf("%x at one end, %x at the other", here, there)
		}
		want, err := client.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
		check(t, err)
		if [32]byte(want) != here {
			t.Errorf("%x, want %x", here, want)
		}
		values[here] = true
	}
	if len(values) != 2 {
		t.Error("two connections have one value")
	}
}

func TestExporterNeedsTLS13(t *testing.T) {
	t.Parallel()
	old, _ := connected(t, tls.VersionTLS12)
	for name, cs := range map[string]*tls.ConnectionState{
		"plain HTTP": nil, "an unfinished handshake": {Version: tls.VersionTLS13}, "TLS 1.2": old,
	} {
		if v, err := remote.Exporter(cs); err == nil || v != [remote.NonceSize]byte{} {
			t.Errorf("%s: %x, %v, want an error", name, v, err)
		}
	}
}

// connected makes a connection of a version of TLS and returns how it looks at both ends.
func connected(t *testing.T, version uint16) (client, server *tls.ConnectionState) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"host"}, NotBefore: noon, NotAfter: noon.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(t, err)
	a, b := net.Pipe()
	host := tls.Server(b, &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: version, MaxVersion: version,
	})
	guest := tls.Client(a, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	done := make(chan error, 1)
	go func() { done <- host.HandshakeContext(t.Context()) }()
	check(t, guest.HandshakeContext(t.Context()))
	check(t, <-done)
	at, there := guest.ConnectionState(), host.ConnectionState()
	return &at, &there
}
