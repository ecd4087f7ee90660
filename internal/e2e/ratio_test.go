package e2e

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/terminal/rogue"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

var (
	// ratios asks for comparisons in time, which are no part of the tests: make bench-host.
	ratios = flag.Bool("ratios", false, "compare times, and fail beyond the targets")
	// echo has the test binary be the server that the decryption service is compared with.
	echo = flag.String("echo", "", "be an echo with the credential of the decryption service of this deployment")
)

// echoed is what the echo says, padded to the size that was asked for.
type echoed struct {
	Message []byte
	Size    int    `json:",omitempty"`
	Pad     string `json:",omitempty"`
}

// serveEcho is an empty server over the same mutual TLS: it reads JSON, and writes JSON of a size.
func serveEcho(dir string) error {
	d, err := deploy.Open(dir, secret.From([]byte(passphraseText)))
	if err != nil {
		return err
	}
	defer d.Close()
	cert, err := d.ServiceCredential(deploy.ServiceDecrypt)
	if err != nil {
		return err
	}
	credential, err := tlsconf.NewCredential(cert)
	if err != nil {
		return err
	}
	trust, err := d.Trust()
	if err != nil {
		return err
	}
	config, err := tlsconf.Server(tlsconf.ServerOptions{
		Credential: credential, Trust: trust, Accept: []identity.Role{identity.AcquirerHost}, Gate: tlsconf.OpenGate(),
	})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	pad := strings.Repeat("x", 1<<20)
	server := &http.Server{TLSConfig: config, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in echoed
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(echoed{Pad: pad[:in.Size]})
	})}
	return server.ServeTLS(l, "", "")
}

// startEcho runs the echo in a process of its own, and returns where it is and its number.
func startEcho(t *testing.T, s *site) (addr string, pid int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-echo", s.dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line := make([]byte, 64)
	n, err := out.Read(line)
	check(t, err)
	return strings.TrimSpace(string(line[:n])), cmd.Process.Pid
}

// spent is the processor time of a process so far.
func spent(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	check(t, err)
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, err := strconv.Atoi(f[11])
	check(t, err)
	system, err := strconv.Atoi(f[12])
	check(t, err)
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// each does n things with 32 callers at once.
func each(t *testing.T, n int, do func(i int) error) {
	t.Helper()
	work := make(chan int, n)
	for i := range n {
		work <- i
	}
	close(work)
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			for i := range work {
				if err := do(i); err != nil {
					t.Errorf("%d: %v", i, err)
				}
			}
		})
	}
	all.Wait()
}

// bench is the decryption service that ships beside an echo, each in a process of its own.
type bench struct {
	t             *testing.T
	client        *api.Client
	plain         *http.Client
	echo          string
	service, base int // processes
	size          int // of an answer
}

// echoes has the echo answer n times, and returns its processor time for each.
func (b *bench) echoes(sales []*sale) float64 {
	before := spent(b.t, b.base)
	each(b.t, len(sales), func(i int) error {
		body, err := json.Marshal(echoed{Message: sales[i].raw, Size: b.size})
		if err != nil {
			return err
		}
		res, err := b.plain.Post(b.echo, "application/json", bytes.NewReader(body))
		if err != nil {
			return err
		}
		defer res.Body.Close()
		_, err = io.Copy(io.Discard, res.Body)
		return err
	})
	return float64(spent(b.t, b.base)-before) / float64(len(sales))
}

func (b *bench) transactions(sales []*sale) float64 {
	before := spent(b.t, b.service)
	each(b.t, len(sales), func(i int) error {
		_, err := b.client.Transaction(b.t.Context(), api.TransactionRequest{Message: sales[i].raw})
		return err
	})
	return float64(spent(b.t, b.service)-before) / float64(len(sales))
}

func (b *bench) batches(sales []*sale) float64 {
	before := spent(b.t, b.service)
	for some := range slices.Chunk(sales, api.MaxBatch) {
		var req api.BatchRequest
		for _, one := range some {
			req.Transactions = append(req.Transactions, api.TransactionRequest{Message: one.raw})
		}
		res, err := b.client.Batch(b.t.Context(), req)
		check(b.t, err)
		for _, r := range res.Results {
			if r.Error != nil {
				b.t.Fatal(r.Error)
			}
		}
	}
	return float64(spent(b.t, b.service)-before) / float64(len(sales))
}

// TestHostRatios compares the processor time of the decryption service for each durable answer, and for each in a batch, with that of an
// empty server over the same TLS. AES, keys in software, claims and audit log in SQLite.
func TestHostRatios(t *testing.T) {
	if !*ratios {
		t.Skip("with -ratios only: make bench-host")
	}
	const rounds, each, batched = 5, 2000, 4000
	s := newSite(t, 40)
	var aes []*rogue.Terminal
	for i, r := range s.terminals {
		if i%4 != 3 { // those are TDES
			aes = append(aes, r)
		}
	}
	s.terminals = aes
	service := s.start(t, binaries.shipped)
	defer service.stop(t)
	addr, pid := startEcho(t, s)
	config, err := tlsconf.Client(tlsconf.ClientOptions{
		Credential: s.credentials[acquirers[0]], Trust: s.trust, ServerRole: identity.Decrypt, Gate: tlsconf.OpenGate(),
	})
	check(t, err)
	transport := &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 64}
	defer transport.CloseIdleConnections()
	b := &bench{
		t: t, client: s.client(t, acquirers[0], service.doors["listen"]), plain: &http.Client{Transport: transport}, echo: "https://" + addr,
		service: service.cmd.Process.Pid, base: pid,
	}
	next := uint32(1)
	sales := func(n int) []*sale {
		out := makeSales(t, s, n, next)
		next += 2 * uint32((n+len(s.terminals)-1)/len(s.terminals))
		return out
	}
	first := sales(64)
	res, err := b.client.Transaction(t.Context(), api.TransactionRequest{Message: first[0].raw})
	check(t, err)
	whole, err := json.Marshal(res)
	check(t, err)
	b.size = len(whole) - len(`{"Message":null,"Pad":""}`)
	b.echoes(first)
	b.transactions(first[1:])
	var one, item []float64
	var base, alone, together float64
	for range rounds {
		e, a, m := b.echoes(sales(each)), b.transactions(sales(each)), b.batches(sales(batched))
		base, alone, together = base+e/rounds, alone+a/rounds, together+m/rounds
		one, item = append(one, a/e), append(item, m/e)
	}
	slices.Sort(one)
	slices.Sort(item)
	for _, row := range []struct {
		name              string
		ratio, most, took float64
	}{
		{"AES, software: processor time of a durable answer to an echo", one[rounds/2], 1.5, alone},
		{"AES, software: the same of an item of a batch", item[rounds/2], 0.15, together},
	} {
		fmt.Printf("%-58s %10.2f %10s   (%.0f us and %.0f us; %d bytes there, %d back)\n", row.name, row.ratio, fmt.Sprintf("<= %.2f", row.most), row.took/1000, base/1000,
			len(first[0].raw), len(whole))
		if row.ratio > row.most {
			t.Errorf("%s: %.2f, want %.2f", row.name, row.ratio, row.most)
		}
	}
}
