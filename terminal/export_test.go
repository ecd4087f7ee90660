package terminal

import (
	"crypto/tls"
	"net"
	"syscall"
	"time"

	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// What the tests in package terminal_test see of the inside.
var DecodeBundle = decodeBundle

// EncodeBundle is encodeBundle with a result that is easy to compare.
func EncodeBundle(b *Bundle) ([]byte, error) {
	plain, err := encodeBundle(b)
	return plain.Expose(), err
}

// SealBundleCheaply is SealBundle at the least cost.
func SealBundleCheaply(passphrase secret.Bytes, b *Bundle) ([]byte, error) {
	return sealBundle(seal.Params{Memory: 8, Time: 1, Parallelism: 1}, passphrase, b)
}

// LoadInitialKey puts the key of one slot onto the medium, as Import does.
func LoadInitialKey(f FS, sealer Sealer, s BundleSlot) error {
	ik, err := s.InitialKey()
	if err != nil {
		return err
	}
	return store{fs: f, sealer: sealer}.loadInitialKey(s.Slot, ik)
}

// Enrolment returns the code that is kept of an enrolment, and the keys: of TLS and of agreement.
func Enrolment(f FS, sealer Sealer) (code, tls, agreement string, err error) {
	e, err := store{fs: f, sealer: sealer}.loadEnrolment()
	if err != nil {
		return "", "", "", err
	}
	defer e.wipe()
	return string(e.code.Expose()), string(e.tlsKey.Expose()), string(e.member.agreementKey.Expose()), nil
}

// WithNow has a link measure its pauses by another clock.
func (o LinkOptions) WithNow(now func() time.Time) LinkOptions {
	o.now = now
	return o
}

// Rest is how long an endpoint that failed is tried after the others.
const Rest = rest

// Interleaved is the order in which addresses are tried.
var Interleaved = interleaved

// RawOf returns the socket below a connection of Link.Dial.
func RawOf(c net.Conn) (syscall.RawConn, error) {
	return c.(*tls.Conn).NetConn().(*tracked).Conn.(*net.TCPConn).SyscallConn()
}
