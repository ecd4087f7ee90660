package decrypt

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/internal/openapitest"
	"github.com/latchkey-pos/latchkey/message"
)

// openAPI is docs/openapi.yaml.
func openAPI(t *testing.T) *openapi3.T {
	t.Helper()
	return openapitest.Load(t, "../../../docs/openapi.yaml")
}

// TestOpenAPIHasEveryRoute compares the document with what the service registers, in both directions.
func TestOpenAPIHasEveryRoute(t *testing.T) {
	t.Parallel()
	var want []string
	for _, e := range (&handlers{permissions: &permissions{}, metrics: &metrics{}}).endpoints() {
		want = append(want, e.method+" "+e.path)
	}
	openapitest.Routes(t, openAPI(t), want)
}

// TestOpenAPIHasEveryMember compares its schemas with the types of the native calls.
func TestOpenAPIHasEveryMember(t *testing.T) {
	t.Parallel()
	doc := openAPI(t)
	for _, v := range []any{
		api.TransactionRequest{}, api.TransactionResponse{}, api.AnswerRequest{}, api.AnswerResponse{}, api.CountersResponse{}, api.SlotCounters{},
		api.BatchRequest{}, api.BatchResponse{}, api.BatchResult{}, api.Field{}, api.Labels{}, api.Amount{}, api.Original{}, api.Recorded{},
	} {
		openapitest.Members(t, doc, reflect.TypeOf(v).Name(), v, true)
	}
}

// exchange makes a call, holds what is asked and answered to the document, and returns the answer.
func (r *running) exchange(doc *openapi3.T, method, template, path string, request any, status int) map[string]any {
	r.tb.Helper()
	op := doc.Paths.Value(template).GetOperation(method)
	var body []byte
	media := ""
	if request != nil {
		media = "application/json"
		body = must[[]byte](r.tb)(json.Marshal(request))
		if err := openapitest.Conforms(op.RequestBody.Value.Content, body); err != nil {
			r.tb.Errorf("%s: request: %v", path, err)
		}
	}
	got, answer := r.do(method, path, media, body)
	described := op.Responses.Default()
	if got == http.StatusOK {
		described = op.Responses.Value("200")
	}
	if err := openapitest.Conforms(described.Value.Content, answer); err != nil || got != status {
		r.tb.Errorf("%s: status %d, want %d; %v\n%s", path, got, status, err, answer)
	}
	var out map[string]any
	if err := json.Unmarshal(answer, &out); err != nil {
		r.tb.Fatal(err)
	}
	return out
}

