package hsm_test

import (
	"context"
	"fmt"

	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/keys"
)

// A token is opened by its URI and a PIN that came from a file or a person; its engine serves the host.
func ExampleOpen() {
	uri, err := hsm.ParseURI("pkcs11:token=acquirer?module-path=/usr/lib/softhsm/libsofthsm2.so")
	if err != nil {
		fmt.Println(err)
		return
	}
	pin := keys.NewSecret([]byte("24681357")) // for an example: read it from a file
	defer pin.Wipe()
	token, err := hsm.Open(context.Background(), uri, pin, hsm.Options{Sessions: 8})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer token.Close()
	report, err := token.Probe(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, k := range report.Keys {
		fmt.Println(k.Ref, k.KeyMode, k.PINExposure, k.Why)
	}
	_ = token.Engine()
}
