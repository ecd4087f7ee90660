package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/crockford"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite/registry"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

const (
	racers      = 100 // who show one code at the same moment
	races       = 3   // of each kind
	burst       = 12  // attempts for one terminal that are judged at once
	sourceBurst = 60  // and from one source
)

// codes are what an authority is asked for with one-time codes, good ones and bad ones.
type codes struct {
	*authority
	made map[string][]string // every code, by terminal
}

func newCodes(t *testing.T, planted ...string) *codes {
	t.Helper()
	c := &codes{authority: newAuthority(t), made: make(map[string][]string)}
	binary := binaries.shipped
	if len(planted) > 0 {
		binary = binaries.planted
	}
	c.start(t, binary, planted...)
	return c
}

// code has a code made for a terminal, and remembers it.
func (c *codes) code(t *testing.T, op admin.Operation) string {
	t.Helper()
	code := c.slip(t, op)
	c.made[op.Terminal] = append(c.made[op.Terminal], code)
	return code
}

// fresh is a terminal with a code.
func (c *codes) fresh(t *testing.T, terminal string) (code string) {
	t.Helper()
	c.register(t, terminal)
	return c.code(t, admin.Operation{Terminal: terminal})
}

// another is a code of the same form as a code, which is not that of any terminal.
func another(code string) string {
	i := strings.IndexByte(crockford.Alphabet, code[0])
	return string(crockford.Alphabet[(i+1)%len(crockford.Alphabet)]) + code[1:]
}

// only demands that a terminal has been given so many certificates, one of which is current, by every record of them.
func (c *codes) only(t *testing.T, terminal string, n int) {
	t.Helper()
	if got := c.issuedTo(t, terminal); got != (issued{min(n, 1), n, n}) {
		t.Errorf("%s has been given certificates: %+v, want %d", terminal, got, n)
	}
}

// race has many show one code at the same moment, each with a signing request of its own. It returns how they fared, and
// the serial numbers that were given out.
func (c *codes) race(t *testing.T, terminal, code string, csrs [][]byte) (fared map[string]int, serials map[string]bool) {
	t.Helper()
	v := c.visitor(t, nil)
	fared, serials = make(map[string]int), make(map[string]bool)
	begin := make(chan struct{})
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, csr := range csrs {
		all.Go(func() {
			<-begin
			r, err := v.send(t.Context(), est.PathEnroll, est.TypeRequest, terminal, code, est.EncodeRequest(csr))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("%s: %v", terminal, err)
				return
			}
			fared[r.String()]++
			if r.status == http.StatusOK {
				serials[r.serial()] = true
			}
			if r.status == http.StatusTooManyRequests && r.retry < time.Second {
				t.Errorf("%s: sent away without being told until when: %v", terminal, r.retry)
			}
		})
	}
	close(begin)
	all.Wait()
	return fared, serials
}

// The answers to a code that is shown many times.
const (
	certified = "200 "
	isSpent   = "409 CodeSpent"
	sentAway  = "429 TooManyAttempts"
)

// TestBadCodes shows the registration authority codes that are wrong, spent, expired, void, replaced, stolen and of
// another terminal, and good ones a hundred times at once, and holds it to what it answers and to how many certificates
// there are. No code is left anywhere.
func TestBadCodes(t *testing.T) {
	c := newCodes(t)
	for _, s := range []struct {
		name string
		test func(*testing.T)
	}{
		{"wrong", c.wrong}, {"spent", c.spent}, {"voided", c.voided}, {"replaced", c.replaced}, {"foreign", c.foreign},
		{"short", c.short}, {"revoked", c.revoked}, {"stolen", c.stolen}, {"misused", c.misused}, {"flood", c.flood},
		{"many keys", c.manyKeys}, {"one key", c.oneKey}, {"expired", c.expired}, {"secrecy", c.secrecy},
	} {
		t.Run(s.name, s.test)
	}
	c.ra.stop(t)
	c.keyd.stop(t)
	c.verifyAudits(t)
}

