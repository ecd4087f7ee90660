package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
)

// demoOffline is what terminals may sell without their host, as the configuration of the decryption service says it.
const demoOffline = "offline: {count: 3, age: 1h, amount: 10000, currency: EUR, exponent: 2}\n"

// offlineTill is the terminal that loses its link and its power: T-TDES is stolen by then.
func (s *story) offlineTill() *till { return s.tills[1] }

// linkCut takes the link of a terminal away and sells three times. The cable stays cut.
func (s *story) linkCut(ctx context.Context) error {
	t := s.offlineTill()
	var err error
	if s.cable, err = layCable(ctx, strings.TrimPrefix(s.url, "https://")); err != nil {
		return err
	}
	if err := t.restart(s, terminal.OSFS(t.folder), 0); err != nil {
		return err
	}
	if _, err := s.signsIn(ctx, t); err != nil {
		return err
	}
	allowed := t.terminal.Queue().Limits
	if allowed == nil || allowed.Count != 3 {
		return fmt.Errorf("the host allows %+v without it, want three sales", allowed)
	}
	s.out.held("%s: the host allows it, under its MAC, %d sales of %v together without it", t.name, allowed.Count, allowed.Amount)
	s.cable.cut(true)
	if conn, err := t.line.link.Dial(ctx); err == nil {
		_ = conn.Close()
		return errors.New("a cable that is cut carries a connection")
	}
	s.out.held("the cable is cut: the link is %v", t.line.link.State())
	booked := len(s.ledger.Entries())
	for i, cents := range []int64{1999, 850, 2400} {
		p, err := t.sellOffline(euro(cents), i)
		if err != nil {
			return err
		}
		s.out.held("%s: %v without the host, message %d, KSN %s, kept", t.name, p.Amount, p.Sequence, p.KSN)
	}
	if _, err := t.sellOffline(euro(100), 0); !errors.Is(err, terminal.ErrOffline) {
		return fmt.Errorf("a fourth sale: %v, want %v", err, terminal.ErrOffline)
	}
	q := t.terminal.Queue()
	if q.Count != 3 || len(s.ledger.Entries()) != booked {
		return fmt.Errorf("%d messages wait and %d came to the ledger, want 3 and none", q.Count, len(s.ledger.Entries())-booked)
	}
	s.out.held("a fourth one is refused; %d wait, %v together, the oldest since %s", q.Count, q.Amounts[0], q.Oldest.Format(time.TimeOnly))
	return nil
}

// powerCut takes the power of the terminal away in the middle of a write to its state, and starts it again.
func (s *story) powerCut(ctx context.Context) error {
	t := s.offlineTill()
	before, next := t.terminal.Queue(), nextKSNs(t.terminal)
	medium := &brittle{FS: terminal.OSFS(t.folder), file: "slot-"}
	if err := t.restart(s, medium, 1); err != nil {
		return err
	}
	medium.armed = true
	cutting, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	if _, err := t.terminal.SignIn(cutting); !errors.Is(err, errPowerCut) {
		return fmt.Errorf("a sign-in whose power goes: %v, want %v", err, errPowerCut)
	}
	s.out.held("the power goes while %s is written: %d of %d bytes of its first copy are on the disk", medium.torn, medium.got, medium.want)
	_ = t.terminal.Close() // it is dead, and has nothing to say
	worn, err := t.wornFiles()
	if err != nil {
		return err
	}
	if worn == "" {
		return errors.New("the state is whole: nothing was torn")
	}
	s.out.line("   the doctor says    %s", worn)
	if err := t.restart(s, terminal.OSFS(t.folder), 0); err != nil {
		return fmt.Errorf("after the power cut: %w", err)
	}
	after := t.terminal.Queue()
	if after.Count != before.Count || after.Bytes != before.Bytes {
		return fmt.Errorf("%d messages wait after the power cut, want %d", after.Count, before.Count)
	}
	for slot, ksn := range nextKSNs(t.terminal) {
		if ksn < next[slot] {
			return fmt.Errorf("slot %d goes back from %s to %s", slot, next[slot], ksn)
		}
	}
	if err := t.terminal.Close(); err != nil { // a copy of its folder could not be opened meanwhile
		return err
	}
	if worn, err = t.wornFiles(); err != nil {
		return err
	}
	if worn != "" {
		return fmt.Errorf("the state is not whole again: %s", worn)
	}
	if err := t.restart(s, terminal.OSFS(t.folder), 0); err != nil {
		return err
	}
	s.out.held("it starts: the other copies were whole, all three are equal again, %d messages wait, no KSN comes twice", after.Count)
	return nil
}

// linkBack gives the link back and has what waits delivered.
func (s *story) linkBack(ctx context.Context) error {
	t := s.offlineTill()
	s.cable.cut(false)
	waiting := t.terminal.Pending()
	s.wire.take()
	var answered []uint64
	draining, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	err := t.terminal.Drain(draining, 0, func(r *terminal.SaleResult) {
		if r.Approved() {
			answered = append(answered, r.Sequence)
		}
		s.out.held("%s: message %d is answered %v under KSN %s", t.name, r.Sequence, r.Result, r.KSN)
	})
	if err != nil {
		return err
	}
	var want []uint64
	for _, p := range waiting {
		want = append(want, p.Sequence)
	}
	if !slices.Equal(answered, want) || len(want) != 3 {
		return fmt.Errorf("approved are %v, want %v, in this order", answered, want)
	}
	for _, said := range s.wire.take() {
		tx := said.transaction
		if tx == nil {
			continue
		}
		for _, f := range tx.Fields {
			secret.Wipe(f.ClearData)
		}
		if tx.CounterStatus != api.Fresh {
			return fmt.Errorf("the decryption service calls message %d %s, want %s", tx.Sequence, tx.CounterStatus, api.Fresh)
		}
		s.counts.Sales++
		s.counts.Fresh++
	}
	if err := s.checkLedger(); err != nil {
		return err
	}
	if q := t.terminal.Queue(); q.Count+q.Exceptions != 0 {
		return fmt.Errorf("%d messages wait still", q.Count+q.Exceptions)
	}
	s.out.held("all three are answered once: nothing waits, and the ledger has each of them once")
	return s.cable.close()
}

