package postgres_test

import (
	"context"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/store/postgres"
)

// A service opens its store under its name. What another machine has is reached over TLS alone, and logging in takes a password from
// a file.
func Example() {
	o := postgres.Options{
		Servers:  []postgres.Server{{Host: "db-1.example"}, {Host: "db-2.example"}},
		Database: "latchkey", User: "decryptd", PasswordFile: "secrets/database", RootsFile: "trust/database.pem",
		Instance: "DECRYPT-1", RequireStandby: true,
	}
	store, err := postgres.Open(context.Background(), o)
	if err != nil {
		fmt.Println("not here:", err != nil)
		return
	}
	defer func() { _ = store.Close() }()
	fmt.Println(store.Promise())
	// Output: not here: true
}