func (c *codes) wrong(t *testing.T) {
	const id = "T-WRONG"
	code := c.fresh(t, id)
	v, key := c.visitor(t, nil), newKey(t)
	csr := request(t, id, key)
	for _, w := range []struct{ what, user, code string }{
		{"another code", id, another(code)}, // counts against the code, as does the next
		{"a slip of the pen", id, code[:25] + another(code[25:])},
		{"a character less", id, code[:25]}, {"a character more", id, code + "0"}, {"no code", id, ""}, {"U is no digit", id, "U" + code[1:]},
		{"the code twice", id, code + code}, {"NUL behind it", id, code + "\x00"}, {"a colon in it", id, ":" + code},
		{"a terminal of nobody", "T-NOBODY", code}, {"lower case", strings.ToLower(id), code}, {"a wildcard", "T-*", code},
		{"a path", "../" + id, code}, {"NUL behind the name", id + "\x00", code}, {"a tenant before the name", tenant + "/" + id, code},
	} {
		want(t, w.what, v.enrol(t, w.user, w.code, csr), http.StatusUnauthorized, "CredentialsRefused")
	}
	want(t, "no credentials", v.enrol(t, "", "", csr), http.StatusUnauthorized, "CredentialsRequired")
	c.only(t, id, 0)
	typed := strings.ToLower(code[:13] + "-" + code[13:])
	want(t, "the code as people type it", v.enrol(t, id, typed, csr), http.StatusOK, "")
	c.only(t, id, 1)
}

func (c *codes) spent(t *testing.T) {
	const id = "T-SPENT"
	code := c.fresh(t, id)
	v, key := c.visitor(t, nil), newKey(t)
	csr := request(t, id, key)
	first := v.enrol(t, id, code, csr)
	want(t, "the code", first, http.StatusOK, "")
	again := v.enrol(t, id, code, request(t, id, key))
	want(t, "the same key again", again, http.StatusOK, "")
	if again.serial() != first.serial() {
		t.Errorf("the same key was given %s after %s", again.serial(), first.serial())
	}
	want(t, "another key", v.enrol(t, id, code, request(t, id, newKey(t))), http.StatusConflict, isSpent[4:])
	want(t, "another code", v.enrol(t, id, another(code), csr), http.StatusUnauthorized, "CredentialsRefused")
	c.only(t, id, 1)
	next := newKey(t)
	renewed, err := c.visitor(t, credential(t, first.chain, key)).send(t.Context(), est.PathReenroll, est.TypeRequest, "", "",
		est.EncodeRequest(request(t, id, next)))
	check(t, err)
	want(t, "renewal", renewed, http.StatusOK, "")
	want(t, "the first key after a renewal", v.enrol(t, id, code, csr), http.StatusConflict, isSpent[4:])
	c.only(t, id, 2)
}

func (c *codes) voided(t *testing.T) {
	const id = "T-VOID"
	code := c.fresh(t, id)
	v := c.visitor(t, nil)
	csr := request(t, id, newKey(t))
	for i := range 5 {
		want(t, fmt.Sprint("guess ", i+1), v.enrol(t, id, another(code), csr), http.StatusUnauthorized, "CredentialsRefused")
	}
	want(t, "the code after five guesses", v.enrol(t, id, code, csr), http.StatusForbidden, "CodeVoid")
	want(t, "once more", v.enrol(t, id, code, csr), http.StatusForbidden, "CodeVoid")
	want(t, "a sixth guess", v.enrol(t, id, another(code), csr), http.StatusUnauthorized, "CredentialsRefused")
	c.only(t, id, 0)
	want(t, "a new code", v.enrol(t, id, c.code(t, admin.Operation{Terminal: id}), csr), http.StatusOK, "")
	c.only(t, id, 1)
}

func (c *codes) replaced(t *testing.T) {
	const id = "T-REPLACED"
	old := c.fresh(t, id)
	code := c.code(t, admin.Operation{Terminal: id})
	v := c.visitor(t, nil)
	csr := request(t, id, newKey(t))
	want(t, "the code before", v.enrol(t, id, old, csr), http.StatusUnauthorized, "CredentialsRefused")
	c.only(t, id, 0)
	want(t, "the code", v.enrol(t, id, code, csr), http.StatusOK, "")
	c.only(t, id, 1)
}

