package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/internal/sample"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// cutWithin is how long a revocation may take to reach every listener that follows the feed.
const cutWithin = 2 * time.Second

// operate asks for an operation as the first operator and expects it done.
func (s *story) operate(ctx context.Context, op admin.Operation) (*admin.Terminal, error) {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	out, err := s.admin.Do(ctx, op)
	if err != nil {
		return nil, err
	}
	if out.Terminal == nil {
		return nil, fmt.Errorf("%s %s waits for approval in a test deployment", op.Action, op.Terminal)
	}
	return out.Terminal, nil
}

// heldTerminals blocks T-AES, and has T-TDES quarantined: both stay connected and their sales are held, until an operator says
// otherwise.
func (s *story) heldTerminals(ctx context.Context) error {
	if err := s.blockedTerminal(ctx); err != nil {
		return err
	}
	return s.quarantinedTerminal(ctx)
}

// blockedTerminal blocks T-AES: it stays connected and its sale is held; unblocked, the same message goes through.
func (s *story) blockedTerminal(ctx context.Context) error {
	t := s.tills[1]
	if _, err := s.operate(ctx, admin.Operation{Action: "block", Terminal: string(t.name), Reason: "demonstration"}); err != nil {
		return err
	}
	if err := s.settled(ctx, t.name, keyset.StatusBlocked); err != nil {
		return err
	}
	waiting, err := s.heldSale(ctx, t, decrypt.CodeTerminalBlocked)
	if err != nil {
		return err
	}
	sent := t.line.sent
	if _, err := s.operate(ctx, admin.Operation{Action: "unblock", Terminal: string(t.name)}); err != nil {
		return err
	}
	if err := s.settled(ctx, t.name, keyset.StatusActive); err != nil {
		return err
	}
	return s.redeliver(ctx, t, waiting, sent)
}

// quarantinedTerminal has the twin of T-TDES speak once more: the honest terminal is held as if it were blocked. Nobody can
// tell from outside which of the two is the terminal.
func (s *story) quarantinedTerminal(ctx context.Context) error {
	t := s.tills[0]
	m, err := message.Parse(t.sales[1].sent)
	if err != nil {
		return err
	}
	raw, err := t.otherCard(m)
	if err != nil {
		return err
	}
	s.out.line("%s: its twin uses keys a second time; nobody can tell which of the two is the terminal", t.name)
	if err := s.refused(ctx, t, raw, decrypt.CodeKSNReplayed); err != nil {
		return err
	}
	if err := s.quarantined(ctx, t); err != nil {
		return err
	}
	waiting, err := s.heldSale(ctx, t, decrypt.CodeTerminalQuarantined)
	if err != nil {
		return err
	}
	sent := t.line.sent
	if err := s.released(ctx, t); err != nil {
		return err
	}
	return s.redeliver(ctx, t, waiting, sent)
}

// settled waits until the decryption service has a terminal in a status, and says so.
func (s *story) settled(ctx context.Context, name keyset.TerminalID, status keyset.Status) error {
	took, err := s.becomes(ctx, time.Now(), name, status)
	if err != nil {
		return err
	}
	s.out.line("%s is %s at the decryption service after %d ms", name, status, took.Milliseconds())
	return nil
}

// becomes waits until the decryption service has a terminal in a status, and returns how long that took since begin. It asks
// there, not at the registry.
func (s *story) becomes(ctx context.Context, begin time.Time, name keyset.TerminalID, status keyset.Status) (time.Duration, error) {
	for {
		c, err := s.client.Counters(ctx, string(name))
		if err != nil {
			return 0, err
		}
		took := time.Since(begin)
		if c.Status == status.String() {
			return took, nil
		}
		if took > cutWithin {
			return 0, fmt.Errorf("after %v the decryption service still has %s as %s, want %s", took, name, c.Status, status)
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d): // polling with a deadline
		return nil
	}
}

// renewAndRekey renews the certificate of T-AES and gives it new keys, then sells under them.
func (s *story) renewAndRekey(ctx context.Context) error {
	t := s.tills[1]
	before := t.terminal.Status()
	renewing, cancel := context.WithTimeout(ctx, demoTimeout)
	err := t.terminal.Renew(renewing)
	cancel()
	if err != nil {
		return fmt.Errorf("renewal: %w", err)
	}
	after := t.terminal.Status()
	if after.Serial == before.Serial {
		return errors.New("the renewal left the old certificate in place")
	}
	if err := s.registered(ctx, t.name, "active", after.Serial); err != nil {
		return err
	}
	t.line.link.Close() // the next connection shows the new certificate
	s.out.held("%s: certificate %s follows %s, which is admitted for a day more", t.name, after.Serial, before.Serial)
	if _, err := s.operate(ctx, admin.Operation{Action: "rekey", Terminal: string(t.name), Reason: "demonstration"}); err != nil {
		return err
	}
	rekeying, cancel := context.WithTimeout(ctx, demoTimeout)
	err = t.terminal.Rekey(rekeying)
	cancel()
	if err != nil {
		return fmt.Errorf("rekey: %w", err)
	}
	s.counts.SignIns++
	if err := s.showRekey(ctx, t, before); err != nil {
		return err
	}
	if err := t.recopy(s.site); err != nil {
		return err
	}
	sale, err := t.sell(ctx, s.site, euro(1500), 2)
	if err != nil {
		return err
	}
	s.counts.sold(sale.took)
	s.showSale(t, sale)
	return s.checkLedger()
}

