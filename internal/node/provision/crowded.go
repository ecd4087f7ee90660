package provision

import (
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// crowdedEvery is how often the log says that a listener refuses connections, at most.
const crowdedEvery = time.Minute

// crowded tells of the connections that a listener closes because their source has as many open as it may. Whoever was refused sees
// no more than a connection that ends. It is safe for concurrent use.
type crowded struct {
	listener string
	count    prometheus.Counter
	log      *slog.Logger
	clock    func() time.Time

	mu    sync.Mutex
	said  time.Time // in the log; zero: never
	since int       // refused since then
}

// refused counts a connection of a source, and says so in the log where it has been silent for long enough.
func (c *crowded) refused(source string) {
	c.count.Inc()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since++
	now := c.clock()
	if !c.said.IsZero() && now.Sub(c.said) < crowdedEvery {
		return
	}
	c.log.Warn("connections refused: one source has as many open as it may; where a fleet comes through one address, raise connections-per-source",
		slog.String("listener", c.listener), slog.String("source", source), slog.Int("refused", c.since))
	c.said, c.since = now, 0
}
