package decrypt

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/node/nodetest"
	"github.com/latchkey-pos/latchkey/internal/seal"
	_ "github.com/latchkey-pos/latchkey/internal/seal/sealtest" // many deployments
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

func TestASaleOverTheWire(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	r := start(t, p, c)
	ctx, client := t.Context(), r.api()
	raw := r.sale(1, 1234)
	tx := must[*api.TransactionResponse](t)(client.Transaction(ctx, api.TransactionRequest{Message: raw}))
	if tx.CounterStatus != api.Fresh || !tx.CounterAuthenticated || tx.Type != "sale" || tx.Terminal != "T-1" || tx.Amount.Minor != 1234 || len(tx.Fields) != 2 {
		t.Fatalf("transaction %+v", tx)
	}
	card, block := tx.Fields[0], tx.Fields[1]
	if card.MaskedPAN != "476173******0119" || string(bytes.TrimRight(card.ClearData, "\x00")) != testTrack {
		t.Errorf("card %q", card.MaskedPAN)
	}
	if len(block.PINBlock) != 16 || block.PINKey != "alias/zone-1" || block.PINFormat != "ISO_FORMAT_0" || block.Labels.KeyMode != "software" {
		t.Errorf("PIN field %+v", block)
	}
	first := must[*api.AnswerResponse](t)(client.Answer(ctx, api.AnswerRequest{RequestDigest: tx.RequestDigest, Result: api.Approved, Body: []byte("slip")}))
	again := must[*api.AnswerResponse](t)(client.Answer(ctx, api.AnswerRequest{RequestDigest: tx.RequestDigest, Result: api.Approved, Body: []byte("slip")}))
	if first.Recorded != api.First || again.Recorded != api.Again || !bytes.Equal(first.Ack, again.Ack) {
		t.Errorf("answers %v %v", first.Recorded, again.Recorded)
	}
	if a := must[*message.AckPayload](t)(r.card.Ack(first.Ack, dataSlot, 1)); a.Result != message.Approved || string(a.Body) != "slip" {
		t.Errorf("ack %+v", a)
	}
	if _, err := client.Answer(ctx, api.AnswerRequest{RequestDigest: tx.RequestDigest, Result: api.Declined}); !api.IsCode(err, string(decrypt.CodeAnswerConflict)) {
		t.Errorf("another answer: %v", err)
	}
	retry := must[*api.TransactionResponse](t)(client.Transaction(ctx, api.TransactionRequest{Message: raw}))
	if retry.CounterStatus != api.Resend || retry.RecordedResult == nil || !bytes.Equal(retry.RecordedResult.Ack, first.Ack) {
		t.Errorf("retry %v %+v", retry.CounterStatus, retry.RecordedResult)
	}
	outer := must[[]byte](t)(r.card.Message(&message.Payload{Type: message.Resend, BootCounter: 1, Sequence: 2, Inner: raw}, dataSlot, 2))
	resent := must[*api.TransactionResponse](t)(client.Transaction(ctx, api.TransactionRequest{Message: outer}))
	if resent.Type != "sale" || resent.OriginalDigest != tx.RequestDigest || resent.RequestDigest == tx.RequestDigest || resent.Fields[1].PINBlock != block.PINBlock {
		t.Errorf("resend %+v", resent)
	}
	if a := must[*message.AckPayload](t)(r.card.Ack(resent.RecordedResult.Ack, dataSlot, 2)); a.Result != message.Approved {
		t.Errorf("ack of the resend %+v", a)
	}
	if _, err := client.Transaction(ctx, api.TransactionRequest{Message: r.sale(1, 99)}); !api.IsCode(err, string(decrypt.CodeKSNReplayed)) {
		t.Errorf("another amount: %v", err)
	}
	status, body := r.get("/terminals/T-1/counters")
	var counters api.CountersResponse
	if err := json.Unmarshal(body, &counters); status != 200 || err != nil || len(counters.Slots) != 2 || counters.Slots[1].Seen != 2 || counters.Status != "active" {
		t.Errorf("counters %d %s", status, body)
	}
	_, metrics := r.admin("/metrics")
	for _, want := range []string{
		`latchkey_transactions_total{result="FRESH"} 1`, `latchkey_transactions_total{result="RESEND"} 2`,
		`latchkey_transactions_total{result="KsnReplayed"} 1`, "latchkey_ksn_conflicts_total 1", "latchkey_clone_evidence_total 1",
		`latchkey_answers_total{recorded="FIRST"} 1`, `latchkey_commit_batch_size_bucket{le="1"}`, `latchkey_http_requests_total{route="POST /transactions",status="200"} 3`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if status, body := r.admin("/readyz"); status != 200 {
		t.Errorf("not ready: %s", body)
	}
}

func (r *running) get(path string) (int, []byte) {
	r.tb.Helper()
	return r.do(http.MethodGet, path, "", nil)
}

// do sends anything with the certificate of the acquirer. The path goes out as it is written.
func (r *running) do(method, path, media string, body []byte) (int, []byte) {
	r.tb.Helper()
	req := must[*http.Request](r.tb)(http.NewRequestWithContext(r.tb.Context(), method, "https://"+r.addrs.Service, bytes.NewReader(body)))
	req.URL.Opaque = "//" + r.addrs.Service + path
	if media != "" {
		req.Header.Set("Content-Type", media)
	}
	res := must[*http.Response](r.tb)(r.client(r.place.acquirer).Do(req))
	defer func() { _ = res.Body.Close() }()
	return res.StatusCode, must[[]byte](r.tb)(io.ReadAll(res.Body))
}

func (r *running) admin(path string) (int, string) {
	r.tb.Helper()
	return nodetest.Get(r.tb, "http://"+r.addrs.Admin+path)
}

// TestBadInput gives each kind of it a stable status and code, and finds the counters where they were.
func TestBadInput(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	r := start(t, p, c)
	m := base64.StdEncoding.EncodeToString(r.sale(1, 1))
	good := `{"Message":"` + m + `","OutgoingPINKey":"alias/zone-1"}`
	digest := strings.Repeat("0", 64)
	cases := []struct {
		name, method, path, body string
		status                   int
		code                     decrypt.Code
	}{
		{"unknown member", "POST", "/transactions", strings.Replace(good, "{", `{"Colour":"red",`, 1), 400, decrypt.CodeRequestMalformed},
		{"repeated member", "POST", "/transactions", strings.Replace(good, "{", `{"Message":"`+m+`",`, 1), 400, decrypt.CodeRequestMalformed},
		{"wrong case", "POST", "/transactions", strings.Replace(good, "Message", "message", 1), 400, decrypt.CodeRequestMalformed},
		{"null", "POST", "/transactions", `{"Message":null}`, 400, decrypt.CodeRequestMalformed},
		{"trailing bytes", "POST", "/transactions", good + "{}", 400, decrypt.CodeRequestMalformed},
		{"no object", "POST", "/transactions", "[]", 400, decrypt.CodeRequestMalformed},
		{"empty body", "POST", "/transactions", "", 400, decrypt.CodeRequestMalformed},
		{"oversized body", "POST", "/transactions", strings.Repeat(" ", 64<<10) + good, 413, decrypt.CodeBodyTooLarge},
		{"oversized message", "POST", "/transactions", `{"Message":"` + base64.StdEncoding.EncodeToString(make([]byte, 17<<10)) + `"}`, 413, decrypt.CodeBodyTooLarge},
		{"no message inside", "POST", "/transactions", `{"Message":"AQID"}`, 400, decrypt.CodeMessageMalformed},
		{"key upwards", "POST", "/transactions", strings.Replace(good, "zone-1", "../zone-1", 1), 400, decrypt.CodeKeyIdentifierInvalid},
		{"key with NUL", "POST", "/transactions", strings.Replace(good, "zone-1", `zone-1\u0000`, 1), 400, decrypt.CodeKeyIdentifierInvalid},
		{"key encoded twice", "POST", "/transactions", strings.Replace(good, "alias/zone-1", "alias%252Fzone-1", 1), 400, decrypt.CodeKeyIdentifierInvalid},
		{"key that is not permitted", "POST", "/transactions", strings.Replace(good, "zone-1", "zone-2", 1), 403, decrypt.CodePINKeyNotPermitted},
		{"another format", "POST", "/transactions", strings.Replace(good, "{", `{"OutgoingPINFormat":"ISO_FORMAT_1",`, 1), 400, decrypt.CodeRequestMalformed},
		{"another method", "GET", "/transactions", "", 405, decrypt.CodeMethodNotAllowed},
		{"another method of answers", "PUT", "/transactions/answer", "{}", 405, decrypt.CodeMethodNotAllowed},
		{"no endpoint", "POST", "/transactions/", good, 400, decrypt.CodeKeyIdentifierInvalid},
		{"no such endpoint", "POST", "/transaction", good, 404, decrypt.CodeNotFound},
		{"path upwards", "GET", "/terminals/../terminals/T-1/counters", "", 400, decrypt.CodeKeyIdentifierInvalid},
		{"path upwards, encoded", "GET", "/terminals/%2e%2e/counters", "", 400, decrypt.CodeKeyIdentifierInvalid},
		{"path with NUL", "GET", "/terminals/T-1%00/counters", "", 400, decrypt.CodeKeyIdentifierInvalid},
		{"path encoded twice", "GET", "/terminals/T-1%252F/counters", "", 400, decrypt.CodeKeyIdentifierInvalid},
		{"name that is none", "GET", "/terminals/t_1/counters", "", 400, decrypt.CodeKeyIdentifierInvalid},
		{"unknown terminal", "GET", "/terminals/T-2/counters", "", 404, decrypt.CodeTerminalUnknown},
		{"answer to nothing", "POST", "/transactions/answer", `{"RequestDigest":"` + digest + `","Result":"APPROVED"}`, 404, decrypt.CodeRequestUnknown},
		{"answer of another kind", "POST", "/transactions/answer", `{"RequestDigest":"` + digest + `","Result":"HELD"}`, 400, decrypt.CodeRequestMalformed},
		{"answer to no digest", "POST", "/transactions/answer", `{"RequestDigest":"x","Result":"APPROVED"}`, 400, decrypt.CodeRequestMalformed},
	}
	_, before := r.get("/terminals/T-1/counters")
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { // in turn: one service
			status, body := r.do(c.method, c.path, "application/json", []byte(c.body))
			var e api.Error
			if err := json.Unmarshal(body, &e); err != nil {
				t.Fatalf("%d %s: %v", status, body, err)
			}
			if status != c.status || e.Code != string(c.code) || e.Message == "" || e.Hint == "" {
				t.Errorf("got %d %+v, want %d %s", status, e, c.status, c.code)
			}
		})
	}
	if status, body := r.do("POST", "/transactions", "text/plain", []byte(good)); status != 415 || !bytes.Contains(body, []byte(decrypt.CodeMediaTypeNotSupported)) {
		t.Errorf("another media type: %d %s", status, body)
	}
	if _, after := r.get("/terminals/T-1/counters"); !bytes.Equal(before, after) {
		t.Errorf("counters moved from %s to %s", before, after)
	}
	want := make(map[decrypt.Code]int)
	for _, c := range cases {
		if asked := c.name != "oversized body" && c.status != 405 && c.code != decrypt.CodeNotFound; asked && !strings.HasPrefix(c.name, "path ") && c.name != "no endpoint" {
			want[c.code]++
		}
	}
	if got := refusals(t, c.Database); !maps.Equal(got, want) {
		t.Errorf("the audit log holds the refusals %v, want %v", got, want)
	}
	if status, body := r.do("POST", "/transactions", "application/json", []byte(good)); status != 200 || !bytes.Contains(body, []byte(`"FRESH"`)) {
		t.Errorf("the good request afterwards: %d", status)
	}
}

