package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/pin"
)

// logged is the audit log of one daemon.
type logged struct{ database, key, checkpoint string }

// auditLog verifies the logs of the three daemons while they run, as `latchkey audit verify` does, and compares that of the
// decryption service with what was seen from outside.
func (s *story) auditLog(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	for _, l := range []logged{
		{s.database, "checkpoint.pub", checkpointFile},
		{filepath.Join(s.root, registryDatabase), "provisiond.pub", "provisiond.checkpoint"},
		{filepath.Join(s.root, keydDatabase), "keyd.pub", "keyd.checkpoint"},
	} {
		r, err := s.verifyAudit(ctx, l)
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(l.database), err)
		}
		s.leaves += r.Leaves
		s.out.held("%d leaves recomputed, %d checkpoints of %s verified, the latest covers %d; root %s", r.Leaves, r.Checkpoints,
			r.Key, r.Signed, r.Root)
	}
	if s.vault != nil {
		if err := s.vaultAudit(ctx); err != nil {
			return fmt.Errorf("vault: %w", err)
		}
	}
	refusals, err := s.readAudit(ctx)
	if err != nil {
		return err
	}
	if !maps.Equal(refusals, s.counts.Refusals) {
		return fmt.Errorf("the log has the refusals %v, the attacks got %v", refusals, s.counts.Refusals)
	}
	if s.counts.exposures, err = readDeliveries(ctx, filepath.Join(s.root, keydDatabase)); err != nil {
		return err
	}
	if err := s.checkLabels(); err != nil {
		return err
	}
	s.out.held("every refusal stands in the log with its code, and no card number does")
	return nil
}

// readDeliveries counts the deliveries of a key-distribution host by their labels.
func readDeliveries(ctx context.Context, database string) (map[string]int, error) {
	log, err := sqlite.OpenAudit(database)
	if err != nil {
		return nil, err
	}
	defer log.Close() // only read
	exposures := make(map[string]int)
	err = log.Leaves(ctx, func(l audit.Leaf) error {
		r, err := audit.ParseRecord(l.Record)
		if err == nil && r.Result == "DELIVERED" {
			exposures[r.Reason]++
		}
		return err
	})
	return exposures, err
}

// checkLabels holds what the services said about their keys to where the keys were put.
func (s *story) checkLabels() error {
	want := map[string]string{dukpt.AES.String(): engine.Software.String(), dukpt.TDES.String(): engine.Software.String()}
	if s.tokens != nil {
		want = map[string]string{dukpt.AES.String(): engine.Token.String(), dukpt.TDES.String(): engine.BDKInToken.String()}
	}
	for scheme, mode := range want {
		if got := s.counts.modes[scheme]; got != mode+", PIN exposure "+engine.HostMemory.String() {
			return fmt.Errorf("answers about %s say KeyMode %q, want %s", scheme, got, mode)
		}
	}
	if len(s.counts.exposures) != 1 || s.counts.exposures[remote.ClearInHost.String()] == 0 {
		return fmt.Errorf("deliveries are labelled %v, want all of them %v", s.counts.exposures, remote.ClearInHost)
	}
	return nil
}

// verifyAudit waits until a checkpoint covers the whole log: the service signs one each second.
func (s *story) verifyAudit(ctx context.Context, l logged) (verified, error) {
	v, err := readVerifier(filepath.Join(s.dir, "audit", l.key))
	if err != nil {
		return verified{}, err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := s.verifyOnce(ctx, l, v)
		if err != nil || r.Leaves > 0 && r.Signed == r.Leaves {
			return r, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return r, fmt.Errorf("the latest checkpoint covers %d of %d leaves", r.Signed, r.Leaves)
		}
	}
}

// verifyOnce also holds the log against the checkpoint that the service has written for shipping.
func (s *story) verifyOnce(ctx context.Context, l logged, v *audit.Verifier) (verified, error) {
	shipped := filepath.Join(s.root, l.checkpoint)
	if _, err := os.Stat(shipped); errors.Is(err, fs.ErrNotExist) { // the log is younger than a second
		return verified{}, nil
	}
	notes, err := readNotes([]string{shipped})
	if err != nil {
		return verified{}, err
	}
	return verifyLog(ctx, func() (closingSource, error) { return openFile(l.database) }, v, notes)
}

// readAudit counts the refusals by code, and looks for card numbers, which must not be there.
func (s *story) readAudit(ctx context.Context) (map[string]int, error) {
	log, err := sqlite.OpenAudit(s.database)
	if err != nil {
		return nil, err
	}
	defer log.Close() // only read
	refusals := make(map[string]int)
	err = log.Leaves(ctx, func(l audit.Leaf) error {
		r, err := audit.ParseRecord(l.Record)
		if err != nil {
			return err
		}
		if r.Result == "REFUSED" {
			refusals[r.Reason]++
		}
		return withoutCards(l.Record)
	})
	return refusals, err
}

func withoutCards(record []byte) error {
	for _, track := range testCards {
		pan, err := pin.FindPAN([]byte(track))
		if err != nil {
			return err
		}
		digits := pan.Digits()
		found := bytes.Contains(record, digits.Expose())
		pan.Wipe()
		if found {
			return errors.New("a card number stands in the log")
		}
	}
	return nil
}
