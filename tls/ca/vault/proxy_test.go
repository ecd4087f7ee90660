package vault_test

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// proxy stands in front of a real Vault, counts what is asked, and does faults to it.
type proxy struct {
	*httptest.Server
	vault string

	mu     sync.Mutex
	fault  fault
	counts map[string]int // requests, by the end of their path
	inside int            // requests at Vault now
	most   int            // and at most
}

// fault deals with a request in place of the proxy, and may have the proxy pass it on. It returns false to leave it alone.
type fault func(w http.ResponseWriter, r *http.Request, pass func(http.ResponseWriter)) bool

func newProxy(t testing.TB, vault string) *proxy {
	t.Helper()
	p := &proxy{vault: vault, counts: make(map[string]int)}
	p.Server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(func() {
		p.CloseClientConnections()
		p.Close()
	})
	return p
}

// set sets the fault, nil for none.
func (p *proxy) set(f fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
}

// count returns how often a path was asked for that ends so, and forgets it.
func (p *proxy) count(end string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for path := range maps.Clone(p.counts) {
		if strings.HasSuffix(path, end) || strings.Contains(path, end+"/") {
			n += p.counts[path]
			delete(p.counts, path)
		}
	}
	return n
}

// busiest returns how many requests were at Vault at once.
func (p *proxy) busiest() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.most
}

func (p *proxy) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body) // whole, or nobody notices that whoever asks has gone
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	p.mu.Lock()
	p.counts[r.URL.Path]++
	p.inside++
	p.most = max(p.most, p.inside)
	f := p.fault
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.inside--
		p.mu.Unlock()
	}()
	pass := func(w http.ResponseWriter) { p.pass(w, r) }
	if f == nil || !f(w, r, pass) {
		pass(w)
	}
}

// pass hands a request to Vault, and its answer back.
func (p *proxy) pass(w http.ResponseWriter, r *http.Request) {
	out, err := http.NewRequestWithContext(r.Context(), r.Method, p.vault+r.URL.RequestURI(), r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	out.Header = r.Header.Clone()
	resp, err := http.DefaultClient.Do(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body) // whoever asked may have gone
}

// at limits a fault to paths that hold a text.
func at(part string, f fault) fault {
	return func(w http.ResponseWriter, r *http.Request, pass func(http.ResponseWriter)) bool {
		return strings.Contains(r.URL.Path, part) && f(w, r, pass)
	}
}

// says answers with a status and a text.
func says(status int, text string) fault {
	return func(w http.ResponseWriter, _ *http.Request, _ func(http.ResponseWriter)) bool {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
		return true
	}
}

// lost has Vault do what it is asked for, and lets nobody hear of it.
func lost(w http.ResponseWriter, _ *http.Request, pass func(http.ResponseWriter)) bool {
	pass(httptest.NewRecorder())
	panic(http.ErrAbortHandler)
}

// dead answers nobody.
func dead(http.ResponseWriter, *http.Request, func(http.ResponseWriter)) bool {
	panic(http.ErrAbortHandler)
}