func (c *codes) foreign(t *testing.T) {
	const id, other = "T-FOREIGN", "T-OTHER"
	code, theirs := c.fresh(t, id), c.fresh(t, other)
	v := c.visitor(t, nil)
	want(t, "the code of another terminal", v.enrol(t, id, theirs, request(t, id, newKey(t))), http.StatusUnauthorized, "CredentialsRefused")
	want(t, "and its name in the request", v.enrol(t, id, theirs, request(t, other, newKey(t))), http.StatusUnauthorized, "CredentialsRefused")
	c.only(t, id, 0)
	c.only(t, other, 0)
	want(t, "the code of the other", v.enrol(t, other, theirs, request(t, other, newKey(t))), http.StatusOK, "")
	want(t, "its own code", v.enrol(t, id, code, request(t, id, newKey(t))), http.StatusOK, "")
	c.only(t, id, 1)
	c.only(t, other, 1)
}

// short mistypes a short code ten times: its check character finds that, so none of them is a guess.
func (c *codes) short(t *testing.T) {
	const id = "T-SHORT"
	c.register(t, id)
	code := c.code(t, admin.Operation{Terminal: id, Short: true})
	v := c.visitor(t, nil)
	csr := request(t, id, newKey(t))
	for i := range 10 {
		typed := code[:i] + another(code[i:])
		want(t, "mistyped", v.enrol(t, id, typed, csr), http.StatusUnauthorized, "CredentialsRefused")
	}
	want(t, "the code", v.enrol(t, id, code, csr), http.StatusOK, "")
	c.only(t, id, 1)
}

func (c *codes) revoked(t *testing.T) {
	const id = "T-REVOKED"
	code := c.fresh(t, id)
	_, err := c.admin().Do(t.Context(), admin.Operation{Action: "revoke", Terminal: id, Reason: "test"})
	check(t, err)
	want(t, "the code of a revoked terminal", c.visitor(t, nil).enrol(t, id, code, request(t, id, newKey(t))), http.StatusForbidden, "StatusNotPermitted")
	c.only(t, id, 0)
}

// stolen has a thief be faster. The terminal is told so, and a new code turns the thief out.
func (c *codes) stolen(t *testing.T) {
	const id = "T-STOLEN"
	code := c.fresh(t, id)
	thief, box := c.visitor(t, nil), c.visitor(t, nil)
	key := newKey(t)
	took := thief.enrol(t, id, code, request(t, id, key))
	want(t, "the thief", took, http.StatusOK, "")
	own := newKey(t)
	want(t, "the terminal", box.enrol(t, id, code, request(t, id, own)), http.StatusConflict, isSpent[4:])
	c.only(t, id, 1)
	member := credential(t, took.chain, key)
	if status, err := c.get(t, member, provision.PathEnrolment); err != nil || status != http.StatusOK {
		t.Errorf("the thief's certificate before: %d, %v", status, err)
	}
	want(t, "a new code", box.enrol(t, id, c.code(t, admin.Operation{Terminal: id}), request(t, id, own)), http.StatusOK, "")
	c.only(t, id, 2)
	if status, err := c.get(t, member, provision.PathEnrolment); err == nil {
		t.Errorf("the thief's certificate afterwards: %d", status)
	}
	want(t, "the thief with the code again", thief.enrol(t, id, code, request(t, id, key)), http.StatusUnauthorized, "CredentialsRefused")
}