// refusals counts the refusals in the audit log of a running service.
func refusals(t *testing.T, database string) map[decrypt.Code]int {
	t.Helper()
	out := make(map[decrypt.Code]int)
	for _, r := range nodetest.Records(t, database) {
		if r.Result == "REFUSED" {
			out[decrypt.Code(r.Reason)]++
		}
	}
	return out
}

// TestWhoIsServed tries certificates that verify and may not call.
func TestWhoIsServed(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	r := start(t, p, c)
	req := api.TransactionRequest{Message: r.sale(1, 1)}
	stranger := api.NewClient("https://"+r.addrs.Service, r.client(p.stranger))
	if _, err := stranger.Transaction(t.Context(), req); !api.IsCode(err, string(decrypt.CodeRoleNotPermitted)) {
		t.Errorf("an acquirer that is not on the list: %v", err)
	}
	auditor := api.NewClient("https://"+r.addrs.Service, r.client(p.auditor))
	if _, err := auditor.Transaction(t.Context(), req); err == nil || errors.As(err, new(*api.Error)) {
		t.Errorf("a role that is not served got past the handshake: %v", err)
	}
	if tx := must[*api.TransactionResponse](t)(r.api().Transaction(t.Context(), req)); tx.CounterStatus != api.Fresh {
		t.Errorf("the permitted caller afterwards: %v", tx.CounterStatus)
	}
}