// restart closes a terminal and opens it on a medium, with its link through the cable. reserve is how many keys it makes ready.
func (t *till) restart(s *story, medium terminal.FS, reserve int) error {
	if err := t.terminal.Close(); err != nil {
		return err
	}
	t.line.link.Close()
	return t.connect(s.site, medium, reserve, "https://"+s.cable.address())
}

func (t *till) sellOffline(amount message.Amount, card int) (*terminal.Pending, error) {
	track := secret.From([]byte(testCards[card]))
	defer track.Wipe()
	return t.terminal.SaleOffline(terminal.SaleRequest{Amount: amount, Track: track})
}

// wornFiles is what the doctor says about copies of a closed terminal that are not whole; empty when all are.
func (t *till) wornFiles() (string, error) {
	medium := terminal.OSFS(t.folder)
	sealer, err := terminal.OpenInsecureFile(medium)
	if err != nil {
		return "", err
	}
	over, cancel := context.WithCancel(context.Background())
	cancel() // only what lies on the disk is asked for, not the network
	for _, c := range terminal.Diagnose(over, terminal.Options{FS: medium, Sealer: sealer}) {
		if c.Name == "state" && c.Verdict != terminal.Fine {
			return c.Detail, nil
		}
	}
	return "", nil
}

func nextKSNs(t *terminal.Terminal) map[uint8]string {
	out := make(map[uint8]string)
	for _, slot := range t.Status().Slots {
		out[slot.Number] = slot.Next.String()
	}
	return out
}

// cable is a piece of network that can be cut. It is safe for concurrent use.
type cable struct {
	listener net.Listener
	to       string

	mu     sync.Mutex
	broken bool
	open   map[net.Conn]struct{}
}

func layCable(ctx context.Context, to string) (*cable, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &cable{listener: l, to: to, open: make(map[net.Conn]struct{})}
	go func() { // ends with the listener
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go c.carry(near)
		}
	}()
	return c, nil
}

func (c *cable) address() string { return c.listener.Addr().String() }

// cut closes what the cable carries and carries nothing more, until it is mended.
func (c *cable) cut(broken bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken = broken; !broken {
		return
	}
	for conn := range c.open {
		_ = conn.Close() // that is the cut
	}
}

func (c *cable) close() error {
	c.cut(true)
	return c.listener.Close()
}

// holds keeps a connection for the cut, unless the cable is cut.
func (c *cable) holds(conns ...net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range conns {
		if c.broken {
			_ = conn.Close()
			continue
		}
		c.open[conn] = struct{}{}
	}
	return !c.broken
}

func (c *cable) carry(near net.Conn) {
	far, err := net.Dial("tcp", c.to)
	if err != nil {
		_ = near.Close()
		return
	}
	if !c.holds(near, far) {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(far, near) // its end is the end of the connection
		_ = far.Close()
	}()
	_, _ = io.Copy(near, far)
	_ = near.Close()
	<-done
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, near)
	delete(c.open, far)
}

// errPowerCut is what a medium says whose power is gone.
var errPowerCut = errors.New("the power is gone")

// brittle is a medium whose power goes in the middle of the first write to a file of a name, once it is armed.
type brittle struct {
	terminal.FS
	file      string // what its name begins with
	armed     bool
	dead      bool
	torn      string // the file that was being written
	got, want int    // bytes of the write
}

func (b *brittle) alive() error {
	if b.dead {
		return errPowerCut
	}
	return nil
}

// Create, Open, Rename, Remove and SyncDir are those of the medium as long as there is power.
func (b *brittle) Create(name string) (terminal.File, error) {
	if err := b.alive(); err != nil {
		return nil, err
	}
	f, err := b.FS.Create(name)
	return &brittleFile{f, b, name}, err
}

func (b *brittle) Open(name string) (terminal.File, error) {
	if err := b.alive(); err != nil {
		return nil, err
	}
	f, err := b.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return &brittleFile{f, b, name}, nil
}

func (b *brittle) Rename(from, to string) error {
	if err := b.alive(); err != nil {
		return err
	}
	return b.FS.Rename(from, to)
}

func (b *brittle) Remove(name string) error {
	if err := b.alive(); err != nil {
		return err
	}
	return b.FS.Remove(name)
}

func (b *brittle) SyncDir() error {
	if err := b.alive(); err != nil {
		return err
	}
	return b.FS.SyncDir()
}

type brittleFile struct {
	terminal.File
	medium *brittle
	name   string
}

// WriteAt writes the first part of what it is given when the power goes, and nothing afterwards.
func (f *brittleFile) WriteAt(p []byte, at int64) (int, error) {
	b := f.medium
	if err := b.alive(); err != nil {
		return 0, err
	}
	if !b.armed || !strings.HasPrefix(f.name, b.file) {
		return f.File.WriteAt(p, at)
	}
	b.dead, b.torn, b.want = true, f.name, len(p)
	var err error
	if b.got, err = f.File.WriteAt(p[:100], at); err != nil {
		return b.got, err
	}
	return b.got, errPowerCut
}

// Sync makes durable what was written.
func (f *brittleFile) Sync() error {
	if err := f.medium.alive(); err != nil {
		return err
	}
	return f.File.Sync()
}
