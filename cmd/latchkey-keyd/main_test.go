package main

import (
	"os"
	"testing"

	"github.com/latchkey-pos/latchkey/cmd/daemon/daemontest"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	node "github.com/latchkey-pos/latchkey/internal/node/keydist"
	_ "github.com/latchkey-pos/latchkey/internal/seal/sealtest" // many deployments
)

func TestMain(m *testing.M) { os.Exit(hsmtest.Binary(m, 1)) }

func TestProgram(t *testing.T) {
	t.Parallel()
	daemontest.Run(t, daemontest.Daemon[node.Config]{
		Program: program, File: deploy.KeydFile, Database: "keyd.db", Checkpoint: "audit/keyd.checkpoint", Instance: "KDH-1",
		Doors: []string{"listen", "admin"}, Ready: []string{"service", "admin"},
		Readyz:   `{"catalog":"ok","issuer":"ok","keys":"ok","signer":"ok","store":"ok"}`,
		Required: "tenant: ACME\nenvironment: test\npassphrase-file: pass\n",
		Wrong:    []string{"first-after: {CARDS: X}", "hsm: {pin-file: pin}", "issuer-key: pkcs11:object=a"},
		Teaches:  []string{"POST /agreement", "POST /delivery", "POST /settlement", "first-after", "issuer-key", "pin-file", "attested: attested", "HUP"},
	})
}
