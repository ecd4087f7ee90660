package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/latchkey-pos/latchkey/decrypt/api"
)

// A host hands over a message, decides, and returns the acknowledgement to the terminal.
func ExampleClient() {
	service := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		digest := "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
		if r.URL.Path == api.PathTransactions {
			fmt.Fprintf(w, `{"RequestDigest":%q,"Type":"sale","Tenant":"ACME","Terminal":"T-1","BootCounter":1,"Sequence":1,`+
				`"CounterStatus":"FRESH","CounterAuthenticated":true}`, digest)
			return
		}
		fmt.Fprint(w, `{"Ack":"AQID","Recorded":"FIRST"}`)
	}))
	defer service.Close()

	// In production the http.Client carries the certificate of the host: see tls/tlsconf.
	client := api.NewClient(service.URL, service.Client())
	ctx := context.Background()
	tx, err := client.Transaction(ctx, api.TransactionRequest{Message: []byte("as received"), OutgoingPINKey: "alias/zone-1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	done, err := client.Answer(ctx, api.AnswerRequest{RequestDigest: tx.RequestDigest, Result: api.Approved})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(tx.Type, tx.CounterStatus, done.Recorded, len(done.Ack))
	// Output: sale FRESH FIRST 3
}

func ExampleParseTransactionRequest() {
	_, err := api.ParseTransactionRequest([]byte(`{"message":"AQID"}`))
	fmt.Println(err)
	// Output: api: malformed body: unknown member near byte 1
}
