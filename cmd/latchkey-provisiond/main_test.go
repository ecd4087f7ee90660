package main

import (
	"os"
	"testing"

	"github.com/latchkey-pos/latchkey/cmd/daemon/daemontest"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	node "github.com/latchkey-pos/latchkey/internal/node/provision"
	_ "github.com/latchkey-pos/latchkey/internal/seal/sealtest" // many deployments
)

func TestMain(m *testing.M) { os.Exit(hsmtest.Binary(m, 1)) }

// TestProgram runs without a key-distribution host: terminals can enrol, and ask again for their keys.
func TestProgram(t *testing.T) {
	t.Parallel()
	daemontest.Run(t, daemontest.Daemon[node.Config]{
		Program: program, File: deploy.ProvisiondFile, Database: "provisiond.db", Checkpoint: "audit/provisiond.checkpoint", Instance: "RA-1",
		Doors: []string{"terminals", "services", "publication", "admin"}, Ready: []string{"terminals", "services", "publication", "admin"},
		Readyz:   `{"catalog":"ok","certificate":"ok","issuer":"ok","signer":"ok","store":"ok"}`,
		Required: "tenant: ACME\nenvironment: test\npassphrase-file: pass\n",
		Wrong:    []string{"keyd: http://localhost:8448", "drain: 0s", "overlap: 25h", "hsm: {pin-file: pin}", "signer-key: pkcs11:object=a"},
		Teaches: []string{
			"/.well-known/est/cacerts", "/.well-known/est/csrattrs", "/.well-known/est/simpleenroll", "/.well-known/est/simplereenroll",
			"/.well-known/est/agreement/simpleenroll", "/enrolment", "/keys", "/trust-list", "/crl/terminals", "one-time code",
			"latchkey terminal", "registry feed", "HUP",
		},
	})
}
