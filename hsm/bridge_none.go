//go:build !cgo || nohsm

package hsm

import "github.com/latchkey-pos/latchkey/internal/secret"

// Built says whether this program has the bridge to PKCS#11 modules.
const Built = false

func newDevice(URI, secret.Bytes, Options) (cryptoki, error) { return nil, ErrNoBridge }

func findModule(string) (module, error) { return nil, ErrNoBridge }
