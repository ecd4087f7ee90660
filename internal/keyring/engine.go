package keyring

import (
	"context"
	"fmt"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// Engine returns the ring as an engine. Its labels are software and host-memory. It fails with engine.ErrUnavailable
// after Close.
func (r *Ring) Engine() engine.Engine { return software{r} }

// software is the engine over a ring. A type of its own keeps Begin and its like off the ring that commands use.
type software struct{ ring *Ring }

// Begin opens the host side of one transaction.
func (s software) Begin(ctx context.Context, base keyset.KeyRef, ksn dukpt.KSN) (engine.HostOps, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.ring.mu.RLock()
	defer s.ring.mu.RUnlock()
	e, err := s.ring.find(base)
	if err != nil {
		return nil, err
	}
	return s.begin(e, ksn)
}

// BeginBatch opens one transaction for each KSN, all or none.
func (s software) BeginBatch(ctx context.Context, base keyset.KeyRef, ksns []dukpt.KSN) ([]engine.HostOps, error) {
	s.ring.mu.RLock()
	defer s.ring.mu.RUnlock()
	e, err := s.ring.find(base)
	if err != nil {
		return nil, err
	}
	out := make([]engine.HostOps, 0, len(ksns))
	for _, ksn := range ksns {
		err := ctx.Err()
		var o engine.HostOps
		if err == nil {
			o, err = s.begin(e, ksn)
		}
		if err != nil {
			for _, o := range out {
				o.End()
			}
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

// begin works on a locked ring.
func (s software) begin(e *entry, ksn dukpt.KSN) (engine.HostOps, error) {
	if e.base == nil {
		return nil, fmt.Errorf("%w: %s has usage %s, want %s", engine.ErrUsage, e.info.Ref, e.info.Attributes.Usage, keys.UsageBDK)
	}
	if ksn.IsZero() {
		return nil, fmt.Errorf("%w: no KSN", dukpt.ErrKSN)
	}
	if aes := ksn.Scheme() == dukpt.AES; aes != e.info.Attributes.Algorithm.IsAES() {
		return nil, fmt.Errorf("%w: KSN %s is not of the scheme of %s", engine.ErrUsage, ksn, e.info.Ref)
	}
	tx := s.ring.transaction()
	if err := e.base.Bind(tx, ksn); err != nil {
		return nil, err
	}
	return &ops{ring: s.ring, environment: e.info.Labels.Environment, tx: tx}, nil
}

// transaction returns one that has ended, or a new one: the room of its keys, and under TDES of its cipher, is some kilobytes.
func (r *Ring) transaction() *dukpt.HostTransaction {
	if tx, ok := r.ended.Get().(*dukpt.HostTransaction); ok {
		return tx
	}
	return dukpt.NewHostTransaction()
}

// Describe returns what is public about a key.
func (s software) Describe(ctx context.Context, ref keyset.KeyRef) (engine.KeyInfo, error) {
	if err := ctx.Err(); err != nil {
		return engine.KeyInfo{}, err
	}
	info, err := s.ring.describe(ref)
	if err != nil {
		return engine.KeyInfo{}, err
	}
	info.Ref = ref
	return info, nil
}

// Resolve returns the id of the key that ref means now.
func (s software) Resolve(ctx context.Context, ref keyset.KeyRef) (keyset.KeyRef, error) {
	info, err := s.Describe(ctx, ref)
	return info.ID, err
}

// Check computes the fingerprint of one key after another, call by call; without keys it looks at the secrets.
func (s software) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	infos := s.ring.List()
	s.ring.mu.RLock()
	defer s.ring.mu.RUnlock()
	if s.ring.closed {
		return errClosed
	}
	if len(infos) == 0 {
		if s.ring.fingerprints().Len() != keys.HMAC256.KeyBytes() {
			return fmt.Errorf("%w: secrets are gone", engine.ErrUnavailable)
		}
		return nil
	}
	info := infos[s.ring.probe.Add(1)%uint64(len(infos))]
	e, err := s.ring.find(info.ID)
	if err != nil {
		return err
	}
	if e.key.Fingerprint(s.ring.fingerprints()) != info.Fingerprint {
		return fmt.Errorf("%w: key %s is not what it was", engine.ErrUnavailable, info.Ref)
	}
	return nil
}

// ops is the host role in one transaction.
type ops struct {
	ring        *Ring
	environment keyset.Environment
	tx          *dukpt.HostTransaction // nil after End
}

func (o *ops) TranslatePIN(dst []byte, in dukpt.PINBlock, out engine.PINOut) ([]byte, error) {
	if o.tx == nil {
		return nil, engine.ErrEnded
	}
	o.ring.mu.RLock()
	defer o.ring.mu.RUnlock()
	e, err := o.ring.find(out.Key)
	if err != nil {
		return nil, err
	}
	if e.info.Attributes.Usage != keys.UsagePIN {
		return nil, fmt.Errorf("%w: %s has usage %s, want %s", engine.ErrUsage, out.Key, e.info.Attributes.Usage, keys.UsagePIN)
	}
	if e.info.Labels.Environment != o.environment {
		return nil, fmt.Errorf("%w: %s is a %v key, the base key is of %v", engine.ErrUsage, out.Key, e.info.Labels.Environment, o.environment)
	}
	return o.tx.TranslatePIN(dst, in, dukpt.PINTarget{Format: out.Format, PAN: out.PAN, Key: e.key, Fill: out.Fill})
}

func (o *ops) DecryptData(dst []byte, s dukpt.DataSpec, ct []byte) ([]byte, error) {
	if o.tx == nil {
		return nil, engine.ErrEnded
	}
	return o.tx.DecryptData(dst, s, ct)
}

func (o *ops) VerifyMAC(s dukpt.MACSpec, msg, mac []byte) error {
	if o.tx == nil {
		return engine.ErrEnded
	}
	return o.tx.VerifyMAC(s, msg, mac)
}

func (o *ops) MACResponse(dst []byte, s dukpt.MACSpec, msg []byte) ([]byte, error) {
	if o.tx == nil {
		return nil, engine.ErrEnded
	}
	return o.tx.MACResponse(dst, s, msg)
}

func (o *ops) EncryptResponse(dst []byte, s dukpt.DataSpec, plain []byte) ([]byte, error) {
	if o.tx == nil {
		return nil, engine.ErrEnded
	}
	return o.tx.EncryptResponse(dst, s, plain)
}

func (o *ops) End() {
	if o.tx != nil {
		o.tx.End()
		o.ring.ended.Put(o.tx)
		o.tx = nil
	}
}
