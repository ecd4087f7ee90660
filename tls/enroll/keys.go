package enroll

import (
	"context"
	"crypto/tls"

	"github.com/latchkey-pos/latchkey/keys/remote"
)

// Assignment asks what is set up for the terminal.
func (c *Client) Assignment(ctx context.Context) (*remote.Assignment, error) {
	if c.cred == nil {
		return nil, errVisitor
	}
	a, err := c.get(ctx, pathAssignment)
	if err != nil {
		return nil, err
	}
	as, err := remote.ParseAssignment(a.body)
	if err != nil {
		return nil, unacceptable("%v", err)
	}
	if string(as.Tenant) != c.id.Tenant || string(as.Terminal) != c.id.Name {
		return nil, unacceptable("the assignment is for another terminal")
	}
	return as, nil
}

// Key fetches an initial key. The delivery is sound in form and not verified: that is remote.Open, which takes the nonce of
// the request and the exporter value returned here. The latter is of the very connection that the delivery came over.
func (c *Client) Key(ctx context.Context, r *remote.Request) (*remote.Delivery, [remote.NonceSize]byte, error) {
	var none [remote.NonceSize]byte
	if c.cred == nil {
		return nil, none, errVisitor
	}
	body, err := r.Marshal()
	if err != nil {
		return nil, none, err
	}
	a, err := c.post(ctx, pathKeys, typeCBOR, body)
	if err != nil {
		return nil, none, err
	}
	value, err := exporter(a.tls)
	if err != nil {
		return nil, none, err
	}
	d, err := remote.ParseDelivery(a.body)
	if err != nil {
		return nil, none, unacceptable("%v", err)
	}
	return d, value, nil
}

// exporter returns the value that stands for a connection.
func exporter(cs *tls.ConnectionState) ([remote.NonceSize]byte, error) {
	value, err := remote.Exporter(cs)
	if err != nil {
		return value, unacceptable("%v", err)
	}
	return value, nil
}
