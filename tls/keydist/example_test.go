package keydist_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"

	"github.com/latchkey-pos/latchkey/tls/keydist"
)

// A list of devices names them by the serial number that their maker gave them, or by that of the maker's certificate.
func ExampleParseAllowList() {
	list, err := keydist.ParseAllowList([]byte("# pallet 7, two persons\nSN-20260301-17\ncertificate:0abc\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	device := &x509.Certificate{Subject: pkix.Name{SerialNumber: "SN-20260301-17"}, SerialNumber: big.NewInt(1)}
	fmt.Println(list.Len(), list.Allows(device))
	// Output: 2 true
}

// A refusal carries a stable code, and the code knows what to do about it.
func ExampleRefusal() {
	var err error = &keydist.Refusal{Code: keydist.CodeNoKeyID, Detail: "CARDS ends at FFFF987654FFFFE00000"}
	refusal, ok := errors.AsType[*keydist.Refusal](err)
	if !ok {
		return // the host was not reached
	}
	info, _ := refusal.Code.Info()
	fmt.Println(refusal.Code, info.HTTPStatus, refusal.Unavailable(), errors.Is(err, keydist.ErrNoKeyID))
	fmt.Println(info.Hint)
	// Output:
	// NoKeyId 409 false true
	// create a key set with another range and assign it
}
