package hsm

import (
	"context"
	"fmt"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// carriage is how a token takes in a block as a key wrapped by ECB, to give it out under another key: the clear block stays
// inside. The probe finds it.
type carriage uint8

const (
	carriesNot         carriage = iota
	carriesPlain                // with a template that does not say whether the block can be extracted
	carriesExtractable          // with one that says so
)

// template is that of the block while it is a key. It may do nothing but leave under another key.
func (c carriage) template() []attribute {
	t := withoutExtractable(secretTemplate(typeGeneric, false))
	if c == carriesExtractable {
		t = append(t, flag(attrExtractable, true))
	}
	return t
}

// carriageOf returns how blocks of this size are carried.
func (s shape) carriageOf(tdes bool) carriage {
	if tdes {
		return s.carriesDES3
	}
	return s.carriesAES
}

// The uses of the keys that carry: of the PIN key of a transaction, whose blocks of format 4 have their outer encipherment undone
// by it, and of a zone key, which puts it on again and is recognised by what it encrypts.
var (
	carryZone = []use{useEncrypt, useWrap}
	carryAES  = []use{useDecrypt, useUnwrap}
	carryDES3 = []use{useUnwrap}
)

// CheckCarry reports what keeps PIN blocks of base keys in mode token from passing to these zone keys with the clear block
// inside: Options.CarryPINs is not set, the token has not shown that it derives and carries, or a zone key may not wrap. It is
// for callers who would rather do without PINs than have them in host memory. Errors wrap ErrCarry, engine.ErrKeyNotFound,
// engine.ErrUsage or engine.ErrUnavailable.
func (t *Token) CheckCarry(ctx context.Context, zones ...keyset.KeyRef) error {
	c, err := t.current(ctx)
	if err != nil {
		return err
	}
	if !t.options.CarryPINs {
		return fmt.Errorf("%w: it is not wanted", ErrCarry)
	}
	for _, check := range t.report.Checks {
		if (check.Name == CheckDerive || check.Name == CheckBlockWrap) && !check.OK {
			return fmt.Errorf("%w: %s: %s", ErrCarry, check.Name, check.Why)
		}
	}
	for _, ref := range zones {
		e, err := c.keys.Load().pinKey(ref)
		switch {
		case err != nil:
			return err
		case !e.wraps:
			return fmt.Errorf("%w: %s may not wrap: it was loaded without that", ErrCarry, ref)
		case e.info.Attributes.Algorithm.IsTDES() && t.shape.carriesDES3 == carriesNot:
			return fmt.Errorf("%w: %s is of TDES, under which the token carries nothing", ErrCarry, ref)
		}
	}
	return nil
}

// carry moves a PIN block from the key of the transaction to a zone key as a wrapped key, and fails for everything that would
// need a clear block: it is not looked at, so that one which does not open becomes one which does not open.
func (o *inside) carry(dst []byte, in dukpt.PINBlock, out engine.PINOut, zone *entry, step step) ([]byte, error) {
	tdes := step.Key.Algorithm().IsTDES()
	way := o.token.shape.carriageOf(tdes)
	switch {
	case in.Format != out.Format:
		return dst, fmt.Errorf("%w: from %v to %v without a clear PIN block", dukpt.ErrUnsupported, in.Format, out.Format)
	case way == carriesNot:
		return dst, fmt.Errorf("%w: a block of %v cannot be carried in this token", dukpt.ErrUnsupported, in.Format)
	case !zone.wraps:
		return dst, fmt.Errorf("%w: %s may not wrap: load it again with PIN blocks carried", engine.ErrUsage, out.Key)
	}
	uses, code := carryAES, uint(mechAESECB)
	if tdes {
		uses, code = carryDES3, mechDES3ECB
	}
	var made []byte
	err := o.underFor(step, uses, func(c *connection, l *lease, key object) error {
		zone, err := c.keys.Load().zone(out.Key, o.environment) // handles are those of this connection
		if err != nil {
			return err
		}
		if !zone.wraps {
			return fmt.Errorf("%w: %s may not wrap", engine.ErrUsage, out.Key)
		}
		w := carrier{device: c.device, lease: l, connection: c, mechanism: mechanism{code: code}, template: way.template()}
		made, err = w.carry(key, zone.object, in, out.PAN)
		return err
	})
	if err != nil {
		return dst, err
	}
	return append(dst, made...), nil
}

// carrier carries one block in a session.
type carrier struct {
	device     cryptoki
	lease      *lease
	connection *connection
	mechanism  mechanism
	template   []attribute
}

// carry returns the block as it is under the other key. What passes through the host is enciphered, or a PAN field.
func (w carrier) carry(from, to object, in dukpt.PINBlock, pan pin.PAN) ([]byte, error) {
	s, size := w.lease.session, len(in.Block)
	block := in.Block
	if size == pin.Format4.BlockSize() { // the outer encipherment, which is over the PAN field
		outer, err := w.device.decrypt(s, w.mechanism, from, block)
		if err := whole(outer, size, err); err != nil {
			return nil, err
		}
		if err := in.Format.XORPANField(outer, in.PAN); err != nil {
			return nil, err
		}
		block = outer
	}
	carried, err := w.device.unwrapKey(s, w.mechanism, from, block, w.template)
	if err != nil {
		return nil, err
	}
	defer w.lease.destroy(w.connection, carried)
	made, err := w.device.wrapKey(s, w.mechanism, to, carried)
	if err := whole(made, size, err); err != nil {
		return nil, err
	}
	if size == pin.Format4.BlockSize() {
		if err := in.Format.XORPANField(made, pan); err != nil {
			return nil, err
		}
		made, err = w.device.encrypt(s, w.mechanism, to, made)
		if err := whole(made, size, err); err != nil {
			return nil, err
		}
	}
	return made, nil
}
