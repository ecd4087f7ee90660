package claims

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkClaim claims messages of two claims each, from 1 and from 128 callers at once. The second shares commits; the
// quotient of both is what the group commit brings.
func BenchmarkClaim(b *testing.B) {
	for _, callers := range []int{1, 128} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			db, _ := openNew(b)
			var n atomic.Uint32
			before := db.Stats()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for i := n.Add(1); i <= uint32(b.N); i = n.Add(1) {
						if _, err := db.Claim(b.Context(), claimSet(fmt.Sprint(i), i)); err != nil {
							b.Errorf("claim: %v", err)
							return
						}
					}
				})
			}
			wg.Wait()
			after := db.Stats()
			b.ReportMetric(float64(after.Calls-before.Calls)/float64(after.Commits-before.Commits), "calls/commit")
		})
	}
}