// TestExchangesAreAsDescribed makes a call of every endpoint, and a refusal of each, and holds them to the document.
func TestExchangesAreAsDescribed(t *testing.T) {
	t.Parallel()
	doc := openAPI(t)
	p, c := testConfig(t)
	r := start(t, p, c)
	r.nativeExchanges(doc)
	m := must[*message.Message](t)(message.Parse(r.sale(2, 100)))
	r.dataExchanges(doc, m)
	r.pinAndMACExchanges(doc, m)
	for _, path := range []string{"/keys/alias/a/b/decrypt", "/keys//decrypt", "/pindata/generate", "/keys/alias%252Fbdk/decrypt"} {
		if status, body := r.do("POST", path, "application/json", []byte("{}")); status != 404 && status != 400 {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, body := r.do("GET", "/mac/verify", "", nil); status != 405 || !bytes.Contains(body, []byte("MethodNotAllowed")) {
		t.Errorf("GET: %d %s", status, body)
	}
	_, metrics := r.admin("/metrics")
	for _, want := range []string{
		`latchkey_calls_total{action="decrypt-data",result="FRESH"} 1`, `latchkey_calls_total{action="decrypt-data",result="KsnReplayed"} 1`,
		`latchkey_calls_total{action="verify-mac",result="MacInvalid"} 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func (r *running) nativeExchanges(doc *openapi3.T) {
	r.tb.Helper()
	tx := r.exchange(doc, "POST", "/transactions", "/transactions", map[string]any{"Message": base64.StdEncoding.EncodeToString(r.sale(1, 100))}, 200)
	r.exchange(doc, "POST", "/transactions", "/transactions", map[string]any{"Message": base64.StdEncoding.EncodeToString(r.sale(1, 200))}, 409)
	r.exchange(doc, "POST", "/transactions/answer", "/transactions/answer", map[string]any{"RequestDigest": tx["RequestDigest"], "Result": "APPROVED"}, 200)
	r.exchange(doc, "POST", "/transactions/answer", "/transactions/answer", map[string]any{"RequestDigest": strings.Repeat("0", 64), "Result": "APPROVED"}, 404)
	r.exchange(doc, "GET", "/terminals/{id}/counters", "/terminals/T-1/counters", nil, 200)
	r.exchange(doc, "GET", "/terminals/{id}/counters", "/terminals/T-9/counters", nil, 404)

	batch := []any{map[string]any{"Message": base64.StdEncoding.EncodeToString(r.sale(1, 200))}}
	for i := range 30 {
		batch = append(batch, map[string]any{"Message": base64.StdEncoding.EncodeToString(r.sale(uint32(10+i), 100))})
	}
	results := r.exchange(doc, "POST", "/transactions/batch", "/transactions/batch", map[string]any{"Transactions": batch}, 200)["Results"].([]any)
	for i, result := range results {
		if _, refused := result.(map[string]any)["Error"]; refused != (i == 0) {
			r.tb.Errorf("message %d of the batch: %v", i, result)
		}
	}
	r.exchange(doc, "POST", "/transactions/batch", "/transactions/batch", map[string]any{"Transactions": []any{map[string]any{"Message": "AQID", "OutgoingPINKey": "alias/zone-1"}, batch[1]}}, 200)
	if status, body := r.do("POST", "/transactions/batch", "application/json", []byte(`{"Transactions":[{"Message":"AQID"},{"Massage":"AQID"}]}`)); status != 400 {
		r.tb.Errorf("one unknown member: %d %s", status, body)
	}
}

func (r *running) dataExchanges(doc *openapi3.T, m *message.Message) {
	r.tb.Helper()
	data := m.Payload.Fields[0]
	of := func(ksn, variant string) map[string]any {
		return map[string]any{"Dukpt": map[string]any{"KeySerialNumber": ksn, "DukptKeyVariant": variant, "DukptKeyDerivationType": "TDES_2KEY"}}
	}
	ksn, further := data.KSN.String(), must[*message.Message](r.tb)(message.Parse(r.sale(3, 100))).Payload.Fields[0].KSN.String()
	digits := strings.ToUpper(hex.EncodeToString(data.Ciphertext))
	decryption := map[string]any{"CipherText": digits, "DecryptionAttributes": of(ksn, "REQUEST")}
	if len(data.IV) > 0 {
		decryption["DecryptionAttributes"].(map[string]any)["Dukpt"].(map[string]any)["InitializationVector"] = hex.EncodeToString(data.IV)
	}
	clear := r.exchange(doc, "POST", "/keys/{KeyIdentifier}/decrypt", "/keys/alias%2Fbdk-data/decrypt", decryption, 200)
	again := r.exchange(doc, "POST", "/keys/alias/{AliasName}/decrypt", "/keys/alias/bdk-data/decrypt", decryption, 200)
	if again["PlainText"] != clear["PlainText"] || again["CounterStatus"] != "RESEND" || !strings.HasPrefix(fmt.Sprint(clear["PlainText"]), strings.ToUpper(hex.EncodeToString([]byte(testTrack)))) {
		r.tb.Errorf("decrypted %v, then %v", clear["CounterStatus"], again["CounterStatus"])
	}
	r.exchange(doc, "POST", "/keys/{KeyIdentifier}/decrypt", "/keys/"+strings.NewReplacer(":", "%3A", "/", "%2F").Replace(fmt.Sprint(clear["KeyArn"]))+"/decrypt", decryption, 200)
	decryption["CipherText"] = strings.Repeat("00", len(data.Ciphertext))
	r.exchange(doc, "POST", "/keys/{KeyIdentifier}/decrypt", "/keys/alias%2Fbdk-data/decrypt", decryption, 400)
	encryption := map[string]any{"PlainText": "0011223344556677", "EncryptionAttributes": of(ksn, "RESPONSE")}
	for _, at := range [][2]string{{"/keys/{KeyIdentifier}/encrypt", "/keys/alias%2Fbdk-data/encrypt"}, {"/keys/alias/{AliasName}/encrypt", "/keys/alias/bdk-data/encrypt"}} {
		r.exchange(doc, "POST", at[0], at[1], encryption, 200)
	}
	re := map[string]any{
		"OutgoingKeyIdentifier": "alias/bdk-data", "CipherText": "0011223344556677", "IncomingEncryptionAttributes": of(further, "REQUEST"),
		"OutgoingEncryptionAttributes": of(further, "RESPONSE"),
	}
	for _, at := range [][2]string{{"/keys/{KeyIdentifier}/reencrypt", "/keys/alias%2Fbdk-data/reencrypt"}, {"/keys/alias/{AliasName}/reencrypt", "/keys/alias/bdk-data/reencrypt"}} {
		r.exchange(doc, "POST", at[0], at[1], re, 200)
	}
}

func (r *running) pinAndMACExchanges(doc *openapi3.T, m *message.Message) {
	r.tb.Helper()
	block, ksn := m.Payload.Fields[1], m.Payload.MAC.KSN.String()
	pan := map[string]any{"IsoFormat0": map[string]any{"PrimaryAccountNumber": testPAN}}
	r.exchange(doc, "POST", "/pindata/translate", "/pindata/translate", map[string]any{
		"IncomingKeyIdentifier": "alias/bdk-pin", "OutgoingKeyIdentifier": "alias/zone-1", "IncomingTranslationAttributes": pan, "OutgoingTranslationAttributes": pan,
		"EncryptedPinBlock": hex.EncodeToString(block.Ciphertext), "IncomingDukptAttributes": map[string]any{"KeySerialNumber": block.KSN.String()},
	}, 200)
	mac := func(variant string) map[string]any {
		return map[string]any{"DukptIso9797Algorithm3": map[string]any{"KeySerialNumber": ksn, "DukptKeyVariant": variant}}
	}
	verification := map[string]any{
		"KeyIdentifier": "alias/bdk-data", "MessageData": hex.EncodeToString(m.PayloadBytes), "Mac": hex.EncodeToString(m.MAC), "VerificationAttributes": mac("REQUEST"),
	}
	if got := r.exchange(doc, "POST", "/mac/verify", "/mac/verify", verification, 200); got["CounterAuthenticated"] != true {
		r.tb.Errorf("verified: %v", got)
	}
	verification["Mac"] = "0000000000000000"
	if got := r.exchange(doc, "POST", "/mac/verify", "/mac/verify", verification, 400); got["Reason"] != "INVALID_MAC" {
		r.tb.Errorf("a wrong MAC: %v", got)
	}
	r.exchange(doc, "POST", "/mac/generate", "/mac/generate", map[string]any{"KeyIdentifier": "alias/bdk-data", "MessageData": "00", "GenerationAttributes": mac("RESPONSE")}, 200)
	r.exchange(doc, "POST", "/mac/generate", "/mac/generate", map[string]any{"KeyIdentifier": "alias/nothing", "MessageData": "00", "GenerationAttributes": mac("RESPONSE")}, 404)
}
