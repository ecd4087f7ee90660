// Package e2e runs whole programs over real sockets and disks.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	_ "github.com/latchkey-pos/latchkey/internal/seal/sealtest" // what these tests make themselves; the programs seal at the cost that ships
)

// figures are how much the fault tests do. The soak does more of the same.
type figures struct {
	kills        int           // kill -9 of the decryption service
	inFlight     int           // requests at least under way at each
	workers      int           // of each acquirer
	lostAnswers  int           // claims at least that were durable and whose answer was never sent
	resends      int           // sales at least that were settled by a message of type resend
	killAfter    time.Duration // at most, from when enough is under way
	plantedKills int           // at most, until the planted bug is caught

	enrolmentKills int // kill -9 of the registration authority and the key-distribution host
	enrolling      int // enrolments at least under way at each
	enrolled       int // terminals at least that enrolled, and second keys tried
	vaultKills     int // kill -9 of two registration authorities, the key-distribution host, and the PostgreSQL and the Vault behind them; a multiple of 5
	revocations    int // terminals that are revoked while they are connected
	cuts           int // the same, at either of two authorities

	orphanKills int // kill -9 of a registration authority that takes its time to keep what was signed

	keyIDKills int // kill -9 of the key-distribution host while it is given orders for keys
	ordering   int // orders at least under way at each
	delivered  int // keys at least that were delivered and opened

	clusterKills int // kill -9 of two decryption services and of the PostgreSQL they share
	failOvers    int // times that its standby takes the place of the primary, besides
	settled      int // honest sales at least that were answered meanwhile
	contested    int // KSNs at least that two contents were sent under at once, one to each service
}

var (
	ciFigures = figures{kills: 12, inFlight: 20, workers: 16, lostAnswers: 5, resends: 20, killAfter: 400 * time.Millisecond, plantedKills: 40,
		orphanKills: 8, enrolmentKills: 50, enrolling: 4, enrolled: 50, vaultKills: 50, revocations: 12, cuts: 20,
		keyIDKills: 15, ordering: 8, delivered: 300,
		clusterKills: 60, failOvers: 2, settled: 1000, contested: 200}
	soakFigures = figures{kills: 300, inFlight: 20, workers: 16, lostAnswers: 150, resends: 500, killAfter: 800 * time.Millisecond, plantedKills: 100,
		orphanKills: 80, enrolmentKills: 500, enrolling: 4, enrolled: 500, vaultKills: 500, revocations: 100, cuts: 100,
		keyIDKills: 200, ordering: 8, delivered: 4000,
		clusterKills: 1000, failOvers: 20, settled: 20_000, contested: 4000}
)

func chosen() figures {
	if os.Getenv("LATCHKEY_SOAK") != "" {
		return soakFigures
	}
	return ciFigures
}

// crowd has many work at once. What it returns ends them and waits until they have ended.
func crowd(t *testing.T, size int, work func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range size {
		all.Go(func() { work(ctx) })
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// binaries are the programs under test: as they ship, and with the tag that allows planted faults.
var binaries struct{ shipped, planted string }

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if flag.Parse(); *echo != "" {
		fmt.Fprintln(os.Stderr, serveEcho(*echo))
		return 1
	}
	dir, err := os.MkdirTemp("", "latchkey-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries.shipped, binaries.planted = filepath.Join(dir, "shipped"), filepath.Join(dir, "planted")
	for out, tags := range map[string]string{binaries.shipped: "", binaries.planted: "planted"} {
		if err := os.MkdirAll(out, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		cmd := exec.Command("go", "build", "-tags", tags, "-trimpath", "-ldflags", "-s -w", "-o", out+"/", "../../cmd/...", "../../examples/...")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if b, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build with tags %q: %v\n%s", tags, err, b)
			return 1
		}
	}
	return m.Run()
}
