//go:build planted

package planted

import (
	"os"
	"strings"
	"sync"
)

// Built reports whether this binary can carry planted faults. It can: it is for tests only.
const Built = true

var (
	mu     sync.RWMutex
	active = fromEnvironment(os.Getenv("LATCHKEY_PLANTED"))
)

func fromEnvironment(list string) map[Name]bool {
	set := make(map[Name]bool)
	for name := range strings.SplitSeq(list, ",") {
		if name != "" {
			set[Name(name)] = true
		}
	}
	return set
}

// On reports whether the named fault is switched on.
func On(n Name) bool {
	mu.RLock()
	defer mu.RUnlock()
	return active[n]
}

// Set switches exactly the named faults on, and every other one off.
func Set(names ...Name) {
	mu.Lock()
	defer mu.Unlock()
	active = make(map[Name]bool)
	for _, n := range names {
		active[n] = true
	}
}
