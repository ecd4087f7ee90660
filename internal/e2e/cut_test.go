package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// rightAgain is how long a follower may take to have everything right once its authority is ready again: it waits before it tries
// again, and what it learns then is as fast as ever.
const rightAgain = 15 * time.Second

// twins are two registration authorities on one PostgreSQL, a decryption service that follows the first, another that follows the
// second, and the example acquirer, which follows the first: all of them processes.
type twins struct {
	*payments
	authorities [2]*service
	hosts       [2]*service
	clients     [2]*api.Client
}

func newTwins(t *testing.T, planted ...string) *twins {
	t.Helper()
	w := &twins{payments: &payments{authority: newAuthority(t)}}
	w.authorities = w.pair(t, w.onPostgres(t))
	w.keyd.start(t, binaries.shipped)
	t.Cleanup(w.keyd.end)
	for i, a := range w.authorities {
		a.args = []string{"--keyd", "https://" + w.keyd.doors["listen"]}
		a.start(t, binaries.shipped)
		w.hosts[i], w.clients[i] = w.startHost(t, fmt.Sprintf("host-%d", i+1), a.doors["services"])
	}
	w.decryptd, w.host = w.hosts[0], w.clients[0]
	w.startAcquirer(t, planted...)
	return w
}

// adminAt administers at one of the authorities.
func (w *twins) adminAt(i int) *admin.Client {
	return admin.NewClient("https://"+w.authorities[i].doors["services"], w.operator)
}

// doomed is a terminal that is to be cut off, with everything that has to be cut.
type doomed struct {
	id        keyset.TerminalID
	sale      []byte
	acquirer  *tls.Config    // how it comes to the acquirer
	authority *tls.Config    // how it comes to the registration authorities
	open      []*tls.Conn    // one to the acquirer, one to each authority
	ended     chan time.Time // when each has ended
}

// newDoomed enrols a terminal, has it sell, and opens its connections. Everybody serves it.
func (w *twins) newDoomed(t *testing.T, id keyset.TerminalID, scheme dukpt.Scheme) *doomed {
	t.Helper()
	box, sale := w.sell(t, id, scheme)
	v := &doomed{id: id, sale: sale, acquirer: w.showing(t, box), ended: make(chan time.Time, 3)}
	var err error
	v.authority, err = tlsconf.Client(tlsconf.ClientOptions{
		Credential: box.Credential(), Trust: w.trust, ServerRole: identity.RA, ServerName: "127.0.0.1", Gate: tlsconf.OpenGate(),
	})
	check(t, err)
	keep := func(conn *tls.Conn, err error) {
		t.Helper()
		check(t, err)
		v.open = append(v.open, conn)
		t.Cleanup(func() { _ = conn.Close() })
		go func() {
			_, _ = conn.Read(make([]byte, 1)) // nothing comes: it returns when the connection ends
			v.ended <- time.Now()
		}()
	}
	keep(w.knock(v.acquirer))
	for i, a := range w.authorities {
		keep(w.admitted(v.authority, a.doors["terminals"]))
		w.begun(t, i, v)
	}
	return v
}

// admitted is knockAt an authority that may not have seen yet what the other has decided.
func (w *twins) admitted(config *tls.Config, addr string) (conn *tls.Conn, err error) {
	for deadline := time.Now().Add(rightAgain); ; time.Sleep(10 * time.Millisecond) {
		if conn, err = w.knockAt(config, addr); err == nil || time.Now().After(deadline) {
			return conn, err
		}
	}
}

// begun waits until a host serves a terminal: one that has not seen its sign-in hears of it through the authority.
func (w *twins) begun(t *testing.T, host int, v *doomed) {
	t.Helper()
	for deadline := time.Now().Add(rightAgain); ; time.Sleep(10 * time.Millisecond) {
		_, err := w.clients[host].Transaction(t.Context(), api.TransactionRequest{Message: v.sale})
		if err == nil {
			return
		}
		if refusal, ok := errors.AsType[*api.Error](err); !ok || refusal.Code != "TerminalNotActive" && refusal.Code != "TerminalUnknown" || time.Now().After(deadline) {
			t.Fatalf("host %d does not answer %s before it is revoked: %v", host+1, v.id, err)
		}
	}
}

// answered reports whether a host answers the sale of a terminal, and not that it was revoked.
func (w *twins) answered(t *testing.T, host int, v *doomed) bool {
	t.Helper()
	_, err := w.clients[host].Transaction(t.Context(), api.TransactionRequest{Message: v.sale})
	if refusal, ok := errors.AsType[*api.Error](err); ok && (refusal.Code == "TerminalRevoked" || refusal.Code == "ResendCapReached") {
		return refusal.Code != "TerminalRevoked" // it was asked often, and is told so
	}
	check(t, err)
	return true
}

// revoke revokes a terminal at one of the authorities, and returns when that was begun.
func (w *twins) revoke(t *testing.T, at int, v *doomed) time.Time {
	t.Helper()
	begin := time.Now()
	_, err := w.adminAt(at).Do(t.Context(), admin.Operation{Action: "revoke", Terminal: string(v.id), Reason: "test"})
	check(t, err)
	return begin
}

// refusedAnew reports whether a new connection is refused.
func (w *twins) refusedAnew(config *tls.Config, addr string) bool {
	fresh := config.Clone()
	fresh.ClientSessionCache = nil
	conn, err := w.knockAt(fresh, addr)
	if err == nil {
		_ = conn.Close()
	}
	return err != nil
}