// TestClaimsOutliveTheProcess restarts the service, takes its database away and starts a second one beside it.
func TestClaimsOutliveTheProcess(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	r := start(t, p, c)
	raw := r.sale(1, 1)
	first := must[*api.TransactionResponse](t)(r.api().Transaction(t.Context(), api.TransactionRequest{Message: raw}))
	quiet := slog.New(slog.DiscardHandler)
	if err := Check(t.Context(), c, quiet); !errors.Is(err, sqlite.ErrLocked) {
		t.Errorf("a second process: %v", err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), c, quiet); err != nil {
		t.Errorf("check between runs: %v", err)
	}
	r = start(t, p, c)
	again := must[*api.TransactionResponse](t)(r.api().Transaction(t.Context(), api.TransactionRequest{Message: raw}))
	if again.CounterStatus != api.Resend || again.Fields[1].PINBlock != first.Fields[1].PINBlock {
		t.Errorf("after the restart: %v", again.CounterStatus)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	for _, name := range must[[]string](t)(filepath.Glob(c.Database + "*")) {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := Check(t.Context(), c, quiet); !errors.Is(err, sqlite.ErrMissing) {
		t.Errorf("without its database: %v", err)
	}
	if err := os.WriteFile(c.Database, []byte("no database at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), c, quiet); !errors.Is(err, sqlite.ErrDamaged) {
		t.Errorf("with another file in its place: %v", err)
	}
}

// TestStartingRefuses wants the reason in the error, and its kind where there is one.
func TestStartingRefuses(t *testing.T) {
	t.Parallel()
	nodetest.RefusesStart(t, func(tb testing.TB) Config { _, c := testConfig(tb); return c }, Check, []nodetest.Attempt[Config]{
		{"no passphrase file", func(_ *testing.T, c *Config) { c.PassphraseFile += "x" }, fs.ErrNotExist, "passphrase-file"},
		{"another passphrase", func(t *testing.T, c *Config) {
			if err := os.WriteFile(c.PassphraseFile, []byte("another passphrase altogether"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, seal.ErrPassphrase, "certificate"},
		{"no deployment", func(t *testing.T, c *Config) { c.Folder = t.TempDir() }, fs.ErrNotExist, "certificate"},
		{"the certificate of another role", func(_ *testing.T, c *Config) {
			c.Certificate, c.Key = "services/ra/cert.pem", "services/ra/key.sealed"
		}, nil, "role decrypt"},
		{"no key of checkpoints", func(_ *testing.T, c *Config) { c.CheckpointKey += "x" }, fs.ErrNotExist, "checkpoint-key"},
		{"key sets of another environment", func(_ *testing.T, c *Config) { c.Environment = "production" }, nil, "catalog"},
	}...)
}

// TestNoSecretIsLeftBehind runs sales and refusals with known card, PIN and keys, and looks for them in everything that
// stays: the log, error bodies, metrics, readiness, and the bytes of every file that the service wrote.
func TestNoSecretIsLeftBehind(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	r := start(t, p, c)
	var left bytes.Buffer
	for i := range uint32(5) {
		tx := must[*api.TransactionResponse](t)(r.api().Transaction(t.Context(), api.TransactionRequest{Message: r.sale(2*i+1, 100)}))
		must[*api.AnswerResponse](t)(r.api().Answer(t.Context(), api.AnswerRequest{RequestDigest: tx.RequestDigest, Result: api.Approved}))
		raw := r.sale(2*i+2, 100)
		raw[len(raw)-1] ^= 1
		_, body := r.do("POST", "/transactions", "application/json", fmt.Appendf(nil, `{"Message":"%s"}`, base64.StdEncoding.EncodeToString(raw)))
		left.Write(body)
	}
	_, body := r.do("POST", "/transactions", "application/json", []byte(`{"Message":"AQID","PIN":"`+testPIN+`","Track":"`+testTrack+`"}`))
	left.Write(body)
	_, body = r.get("/" + testPAN)
	left.Write(body)
	for _, path := range []string{"/metrics", "/readyz", "/livez"} {
		_, text := r.admin(path)
		left.WriteString(text)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	left.WriteString(r.log.String())
	left.Write(nodetest.Database(t, c.Database))
	left.Write(must[[]byte](t)(os.ReadFile(c.CheckpointFile)))
	nodetest.NoneOf(t, left.Bytes(), map[string][]byte{
		"PAN": []byte(testPAN), "track": []byte(testTrack), "PIN": []byte(testPIN), "zone key": zoneKey, "PIN base key": bdkPIN, "data base key": bdkData,
		"passphrase": nodetest.Passphrase.Expose(), "middle of the PAN": []byte(testPAN[6:12] + testPAN[12:13]),
	}, "MacInvalid", "FFFF9876543310E00001")
}

// TestTheWrittenConfigurationWorks starts from the file that latchkey init leaves.
func TestTheWrittenConfigurationWorks(t *testing.T) {
	t.Parallel()
	p := must[*place](t)(shared())
	c := must[Config](t)(LoadConfig(filepath.Join(p.dir, deploy.DecryptdFile)))
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	if c.Folder != p.dir || c.Tenant != "ACME" || c.Environment != "test" || c.Listen != want.Listen || c.Database != want.Database || c.CheckpointEvery != want.CheckpointEvery {
		t.Errorf("configuration %+v", c)
	}
	allowed := must[*permissions](t)(newPermissions(c))
	if len(allowed.callers["ACQ-1"].zones) != 1 {
		t.Errorf("callers %v", allowed.callers)
	}
}

// TestABlockIsSeenWithoutRestart tells the running service to read again after a key set was blocked.
func TestABlockIsSeenWithoutRestart(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	own := filepath.Join(t.TempDir(), "pos")
	if err := os.CopyFS(own, os.DirFS(p.dir)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(own, func(path string, e fs.DirEntry, err error) error { // CopyFS keeps no modes
		if err != nil || e.IsDir() {
			return errors.Join(err, os.Chmod(path, 0o700))
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	reload := make(chan os.Signal)
	c.Folder, c.Reload = own, reload
	r := start(t, p, c)
	if tx := must[*api.TransactionResponse](t)(r.api().Transaction(t.Context(), api.TransactionRequest{Message: r.sale(1, 1)})); tx.Held {
		t.Fatal("held before the block")
	}
	d := must[*deploy.Deployment](t)(deploy.Open(own, nodetest.Passphrase))
	defer func() { _ = d.Close() }() // everything is written
	var set *keyset.KeySet
	for _, s := range must[[]*keyset.KeySet](t)(d.KeySets()) {
		if s.ID == "PINS" {
			set = s.NextRevision()
		}
	}
	set.State = keyset.Blocked
	op := must[*deploy.Person](t)(d.Operator(deploy.FirstOperator))
	doc := must[[]byte](t)(op.Sign(keyset.KindKeySet, must[[]byte](t)(keyset.Marshal(set))))
	must[*keyset.KeySet](t)(d.SaveKeySet(doc))
	reload <- os.Interrupt // taken when the loop is free,
	reload <- os.Interrupt // and again after a whole reading
	tx := must[*api.TransactionResponse](t)(r.api().Transaction(t.Context(), api.TransactionRequest{Message: r.sale(2, 1)}))
	if !tx.Held || tx.Code != string(decrypt.CodeKeySetBlocked) || len(tx.Fields) != 0 || tx.CounterStatus != api.None {
		t.Errorf("after the block: held %v, code %q, %d fields", tx.Held, tx.Code, len(tx.Fields))
	}
	if a := must[*message.AckPayload](t)(r.card.Ack(tx.Ack, dataSlot, 2)); a.Result != message.Held {
		t.Errorf("ack %v", a.Result)
	}

	if err := os.WriteFile(filepath.Join(own, "keysets", "PINS.r3.signed"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	reload <- os.Interrupt
	reload <- os.Interrupt
	if status, body := r.admin("/readyz"); status != 503 || !strings.Contains(body, `"catalog":"failed"`) {
		t.Errorf("with a damaged document: %d %s", status, body)
	}
	if tx := must[*api.TransactionResponse](t)(r.api().Transaction(t.Context(), api.TransactionRequest{Message: r.sale(3, 1)})); !tx.Held {
		t.Error("a damaged document lifted the block")
	}
}
