package deploy

import (
	"context"
	"crypto"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// Person is someone who signs documents, with certificate and key. It prints the identity only.
type Person struct {
	id     identity.Identity
	cert   tls.Certificate
	signer crypto.Signer
}

// Identity returns who the person is.
func (p *Person) Identity() identity.Identity { return p.id }

// TLS returns certificate and key for connections as this person.
func (p *Person) TLS() tls.Certificate { return p.cert }

// Sign makes a signed document of a payload.
func (p *Person) Sign(kind string, payload []byte) ([]byte, error) {
	return keyset.Sign(kind, payload, p.cert.Leaf.Raw, p.signer)
}

// AddSignature adds the person's signature to a document that others have signed. Read the document before.
func (p *Person) AddSignature(doc []byte) ([]byte, error) {
	return keyset.AddSignature(doc, p.cert.Leaf.Raw, p.signer)
}

// Sign makes a document of a payload that all the people sign; there is at least one.
func Sign(people []*Person, kind string, payload []byte) ([]byte, error) {
	doc, err := people[0].Sign(kind, payload)
	if err != nil {
		return nil, err
	}
	for _, p := range people[1:] {
		if doc, err = p.AddSignature(doc); err != nil {
			return nil, err
		}
	}
	return doc, nil
}

// Format prints the identity, whatever the verb.
func (p *Person) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, p.text()) }

// LogValue logs the identity.
func (p *Person) LogValue() slog.Value { return slog.StringValue(p.text()) }

// MarshalText gives encoders the identity.
func (p *Person) MarshalText() ([]byte, error) { return []byte(p.text()), nil }

func (p *Person) text() string {
	if p == nil {
		return "deploy.Person(none)"
	}
	return "deploy.Person(" + p.id.String() + ")"
}

// Operator opens the certificate and key of one of the people in operators/, under the passphrase of the deployment.
func (d *Deployment) Operator(name string) (*Person, error) {
	return d.person(name, d.passphrase)
}

// AddPerson certifies a further operator, custodian or auditor, with a key sealed under a passphrase of their own, which
// the caller keeps. The name must be new.
func (d *Deployment) AddPerson(ctx context.Context, role identity.Role, name string, passphrase secret.Bytes) (*Person, error) {
	if role != identity.Operator && role != identity.Custodian && role != identity.Auditor {
		return nil, fmt.Errorf("deploy: role %s is not a person's", role)
	}
	id, err := identity.New(string(d.config.Tenant), role, name)
	if err != nil {
		return nil, err
	}
	issuer, err := d.Issuer(identity.ServicesCA)
	if err != nil {
		return nil, err
	}
	folder := personFolder(d.dir, name)
	if err := vacant(folder); err != nil {
		return nil, err
	}
	if err := writeCredential(ctx, folder, issuer, ca.Request{Identity: id}, passphrase); err != nil {
		return nil, err
	}
	return d.person(name, passphrase)
}

// AddOperator is AddPerson with a key that is sealed under the passphrase of the deployment, as Operator opens it.
func (d *Deployment) AddOperator(ctx context.Context, role identity.Role, name string) (*Person, error) {
	return d.AddPerson(ctx, role, name, d.passphrase)
}

// OpenPerson is Operator for someone whose key is sealed under another passphrase than the deployment's.
func (d *Deployment) OpenPerson(name string, passphrase secret.Bytes) (*Person, error) {
	return d.person(name, passphrase)
}

// PersonFiles returns where the deployment in a folder keeps the certificate of a person, and the sealed key to it. It refuses what
// is no name before it becomes a path.
func PersonFiles(dir, name string) (certificate, key string, err error) {
	if _, err := identity.New("X", identity.Operator, name); err != nil {
		return "", "", err
	}
	folder := personFolder(dir, name)
	return filepath.Join(folder, certFile), filepath.Join(folder, keyFile), nil
}

func personFolder(dir, name string) string { return filepath.Join(dir, "operators", name) }

func (d *Deployment) person(name string, passphrase secret.Bytes) (*Person, error) {
	certificate, key, err := PersonFiles(d.dir, name)
	if err != nil {
		return nil, err
	}
	cert, err := Credential(certificate, key, passphrase)
	if err != nil {
		return nil, err
	}
	id, err := identity.FromCertificate(cert.Leaf)
	if err != nil {
		return nil, err
	}
	if id.Name != name || id.Tenant != string(d.config.Tenant) {
		return nil, fmt.Errorf("deploy: the certificate in %s is of %v", filepath.Dir(certificate), id)
	}
	return &Person{id: id, cert: cert, signer: cert.PrivateKey.(crypto.Signer)}, nil // Credential has checked the type
}
