package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
	"github.com/latchkey-pos/latchkey/pin"
)

// auditLog verifies the log of the decryption service while it runs, and compares it with what was seen from outside.
func (s *story) auditLog(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	report, err := s.verifyAudit(ctx)
	if err != nil {
		return err
	}
	s.leaves = report.Size
	s.out.held("%d leaves recomputed, %d checkpoints verified, the latest covers %d; root %v", report.Size, report.Checkpoints,
		report.Signed, report.Root)
	refusals, err := s.readAudit(ctx)
	if err != nil {
		return err
	}
	for code, n := range s.counts.Refusals {
		if refusals[code] != n {
			return fmt.Errorf("the log has %d refusals %s, the attacks got %d", refusals[code], code, n)
		}
	}
	s.out.held("every refusal stands in the log with its code, and no card number does")
	return nil
}

// verifyAudit waits until a checkpoint covers the whole log: the service signs one each second.
func (s *story) verifyAudit(ctx context.Context) (audit.Report, error) {
	text, err := s.deployment.CheckpointVerifier()
	if err != nil {
		return audit.Report{}, err
	}
	verifier, err := audit.NewVerifier(text)
	if err != nil {
		return audit.Report{}, err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		report, err := s.verifyOnce(ctx, verifier)
		if err != nil || report.Size > 0 && report.Signed == report.Size {
			return report, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return report, fmt.Errorf("the latest checkpoint covers %d of %d leaves", report.Signed, report.Size)
		}
	}
}

func (s *story) verifyOnce(ctx context.Context, v *audit.Verifier) (audit.Report, error) {
	log, err := sqlite.OpenAudit(s.database)
	if err != nil {
		return audit.Report{}, err
	}
	defer log.Close() // only read
	shipped, err := os.ReadFile(filepath.Join(s.root, checkpointFile))
	if errors.Is(err, os.ErrNotExist) { // none yet: the log is younger than a second
		return audit.Report{}, nil
	}
	if err != nil {
		return audit.Report{}, err
	}
	return audit.Verify(ctx, log, v, shipped)
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
