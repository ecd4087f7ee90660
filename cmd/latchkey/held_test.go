package main

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	"github.com/latchkey-pos/latchkey/internal/node/decrypt"
	"github.com/latchkey-pos/latchkey/internal/node/keydist"
	"github.com/latchkey-pos/latchkey/internal/node/provision"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// TestHeldScripts runs the commands on deployments some of whose keys are in tokens. TOKEN is the URI of one, with the PIN in the
// file pin, OFFICE that of another. founded DIR KIND makes a deployment with the issuing key of the authority KIND in that one,
// under the name that deploy.IssuingKey has; starts FILE has the daemon of a configuration open all that it needs.
func TestHeldScripts(t *testing.T) {
	if !hsm.Built {
		hsmtest.Absent(t, hsm.ErrNoBridge)
	}
	token, office := hsmtest.New(t), hsmtest.New(t)
	inTurn(t, testscript.Params{
		Dir:  filepath.Join("testdata", "held"),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "founded": founded, "starts": starts},
		Setup: func(env *testscript.Env) error {
			env.Setenv("SOFTHSM2_CONF", os.Getenv("SOFTHSM2_CONF"))
			env.Setenv("MODULE", token.Module)
			env.Setenv("TOKEN", token.URI())
			env.Setenv("LABEL", token.Label)
			env.Setenv("OFFICE", office.URI())
			env.Setenv("OFFICELABEL", office.Label)
			return errors.Join(writePasses(env.WorkDir), os.WriteFile(filepath.Join(env.WorkDir, "pin"), []byte(hsmtest.PIN+"\n"), 0o600))
		},
	})
}

func founded(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: founded DIR KIND")
	}
	u, err := hsm.ParseURI(ts.Getenv("OFFICE"))
	ts.Check(err)
	ctx := context.Background()
	token, err := hsm.Open(ctx, u, secret.From([]byte(hsmtest.PIN)), hsm.Options{})
	ts.Check(err)
	defer token.Close()
	d, err := deploy.Create(ts.MkAbs(args[0]), deploy.Options{
		Tenant: "SHOP-1", Environment: keyset.Test, Passphrase: secret.From([]byte("correct horse battery staple")),
		Key: func(name string, curve elliptic.Curve) (crypto.Signer, error) {
			for _, kind := range identity.Authorities() {
				if kind.String() == args[1] && name == deploy.IssuingKey(kind) {
					return token.GenerateSigner(ctx, name, curve)
				}
			}
			return nil, nil
		},
	})
	ts.Check(err)
	ts.Check(d.Close())
}

func starts(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: starts FILE")
	}
	path, quiet, ctx := ts.MkAbs(args[0]), slog.New(slog.DiscardHandler), context.Background()
	var err error
	switch name := filepath.Base(path); {
	case strings.HasPrefix(name, "decryptd"):
		c, lerr := decrypt.LoadConfig(path)
		ts.Check(lerr)
		err = decrypt.Check(ctx, c, quiet)
	case strings.HasPrefix(name, "keyd"):
		c, lerr := keydist.LoadConfig(path)
		ts.Check(lerr)
		err = keydist.Check(ctx, c, quiet)
	default:
		c, lerr := provision.LoadConfig(path)
		ts.Check(lerr)
		err = provision.Check(ctx, c, quiet)
	}
	if neg != (err != nil) {
		ts.Fatalf("%s: %v", args[0], err)
	}
	if err != nil {
		ts.Logf("%s: %v", args[0], err)
	}
}
