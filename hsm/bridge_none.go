//go:build !cgo || nohsm

package hsm

import "github.com/latchkey-pos/latchkey/internal/secret"

// Built says whether this program has the bridge to PKCS#11 modules.
const Built = false

func openModule(URI, secret.Bytes, Options) (cryptoki, error) { return nil, ErrNoBridge }

func listModule(string) ([]tokenInfo, error) { return nil, ErrNoBridge }