// showRekey compares the keys of the terminal before and after with what the registry says.
func (s *story) showRekey(ctx context.Context, t *till, before terminal.Status) error {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	row, err := s.admin.Terminal(ctx, string(t.name))
	if err != nil {
		return err
	}
	states := make(map[string]string)
	for _, slot := range row.Slots {
		for _, k := range slot.Keys {
			states[k.KeyID] = k.State
		}
	}
	rows := [][]string{{"SLOT", "KEY ID", "BEFORE", "KEY ID", "NOW"}}
	for i, slot := range t.terminal.Status().Slots {
		old, now := before.Slots[i].Slot.KeyID.String(), slot.Slot.KeyID.String()
		if old == now || states[old] != "draining" || states[now] != "active" {
			return fmt.Errorf("slot %d: %s is %s, %s is %s; want draining and active", slot.Slot.Number, old, states[old], now, states[now])
		}
		rows = append(rows, []string{fmt.Sprint(slot.Slot.Number), old, states[old], now, states[now]})
	}
	s.out.table(rows...)
	return nil
}

// thief has the terminal with its certificate and everything that an open connection gives.
type thief struct {
	config *tls.Config
	addr   string
	open   *tls.Conn
	ended  chan time.Time // when the open connection ended
}

// newThief connects as the terminal does, with a session cache of its own, and leaves the connection open.
func newThief(ctx context.Context, s *site, t *till) (*thief, error) {
	trust, err := s.deployment.Trust()
	if err != nil {
		return nil, err
	}
	config, err := tlsconf.Client(tlsconf.ClientOptions{
		Credential: t.terminal.Credential(), Trust: trust, ServerRole: identity.AcquirerHost, ServerName: "127.0.0.1", Gate: tlsconf.OpenGate(),
	})
	if err != nil {
		return nil, err
	}
	config.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	x := &thief{config: config, addr: s.url[len("https://"):], ended: make(chan time.Time, 1)}
	if x.open, err = x.knock(ctx, config); err != nil {
		return nil, fmt.Errorf("before the theft is reported: %w", err)
	}
	again, err := x.knock(ctx, config) // shows that sessions are resumed, and fills the cache once more
	if err != nil {
		return nil, err
	}
	resumed := again.ConnectionState().DidResume
	_ = again.Close() // only looked at
	if !resumed {
		return nil, errors.New("the acquirer's host resumes no session, so nothing would be shown")
	}
	go func() {
		_, _ = x.open.Read(make([]byte, 1)) // nothing comes any more: it returns when the connection ends
		x.ended <- time.Now()
	}()
	return x, nil
}

// knock makes a connection and one request on it. An error means that the acquirer's host did not answer.
func (x *thief) knock(ctx context.Context, config *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, cutWithin)
	defer cancel()
	raw, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", x.addr)
	if err != nil {
		return nil, err
	}
	conn := raw.(*tls.Conn) // that is what a tls.Dialer makes
	if err := conn.SetDeadline(time.Now().Add(cutWithin)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+x.addr+"/messages", nil)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := req.Write(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, errors.Join(resp.Body.Close(), conn.SetDeadline(time.Time{}))
}

// refusedWithin tries until a door stays closed, and returns how long that took since begin.
func (x *thief) refusedWithin(ctx context.Context, begin time.Time, config *tls.Config) (time.Duration, error) {
	for {
		conn, err := x.knock(ctx, config)
		took := time.Since(begin)
		if err != nil {
			return took, nil
		}
		_ = conn.Close() // only looked at
		if took > cutWithin {
			return took, errors.New("still let in")
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return took, err
		}
	}
}