// TestCutOfTwo revokes terminals at either of two authorities that share a database: every listener of both, of two decryption
// services and of the acquirer closes its doors within two seconds. Then the authority that the acquirer and one service follow is
// away while the other revokes: when it is back, they have everything right with the next connection.
func TestCutOfTwo(t *testing.T) {
	f := chosen()
	w := newTwins(t)
	stays := w.newBystander(t)
	took := make(map[string][]time.Duration)
	for i := range f.cuts {
		v := w.newDoomed(t, keyset.TerminalID(fmt.Sprintf("T-%04d", i)), []dukpt.Scheme{dukpt.AES, dukpt.TDES}[i%2])
		begin := w.revoke(t, i%2, v)
		w.closed(t, took, begin, v)
		if err := stays.served(t); err != nil {
			t.Errorf("after the revocation of %s a terminal that nobody revoked is shut out too: %v", v.id, err)
		}
	}
	report(t, took, 4, cutWithin, f.cuts)

	var away []*doomed
	for i := range 3 {
		away = append(away, w.newDoomed(t, keyset.TerminalID(fmt.Sprintf("T-AWAY-%d", i)), dukpt.AES))
	}
	w.authorities[0].kill()
	for _, v := range away {
		begin := w.revoke(t, 1, v)
		until(t, begin, "KSNs at the host of the other authority", func() bool { return !w.answered(t, 1, v) })
	}
	for _, v := range away {
		if !w.answered(t, 0, v) || w.refusedAnew(v.acquirer, w.acquirer[len("https://"):]) {
			t.Fatalf("%s is refused by those who cannot know: the outage shows nothing", v.id)
		}
	}
	w.authorities[0].start(t, binaries.shipped)
	back := time.Now()
	again := make(map[string][]time.Duration)
	for _, v := range away {
		for door, refused := range map[string]func() bool{
			"KSNs at the host after an outage":          func() bool { return !w.answered(t, 0, v) },
			"handshake at the acquirer after an outage": func() bool { return w.refusedAnew(v.acquirer, w.acquirer[len("https://"):]) },
		} {
			for !refused() {
				if time.Since(back) > rightAgain {
					t.Fatalf("%s of %s: not after %v", door, v.id, time.Since(back))
				}
				time.Sleep(5 * time.Millisecond) // polling with a deadline
			}
			again[door] = append(again[door], time.Since(back))
		}
	}
	report(t, again, 2, rightAgain, len(away))
	for _, v := range away {
		for range v.open { // that to the authority ended with it
			select {
			case <-v.ended:
			case <-time.After(cutWithin):
				t.Errorf("%s: a connection that was open in the outage is open after it", v.id)
			}
		}
		if !w.refusedAnew(v.authority, w.authorities[0].doors["terminals"]) {
			t.Errorf("%s: the authority that was away admits it", v.id)
		}
	}
	if err := stays.served(t); err != nil {
		t.Errorf("after the outage a terminal that nobody revoked is shut out too: %v", err)
	}
	for _, s := range []*service{w.hosts[0], w.hosts[1], w.authorities[0], w.authorities[1], w.keyd} {
		s.stop(t)
	}
}

// closed measures when every door is closed to a terminal.
func (w *twins) closed(t *testing.T, took map[string][]time.Duration, begin time.Time, v *doomed) {
	t.Helper()
	for range v.open {
		select {
		case at := <-v.ended:
			took["open connections"] = append(took["open connections"], at.Sub(begin))
		case <-time.After(cutWithin):
			t.Errorf("%s: an open connection is open after %v", v.id, cutWithin)
		}
	}
	measure := func(door string, refused func() bool) {
		took[door] = append(took[door], until(t, begin, door, refused))
	}
	measure("handshakes at the acquirer", func() bool { return w.refusedAnew(v.acquirer, w.acquirer[len("https://"):]) })
	for i, a := range w.authorities {
		measure("handshakes at the authorities", func() bool { return w.refusedAnew(v.authority, a.doors["terminals"]) })
		measure("KSNs at the hosts", func() bool { return !w.answered(t, i, v) })
	}
}

// report prints how long doors were open, of so many terminals at least.
func report(t *testing.T, took map[string][]time.Duration, doors int, most time.Duration, least int) {
	t.Helper()
	if len(took) != doors {
		t.Errorf("%d doors were looked at, want %d", len(took), doors)
	}
	for door, all := range took {
		times := slices.Sorted(slices.Values(all))
		if len(times) < least {
			t.Fatalf("%s: %d of %d measured", door, len(times), least)
		}
		t.Logf("%s: closed after %v in the median, %v at most, of %d", door, times[len(times)/2].Round(time.Millisecond),
			times[len(times)-1].Round(time.Millisecond), len(times))
		if times[len(times)-1] > most {
			t.Errorf("%s: %v, want at most %v", door, times[len(times)-1], most)
		}
	}
}

// TestPlantedFeedGate has an acquirer that admits whom the feed has revoked: its door stays open, where the test looks for it.
func TestPlantedFeedGate(t *testing.T) {
	w := newTwins(t, "guard.feed-gate")
	v := w.newDoomed(t, "T-0001", dukpt.AES)
	begin := w.revoke(t, 1, v)
	until(t, begin, "KSNs at the hosts", func() bool { return !w.answered(t, 0, v) && !w.answered(t, 1, v) })
	time.Sleep(time.Until(begin.Add(cutWithin)))
	if w.refusedAnew(v.acquirer, w.acquirer[len("https://"):]) {
		t.Error("the acquirer refuses it although its gate is planted open")
	}
}
