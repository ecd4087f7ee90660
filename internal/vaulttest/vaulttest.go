// Package vaulttest gives tests a real Vault: a fresh one in development mode for each test that asks, on a free port of the
// loopback interface, killed at the end; or the one that VAULT_ADDR names, which may be an OpenBao, with the root token of
// VAULT_TOKEN. The log of each test says which one it was.
//
// A Vault that a test may stop, seal or look into is its own in any case: [Own] in memory, [Stored] with its data in files
// and an unseal key.
package vaulttest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// patience is how long a Vault may take to start, to end or to answer.
const patience = 30 * time.Second

// Server is a running Vault.
type Server struct {
	Address string // URL
	Token   string // of root; this Vault is for tests
	Version string // as Vault says it
	Folder  string // of our own ones: for files that Vault is to write; empty for another's

	tb          testing.TB
	args        []string
	development bool
	client      *http.Client
	unseal      string // key
	mu          sync.Mutex
	process     *exec.Cmd
	ended       chan struct{}
}

// New returns a Vault: that of VAULT_ADDR, or one of its own for the test. Mounts and roles in it are to be named by
// [Server.Name], for the first one is used by others, too. Without any the test is skipped, or fails where LATCHKEY_REQUIRE
// names vault, in a list with commas, or demands all.
func New(tb testing.TB) *Server {
	tb.Helper()
	address := os.Getenv("VAULT_ADDR")
	if address == "" {
		return Own(tb)
	}
	s := &Server{Address: address, Token: os.Getenv("VAULT_TOKEN"), tb: tb}
	if s.Token == "" {
		tb.Fatal("VAULT_ADDR is set, and VAULT_TOKEN is not: it is to be a root token of a Vault for tests")
	}
	s.identify()
	return s
}

// Own starts a Vault for this test alone, in development mode: unsealed, and everything in memory.
func Own(tb testing.TB) *Server {
	tb.Helper()
	s := &Server{tb: tb, Token: "root-" + rand.Text(), Folder: tb.TempDir(), development: true}
	listen := s.listen()
	s.args = []string{"server", "-dev", "-dev-no-store-token", "-dev-listen-address=" + listen, "-dev-root-token-id=" + s.Token}
	s.Start()
	s.identify()
	return s
}

// TLS starts a Vault as Own does, over TLS with a certificate for 127.0.0.1. It returns the file with its authority.
func TLS(tb testing.TB) (s *Server, authority string) {
	tb.Helper()
	s = &Server{tb: tb, Token: "root-" + rand.Text(), Folder: tb.TempDir(), development: true}
	listen := s.listen()
	s.Address = "https://" + listen
	s.args = []string{"server", "-dev-tls", "-dev-tls-cert-dir=" + s.Folder, "-dev-no-store-token", "-dev-listen-address=" + listen, "-dev-root-token-id=" + s.Token}
	s.Start()
	authority = filepath.Join(s.Folder, "vault-ca.pem")
	text, err := os.ReadFile(authority)
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(text) {
		tb.Fatalf("%s: %v", authority, err)
	}
	config, err := tlsconf.Outside(tlsconf.OutsideOptions{Roots: roots})
	if err != nil {
		tb.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: config}
	tb.Cleanup(transport.CloseIdleConnections)
	s.client = &http.Client{Transport: transport}
	s.identify()
	return s, authority
}

// Stored starts a Vault that keeps its data in files, and needs an unseal key after each start. It returns unsealed.
func Stored(tb testing.TB) *Server {
	tb.Helper()
	s := &Server{tb: tb, Folder: tb.TempDir()}
	cluster, listen := s.listen(), s.listen()
	data := filepath.Join(s.Folder, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		tb.Fatal(err)
	}
	config, err := json.Marshal(map[string]any{ // raft: the build of make vault has no other storage on disk
		"storage":       map[string]any{"raft": map[string]any{"path": data, "node_id": "one"}},
		"listener":      []any{map[string]any{"tcp": map[string]any{"address": listen, "cluster_address": cluster, "tls_disable": true}}},
		"api_addr":      s.Address,
		"cluster_addr":  "https://" + cluster,
		"disable_mlock": true,
	})
	if err != nil {
		tb.Fatal(err)
	}
	file := filepath.Join(s.Folder, "vault.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		tb.Fatal(err)
	}
	s.args = []string{"server", "-config=" + file}
	s.Start()
	made := s.Must("PUT", "sys/init", map[string]any{"secret_shares": 1, "secret_threshold": 1})
	s.Token, _ = made["root_token"].(string)
	keys, _ := made["keys"].([]any)
	if len(keys) == 1 {
		s.unseal, _ = keys[0].(string)
	}
	s.Unseal()
	s.identify()
	return s
}

// listen takes a free port and sets the address.
func (s *Server) listen() string {
	s.tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.tb.Fatal(err)
	}
	defer ln.Close()
	s.Address = "http://" + ln.Addr().String()
	return ln.Addr().String()
}

// Start starts the Vault, at first or after Kill, and waits until it answers. One that keeps its data in files is sealed.
func (s *Server) Start() {
	s.tb.Helper()
	binary := Program(s.tb)
	log, err := os.OpenFile(filepath.Join(s.Folder, "vault.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.tb.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(binary, s.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = []string{"HOME=" + s.Folder, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = dies()
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // it lives as long as the thread
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is killed
		}
	}()
	if err := <-started; err != nil {
		s.tb.Fatal(err)
	}
	s.mu.Lock()
	s.process, s.ended = cmd, ended
	s.mu.Unlock()
	s.tb.Cleanup(s.Kill)
	s.await(ended)
}