// get asks the terminals' listener for something with a certificate.
func (a *authority) get(t *testing.T, c *tlsconf.Credential, path string) (status int, err error) {
	t.Helper()
	resp, err := a.visitor(t, c).http.Get("https://" + a.ra.doors["terminals"] + path)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// misused shows a good code with a request for something else, and then for what it is for.
func (c *codes) misused(t *testing.T) {
	const id = "T-MISUSED"
	code := c.fresh(t, id)
	v, key := c.visitor(t, nil), newKey(t)
	agreement, err := est.NewRequest(key, identity.Identity{Tenant: tenant, Role: identity.Agreement, Name: id})
	check(t, err)
	operator, err := est.NewRequest(key, identity.Identity{Tenant: tenant, Role: identity.Operator, Name: id})
	check(t, err)
	for what, csr := range map[string][]byte{
		"another terminal": request(t, "T-OTHER", key), "an agreement key": agreement, "an operator": operator,
		"a certificate": c.trustedDER(t),
	} {
		want(t, what, v.enrol(t, id, code, csr), http.StatusBadRequest, "SigningRequestRefused")
		want(t, what+", by somebody without the code", v.enrol(t, id, code[:25], csr), http.StatusUnauthorized, "CredentialsRefused")
	}
	c.only(t, id, 0)
	want(t, "the terminal", v.enrol(t, id, code, request(t, id, key)), http.StatusOK, "")
	c.only(t, id, 1)
}

// trustedDER is a certificate that is no request.
func (c *codes) trustedDER(t *testing.T) []byte {
	t.Helper()
	conn, err := tls.Dial("tcp", c.ra.doors["terminals"], c.visitor(t, nil).http.Transport.(*http.Transport).TLSClientConfig)
	check(t, err)
	defer func() { _ = conn.Close() }() // only the handshake matters
	return conn.ConnectionState().PeerCertificates[0].Raw
}

// flood tries many terminals from one place: the authority sends it away, and nobody else.
func (c *codes) flood(t *testing.T) {
	v, csr := c.visitor(t, nil), request(t, "T-NOBODY", newKey(t))
	code := strings.Repeat("0", 26)
	fared := make(map[string]int)
	begin := time.Now()
	for i := range sourceBurst + 40 {
		r := v.enrol(t, fmt.Sprintf("T-FLOOD-%d", i), code, csr)
		fared[r.String()]++
	}
	most := sourceBurst + 5*(int(time.Since(begin)/time.Second)+1) // the authority's clock has whole seconds
	if n := fared["401 CredentialsRefused"]; n < sourceBurst || n > most || n+fared[sentAway] != sourceBurst+40 || fared[sentAway] == 0 {
		t.Errorf("%v, want %d to %d to be judged and the others to be sent away", fared, sourceBurst, most)
	}
	want(t, "from elsewhere", c.visitor(t, nil).enrol(t, "T-FLOOD", code, csr), http.StatusUnauthorized, "CredentialsRefused")
}

// manyKeys has a hundred keys race for one code.
func (c *codes) manyKeys(t *testing.T) {
	total := make(map[string]int)
	for n := range races {
		id := fmt.Sprintf("T-MANY-%d", n)
		code := c.fresh(t, id)
		var csrs [][]byte
		for range racers {
			csrs = append(csrs, request(t, id, newKey(t)))
		}
		fared, serials := c.race(t, id, code, csrs)
		if fared[certified] != 1 || len(serials) != 1 || fared[isSpent] < burst-1 || fared[certified]+fared[isSpent]+fared[sentAway] != racers {
			t.Errorf("%s: %v, %d serial numbers", id, fared, len(serials))
		}
		c.only(t, id, 1)
		add(total, fared)
	}
	t.Logf("%d codes, each redeemed %d times at once with as many keys: %v", races, racers, total)
}

// oneKey has a terminal that lost its answers ask a hundred times at once.
func (c *codes) oneKey(t *testing.T) {
	total := make(map[string]int)
	for n := range races {
		id := fmt.Sprintf("T-ONE-%d", n)
		code := c.fresh(t, id)
		key := newKey(t)
		var csrs [][]byte
		for range racers {
			csrs = append(csrs, request(t, id, key))
		}
		fared, serials := c.race(t, id, code, csrs)
		if len(serials) != 1 || fared[certified] < burst || fared[certified]+fared[sentAway] != racers {
			t.Errorf("%s: %v, %d serial numbers", id, fared, len(serials))
		}
		c.only(t, id, 1)
		add(total, fared)
	}
	t.Logf("%d codes, each redeemed %d times at once with one key: %v", races, racers, total)
}

func add(total, more map[string]int) {
	for k, n := range more {
		total[k] += n
	}
}

// expired moves the end of a code to a moment from now, in the database of an authority that is down: a code lasts a
// minute at least, and no test waits so long. The authority voids what has expired when it starts, and each ten seconds.
func (c *codes) expired(t *testing.T) {
	const id = "T-EXPIRED"
	code := c.fresh(t, id)
	if _, err := c.admin().Do(t.Context(), admin.Operation{Action: "code", Terminal: id, Lifetime: 1}); err == nil ||
		!strings.HasPrefix(err.Error(), "OperationMalformed") {
		t.Errorf("a code for a second: %v, want OperationMalformed", err)
	}
	csr := request(t, id, newKey(t))
	for margin := 4 * time.Second; ; margin *= 2 {
		c.ra.stop(t)
		end := c.expireIn(t, id, margin)
		c.ra.start(t, binaries.shipped)
		if !time.Now().Before(end.Add(-2 * time.Second)) {
			if margin > time.Minute {
				t.Fatalf("the authority does not start within %v", margin)
			}
			continue // too slow a start: the code was void from the beginning
		}
		for !time.Now().After(end) {
			time.Sleep(10 * time.Millisecond) // until the code has expired, some seconds at most
		}
		break
	}
	want(t, "an expired code", c.visitor(t, nil).enrol(t, id, code, csr), http.StatusForbidden, "CodeExpired")
	c.only(t, id, 0)
	want(t, "a new code", c.visitor(t, nil).enrol(t, id, c.code(t, admin.Operation{Terminal: id}), csr), http.StatusOK, "")
	c.only(t, id, 1)
}

// expireIn changes when the code of a terminal expires, and makes it open.
func (c *codes) expireIn(t *testing.T, id keyset.TerminalID, margin time.Duration) (end time.Time) {
	t.Helper()
	store, err := registry.Open(filepath.Join(c.dir, "provisiond.db"), registry.Options{})
	check(t, err)
	end = time.Now().Add(margin).Truncate(time.Second)
	err = store.Update(t.Context(), func(tx provision.Tx) error {
		code, ok, err := tx.OneTimeCode(id)
		if err != nil || !ok {
			return fmt.Errorf("code of %s: %t, %w", id, ok, err)
		}
		code.Created, code.Expires, code.State = end.Add(-time.Minute), end, provision.StateOpen
		return tx.PutOneTimeCode(code)
	})
	check(t, err)
	check(t, store.Close())
	return end
}

// secrecy looks for every code that was made, in every file of the deployment and in both logs.
func (c *codes) secrecy(t *testing.T) {
	places := map[string][]byte{"log of the registration authority": []byte(c.ra.log.String()), "log of the key-distribution host": []byte(c.keyd.log.String())}
	check(t, filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		places[path], err = os.ReadFile(path)
		return err
	}))
	searched, n := 0, 0
	terminals := make(map[string]bool) // whose names are somewhere
	for place, b := range places {
		lower := bytes.ToLower(b)
		searched += len(b)
		for id, made := range c.made {
			if bytes.Contains(b, []byte(id)) {
				terminals[id] = true
			}
			for _, code := range made {
				n++
				for form, text := range map[string]string{
					"the code": strings.ToLower(code), "its beginning": strings.ToLower(code[:12]), "its end": strings.ToLower(code[len(code)-12:]),
					"hex of the code": hex.EncodeToString([]byte(code)),
				} {
					if bytes.Contains(lower, []byte(text)) {
						t.Errorf("%s has %s of %s", place, form, id)
					}
				}
				if bytes.Contains(b, []byte(base64.StdEncoding.EncodeToString([]byte(id+":"+code)))) {
					t.Errorf("%s has the credentials of %s", place, id)
				}
			}
		}
	}
	if len(terminals) != len(c.made) || len(places) < 20 {
		t.Errorf("the search finds %d of %d terminals in %d places: it would not find a code", len(terminals), len(c.made), len(places))
	}
	t.Logf("%d codes searched for in %d files and logs of %d bytes: none is there", n/len(places), len(places), searched)
}

// TestBadCodesPlanted shows that the race catches an authority that lets a spent code certify another key.
func TestBadCodesPlanted(t *testing.T) {
	c := newCodes(t, "guard.code-binding")
	defer func() {
		c.ra.kill()
		c.keyd.kill()
	}()
	const id = "T-MANY"
	code := c.fresh(t, id)
	var csrs [][]byte
	for range racers {
		csrs = append(csrs, request(t, id, newKey(t)))
	}
	fared, serials := c.race(t, id, code, csrs)
	if len(serials) < 2 || c.issuedTo(t, id).ledger < 2 {
		t.Errorf("planted guard.code-binding not caught: %v", fared)
	}
	t.Logf("planted guard.code-binding caught: %d certificates for one code: %v", len(serials), fared)
}
