package hsm

import (
	"context"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// outside is the host role in one transaction whose key is in the memory of the process, because the token cannot derive it.
// The zone key of a translation is in the token all the same.
type outside struct {
	token       *Token
	environment keyset.Environment
	tx          *dukpt.HostTransaction // nil after End
}

// ready refuses work after End, and while the token is closed.
func (o *outside) ready() error {
	if o.tx == nil {
		return engine.ErrEnded
	}
	return o.token.open()
}

func (o *outside) TranslatePIN(dst []byte, in dukpt.PINBlock, out engine.PINOut) ([]byte, error) {
	if err := o.ready(); err != nil {
		return dst, err
	}
	var made []byte
	err := o.token.use(context.Background(), func(c *connection, l *lease) error {
		zone, err := c.keys.Load().zone(out.Key, o.environment)
		if err != nil {
			return err
		}
		under := newBlock(c, l, zone.object, zone.info.Attributes.Algorithm.IsTDES())
		made, err = o.tx.TranslatePIN(nil, in, dukpt.PINTarget{Format: out.Format, PAN: out.PAN, Cipher: under, Fill: out.Fill})
		if under.err != nil && !planted.On(planted.TokenErrorIgnored) {
			return under.err
		}
		return err
	})
	if err != nil {
		return dst, unsupported(err)
	}
	return append(dst, made...), nil
}

func (o *outside) DecryptData(dst []byte, s dukpt.DataSpec, ct []byte) ([]byte, error) {
	if err := o.ready(); err != nil {
		return dst, err
	}
	return o.tx.DecryptData(dst, s, ct)
}

func (o *outside) VerifyMAC(s dukpt.MACSpec, msg, mac []byte) error {
	if err := o.ready(); err != nil {
		return err
	}
	return o.tx.VerifyMAC(s, msg, mac)
}

func (o *outside) MACResponse(dst []byte, s dukpt.MACSpec, msg []byte) ([]byte, error) {
	if err := o.ready(); err != nil {
		return dst, err
	}
	return o.tx.MACResponse(dst, s, msg)
}

func (o *outside) EncryptResponse(dst []byte, s dukpt.DataSpec, plain []byte) ([]byte, error) {
	if err := o.ready(); err != nil {
		return dst, err
	}
	return o.tx.EncryptResponse(dst, s, plain)
}

func (o *outside) End() {
	if o.tx != nil {
		o.tx.End()
		o.tx = nil
	}
}
