package storetest

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Rate has callers do n things together, each with a number of its own from first on, and returns how many they did in a second.
func Rate(t testing.TB, callers, n int, first int64, do func(caller int, i int64) error) float64 {
	t.Helper()
	var next atomic.Int64
	begun := time.Now()
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if err := do(c, first+i); err != nil {
					t.Errorf("%d: %v", first+i, err)
					return
				}
			}
		})
	}
	all.Wait()
	return float64(n) / time.Since(begun).Seconds()
}
