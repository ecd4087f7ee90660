package feed_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/feed"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// An authority that publishes one terminal, and a listener that follows it and asks who may come in.
func Example() {
	d := newDeployment()
	defer d.server.Close()

	// The authority signs a record, and a head that says where the feed stands.
	record := &feed.Record{Epoch: 1, Sequence: 1, Kind: feed.KindTerminal, Issuer: "RA-1", Terminal: keyset.Terminal{
		Version: keyset.FormatVersion, Tenant: "ACME", ID: "T-1", Serial: "0a0b", Status: keyset.StatusActive, Generation: 1,
	}}
	envelope, hash, err := feed.SignRecord(record, d.cert, d.signer)
	if err != nil {
		panic(err)
	}
	records := [][]byte{envelope}
	head, err := feed.SignHead(&feed.Head{
		Tenant: "ACME", Epoch: 1, Sequence: 1, Hash: hash, Objects: 1, Snapshot: feed.SnapshotDigest(records), Time: time.Now().Truncate(time.Millisecond),
	}, d.cert, d.signer)
	if err != nil {
		panic(err)
	}
	d.page = &feed.Page{Head: head, Snapshot: true, Records: records, Chain: d.chain}

	// The listener follows. Its tls.Config and tlsconf.Connections take the follower as their gate.
	follower, err := feed.New(feed.Options{URLs: []string{d.url}, Client: d.client, Services: d.trust.Services, Tenant: "ACME"})
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	go func() { _ = follower.Run(ctx) }() // ends with ctx
	if err := follower.WaitFor(ctx, 1, 1); err != nil {
		panic(err)
	}
	known := identity.Identity{Tenant: "ACME", Role: identity.Terminal, Name: "T-1"}
	fmt.Println(follower.Admit(known, "0a0b"))
	fmt.Println(follower.Admit(known, "0c"))
	// Output:
	// <nil>
	// feed: not the current certificate of the terminal
}

// deployment is an authority with its certificates, on a port of this machine.
type deployment struct {
	trust  tlsconf.Trust
	cert   []byte
	chain  [][]byte
	signer *ecdsa.PrivateKey
	server *httptest.Server
	url    string
	client *http.Client
	page   *feed.Page
}

func newDeployment() *deployment {
	services, err := catest.NewFake(identity.ServicesCA, catest.Twist{}, time.Now)
	if err != nil {
		panic(err)
	}
	d := &deployment{trust: tlsconf.Trust{Services: x509.NewCertPool()}}
	d.trust.Services.AddCert(services.Chain()[1])
	authority, key := certify(services, identity.RA, "RA-1")
	d.cert, d.chain, d.signer = authority.Leaf().Raw, [][]byte{services.Chain()[0].Raw}, key
	listen, err := tlsconf.Server(tlsconf.ServerOptions{
		Credential: authority, Trust: d.trust, Accept: []identity.Role{identity.AcquirerHost}, Gate: tlsconf.OpenGate(),
	})
	if err != nil {
		panic(err)
	}
	host, _ := certify(services, identity.AcquirerHost, "HOST-1")
	call, err := tlsconf.Client(tlsconf.ClientOptions{
		Credential: host, Trust: d.trust, ServerRole: identity.RA, ServerName: "localhost", Gate: tlsconf.OpenGate(),
	})
	if err != nil {
		panic(err)
	}
	d.client = &http.Client{Transport: &http.Transport{TLSClientConfig: call}}
	d.server = httptest.NewUnstartedServer(d)
	d.server.Listener = tls.NewListener(d.server.Listener, listen)
	d.server.Start()
	d.url = "https://" + d.server.Listener.Addr().String()
	return d
}

// ServeHTTP answers with what there is, without waiting for something new as an authority would.
func (d *deployment) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	body, err := d.page.Marshal()
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", feed.ContentType)
	_, _ = w.Write(body)
}

func certify(issuer ca.Issuer, role identity.Role, name string) (*tlsconf.Credential, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	issued, err := issuer.Issue(context.Background(), ca.Request{
		PublicKey: key.Public(), Identity: identity.Identity{Tenant: "ACME", Role: role, Name: name}, DNSNames: []string{"localhost"},
		IPs: []net.IP{net.IPv4(127, 0, 0, 1)},
	})
	if err != nil {
		panic(err)
	}
	cert := tls.Certificate{PrivateKey: key}
	for _, c := range issued {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	credential, err := tlsconf.NewCredential(cert)
	if err != nil {
		panic(err)
	}
	return credential, key
}
