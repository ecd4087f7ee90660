package dukpt

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"
)

// wholeLife reports whether a test may take a TDES terminal through its million keys.
func wholeLife() bool { return !testing.Short() && !raceEnabled }

// digests remembers what digestOfKeys found, because the vectors are run more than once.
var digests sync.Map

// digestOfKeys takes a terminal through n keys as a program does, in full batches, and hashes the keys.
func digestOfKeys(id KeyID, ik []byte, n int) ([]byte, error) {
	name := fmt.Sprintf("%v %X %d", id, sha256.Sum256(ik), n)
	once, _ := digests.LoadOrStore(name, sync.OnceValues(func() ([]byte, error) {
		k, err := testInitialKey(id, ik)
		if err != nil {
			return nil, err
		}
		return walk(k, n)
	}))
	return once.(func() ([]byte, error))()
}

func walk(ik *InitialKey, n int) ([]byte, error) {
	t, err := NewTerminal(ik)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	tx := NewTransaction()
	for i := range n {
		if t.Available() == 0 {
			if err := t.Reserve(MaxReserve, discard); err != nil {
				return nil, err
			}
		}
		if err := t.Next(tx); err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		h.Write(tx.s.key())
		tx.End()
	}
	return h.Sum(nil), nil
}