// stolenTerminal revokes T-TDES while a thief has a connection open, and times every door.
func (s *story) stolenTerminal(ctx context.Context) error {
	t := s.tills[0]
	x, err := newThief(ctx, s.site, t)
	if err != nil {
		return err
	}
	defer x.open.Close()
	serial := t.terminal.Status().Serial
	s.out.line("a thief has %s, its certificate %s, and a connection open to the acquirer", t.name, serial)
	begin := time.Now()
	row, err := s.operate(ctx, admin.Operation{Action: "revoke", Terminal: string(t.name), Reason: "stolen"})
	if err != nil {
		return err
	}
	s.out.line("the operator revokes it: %d ms, status %s", time.Since(begin).Milliseconds(), row.Status)
	rows := [][]string{{"DOOR", "CLOSED AFTER"}}
	for _, door := range []struct {
		name string
		wait func() (time.Duration, error)
	}{
		{"the open connection to the acquirer", func() (time.Duration, error) { return x.cut(begin) }},
		{"a resumed handshake", func() (time.Duration, error) { return x.refusedWithin(ctx, begin, x.config) }},
		{"a new handshake", func() (time.Duration, error) {
			fresh := x.config.Clone()
			fresh.ClientSessionCache = nil
			return x.refusedWithin(ctx, begin, fresh)
		}},
		{"its KSNs at the host", func() (time.Duration, error) { return s.hostRefuses(ctx, begin, t) }},
		{"the registration authority", func() (time.Duration, error) { return s.authorityRefuses(ctx, begin, t) }},
	} {
		took, err := door.wait()
		if err == nil && took > cutWithin {
			err = fmt.Errorf("closed after %v", took)
		}
		if err != nil {
			return fmt.Errorf("%s: %w, want it closed within %v", door.name, err, cutWithin)
		}
		rows = append(rows, []string{door.name, fmt.Sprintf("%d ms", took.Milliseconds())})
		s.cuts = max(s.cuts, took)
	}
	s.out.table(rows...)
	return s.revoked(ctx, t, serial)
}

// cut waits for the end of the open connection.
func (x *thief) cut(begin time.Time) (time.Duration, error) {
	select {
	case at := <-x.ended:
		return at.Sub(begin), nil
	case <-time.After(cutWithin): // the limit itself
		return cutWithin, fmt.Errorf("still open after %v", cutWithin)
	}
}

// hostRefuses has the acquirer present messages of the stolen terminal, a new one and one that was answered before, until
// the decryption service refuses both.
func (s *story) hostRefuses(ctx context.Context, begin time.Time, t *till) (time.Duration, error) {
	data, block := t.next()
	p, err := t.payload(data, block, 0, 0)
	if err != nil {
		return 0, err
	}
	fresh, err := t.rogue.Message(p, sample.DataSlot, data)
	if err != nil {
		return 0, err
	}
	for _, raw := range [][]byte{t.sales[0].sent, fresh} {
		if err := s.presented(ctx, begin, raw); err != nil {
			return 0, err
		}
	}
	return time.Since(begin), nil
}

// presented hands a message to the decryption service as the acquirer does, until it is refused.
func (s *story) presented(ctx context.Context, begin time.Time, raw []byte) error {
	defer s.wire.take()
	for {
		tx, err := s.client.Transaction(ctx, api.TransactionRequest{Message: raw})
		if refusal, ok := errors.AsType[*api.Error](err); ok {
			if refusal.Code != string(decrypt.CodeTerminalRevoked) {
				return fmt.Errorf("refused with %s, want %s", refusal.Code, decrypt.CodeTerminalRevoked)
			}
			s.counts.refused(refusal.Code)
			return nil
		}
		if err != nil {
			return err
		}
		for _, f := range tx.Fields {
			secret.Wipe(f.ClearData)
		}
		if time.Since(begin) > cutWithin {
			return fmt.Errorf("still answered (%s)", tx.CounterStatus)
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}

// authorityRefuses has the thief ask for a new certificate.
func (s *story) authorityRefuses(ctx context.Context, begin time.Time, t *till) (time.Duration, error) {
	for {
		attempt, cancel := context.WithTimeout(ctx, cutWithin)
		err := t.terminal.Renew(attempt)
		cancel()
		took := time.Since(begin)
		if tlsconf.Alert(err) { // any other failure is no answer
			return took, nil
		}
		if took > cutWithin {
			return took, errors.Join(errors.New("does not refuse the certificate"), err)
		}
	}
}

var errSignedIn = errors.New("signed in")

// revoked looks at what is left: the status, and the revocation list for those who do not follow the feed.
func (s *story) revoked(ctx context.Context, t *till, serial string) error {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	all, err := s.admin.Certificates(ctx)
	if err != nil {
		return err
	}
	state := ""
	for _, c := range all {
		if c.Serial == serial {
			state = c.State
		}
	}
	if state != "revoked" {
		return fmt.Errorf("certificate %s is %q, want revoked", serial, state)
	}
	if _, err := t.terminal.SignIn(ctx); !errors.Is(err, terminal.ErrCertificateRefused) {
		return fmt.Errorf("%s signs in although it is revoked, or ends with another error: %w", t.name, cmp.Or(err, errSignedIn))
	}
	s.out.held("%s is out: certificate %s revoked, no listener lets it in, and its KSNs are refused, answered ones too", t.name, serial)
	return nil
}
