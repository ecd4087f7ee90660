package seal_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

func Example() {
	dir, err := os.MkdirTemp("", "seal")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "passphrase")
	if err := seal.WriteFile(file, []byte("correct horse battery\n"), 0o600); err != nil {
		panic(err)
	}

	passphrase, err := seal.ReadPassphrase(file)
	if err != nil {
		panic(err)
	}
	defer passphrase.Wipe()
	sealed, err := seal.Seal(passphrase, "latchkey example", []byte("a key"))
	if err != nil {
		panic(err)
	}

	plain, err := seal.Open(passphrase, "latchkey example", sealed)
	if err != nil {
		panic(err)
	}
	defer plain.Wipe()
	fmt.Println(plain.Len(), "bytes:", plain)

	_, err = seal.Open(secret.From([]byte("a wrong passphrase")), "latchkey example", sealed)
	fmt.Println(err)
	// Output:
	// 5 bytes: [secret]
	// seal: wrong passphrase or label, or altered bytes
}
