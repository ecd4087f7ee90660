package hsm

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/latchkey-pos/latchkey/keys"
)

// soaking reports whether the long figures are wanted.
func soaking() bool { return os.Getenv("LATCHKEY_SOAK") != "" }

// resident returns the bytes of this process that are in memory, 0 where the system does not say.
func resident() int {
	text, err := os.ReadFile("/proc/self/statm")
	fields := bytes.Fields(text)
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.Atoi(string(fields[1])) // 0 where it is no number
	return pages * os.Getpagesize()
}

// ours returns the bytes that the Go side of this process uses.
func ours() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// TestGrowth makes many derivations. Objects and sessions stay as many as they are, and so does the memory of this side; what
// grows is the module, until it is finalised: the same work again, after that, finds the memory there. It is not parallel:
// it measures the process.
func TestGrowth(t *testing.T) {
	derivations := uint64(2000)
	if soaking() {
		derivations = 200_000
	}
	u, till := hsmURI(t), newTill(t, keys.AES128, "1234567890123456")
	loading := openAgain(t, u, Options{})
	base := put(t, loading, keys.AES128)
	if err := loading.Close(); err != nil {
		t.Fatal(err)
	}
	var grown [2]int
	for round := range grown {
		o, faults := withFaults(Options{}, nil)
		token := openAgain(t, u, o)
		f, e := *faults, token.Engine()
		verify := func() {
			if err := till.send(t).verify(t, e, base); err != nil {
				t.Fatal(err)
			}
		}
		for range 100 {
			verify()
		}
		sessions, _, _ := f.live()
		first, memory, heap := token.Stats().Derivations, resident(), ours()
		for token.Stats().Derivations-first < derivations {
			verify()
			if n, objects, most := f.live(); n != sessions || most != sessions || objects != token.Stats().CachedKeys || objects > 17 {
				t.Fatalf("%d sessions, %d at most, were %d; %d objects, %d cached", n, most, sessions, objects, token.Stats().CachedKeys)
			}
		}
		heap = ours() - heap
		grown[round] = resident() - memory
		if heap > 4<<20 {
			t.Errorf("the Go side grew by %d bytes", heap)
		}
		if err := token.Close(); err != nil { // of the last token: the module is finalised
			t.Fatal(err)
		}
		t.Logf("%d derivations: the process grew by %d bytes for each, the Go side by %d in all; from %d KiB to %d, %d after C_Finalize",
			derivations, grown[round]/int(derivations), heap, memory>>10, (memory+grown[round])>>10, resident()>>10)
	}
	// What C_Finalize frees stays with the allocator of the process, and the second round finds it there.
	if soaking() && grown[1] > grown[0]/2 {
		t.Errorf("the process grew by %d bytes, and by %d again after C_Finalize: the module did not free it", grown[0], grown[1])
	}
	if soaking() && grown[0] > 400*int(derivations) {
		t.Errorf("the process grew by %d bytes in %d derivations: that is not SoftHSM's leak alone", grown[0], derivations)
	}
}