// await waits until the Vault answers: in development mode, until it has said its keys, for it seals itself once before.
func (s *Server) await(ended <-chan struct{}) {
	s.tb.Helper()
	deadline := time.Now().Add(patience)
	for !s.started() {
		select {
		case <-ended:
			s.tb.Fatalf("Vault ended at its start: %s", s.Log())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.tb.Fatalf("Vault does not answer at %s: %s", s.Address, s.Log())
		}
	}
}

func (s *Server) started() bool {
	if s.development {
		text, err := os.ReadFile(filepath.Join(s.Folder, "vault.log"))
		if err != nil {
			return false
		}
		key := unsealKey.FindSubmatch(text)
		if key == nil {
			return false
		}
		s.unseal = string(key[1])
		return true
	}
	resp, err := http.Get(s.Address + "/v1/sys/health?sealedcode=204&uninitcode=204")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusNoContent
}

// unsealKey is where a Vault in development mode says it; the root token stands in the next line.
var unsealKey = regexp.MustCompile(`(?m)^Unseal Key: (\S+)\nRoot Token: `)

// Kill ends the Vault at once, as kill -9 does. What it had in memory only is gone.
func (s *Server) Kill() {
	s.mu.Lock()
	cmd, ended := s.process, s.ended
	s.process = nil
	s.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Kill() // it may have ended
	<-ended
}

// Seal seals a Vault of Own or Stored.
func (s *Server) Seal() {
	s.tb.Helper()
	s.Must("PUT", "sys/seal", nil)
}

// Unseal unseals a Vault of Own or Stored.
func (s *Server) Unseal() {
	s.tb.Helper()
	s.Must("PUT", "sys/unseal", map[string]any{"key": s.unseal})
	deadline := time.Now().Add(patience)
	for !s.active() {
		if time.Now().After(deadline) {
			s.tb.Fatalf("Vault is not active after it was unsealed: %s", s.Log())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *Server) active() bool {
	resp, err := http.Get(s.Address + "/v1/sys/health")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Log returns the end of what the Vault has written to its log.
func (s *Server) Log() string {
	b, err := os.ReadFile(filepath.Join(s.Folder, "vault.log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

// identify asks what it is, and logs it.
func (s *Server) identify() {
	s.tb.Helper()
	health := s.Must("GET", "sys/health", nil)
	s.Version = fmt.Sprint(health["version"])
	where := "our own"
	if s.args == nil {
		where = "of VAULT_ADDR"
	}
	s.tb.Logf("Vault %s, %s, at %s", s.Version, where, s.Address)
}

// For returns the same Vault for a test below the one that has it.
func (s *Server) For(tb testing.TB) *Server {
	return &Server{Address: s.Address, Token: s.Token, Version: s.Version, Folder: s.Folder, tb: tb, client: s.client}
}

// Name returns a name that nobody has used in this Vault.
func (s *Server) Name(what string) string { return what + "-" + strings.ToLower(rand.Text()[:8]) }

// Must has root do something in the Vault, and returns the data of the answer, nil for none.
func (s *Server) Must(method, path string, body any) map[string]any {
	s.tb.Helper()
	data, err := s.Do(s.tb.Context(), method, path, body)
	if err != nil {
		s.tb.Fatal(err)
	}
	return data
}

// Do is Must without a test: it returns an error for everything but success.
func (s *Server) Do(ctx context.Context, method, path string, body any) (map[string]any, error) {
	return s.DoWith(ctx, nil, method, path, body)
}

// DoWith is Do with headers.
func (s *Server) DoWith(ctx context.Context, headers http.Header, method, path string, body any) (map[string]any, error) {
	var b []byte
	if body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.Address+"/v1/"+path, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Vault-Token", s.Token)
	req.Header.Set("X-Vault-Request", "true")
	maps.Copy(req.Header, headers)
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	client := s.client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return nil, fmt.Errorf("%s %s: status %d: %s", method, path, resp.StatusCode, text)
	}
	return content(text)
}

// content returns the data of an answer, or all of it where it has none apart, as those of sys/init and sys/health.
func content(text []byte) (map[string]any, error) {
	if len(text) == 0 {
		return nil, nil
	}
	var all map[string]any
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	for _, part := range []string{"data", "auth", "wrap_info"} {
		if data, ok := all[part].(map[string]any); ok {
			return data, nil
		}
	}
	return all, nil
}

// Program returns the path of the program, for tests of what starts it by itself. Without it the test is skipped or fails as
// by New.
func Program(tb testing.TB) string {
	tb.Helper()
	binary, err := find()
	if err != nil {
		absent(tb, err)
	}
	return binary
}

// find returns the program: that of make vault, or one that is installed.
func find() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		built := filepath.Join(dir, ".cache", "tools", "vault")
		if _, err := os.Stat(built); err == nil {
			return built, nil
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	for _, program := range []string{"vault", "bao"} {
		if installed, err := exec.LookPath(program); err == nil {
			return installed, nil
		}
	}
	return "", errors.New("there is no Vault: no .cache/tools/vault, no program vault or bao, and no VAULT_ADDR")
}

func absent(tb testing.TB, reason error) {
	tb.Helper()
	demands := strings.Split(os.Getenv("LATCHKEY_REQUIRE"), ",")
	if slices.Contains(demands, "vault") || slices.Contains(demands, "all") {
		tb.Fatalf("%v, and LATCHKEY_REQUIRE demands vault: make vault builds it", reason)
	}
	tb.Skipf("%v; this test needs Vault: make vault", reason)
}
