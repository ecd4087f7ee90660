package main

import (
	"os"
	"testing"

	"github.com/latchkey-pos/latchkey/cmd/daemon/daemontest"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	node "github.com/latchkey-pos/latchkey/internal/node/decrypt"
	_ "github.com/latchkey-pos/latchkey/internal/seal/sealtest" // many deployments
)

func TestMain(m *testing.M) { os.Exit(hsmtest.Binary(m, 1)) }

// TestProgram runs without a registration authority, so the service waits for one.
func TestProgram(t *testing.T) {
	t.Parallel()
	daemontest.Run(t, daemontest.Daemon[node.Config]{
		Program: program, File: deploy.DecryptdFile, Database: "decryptd.db", Checkpoint: "audit/checkpoint", Instance: "DECRYPT-1",
		Doors: []string{"listen", "admin"}, Ready: []string{"service", "admin"},
		Readyz:   `{"catalog":"ok","keys":"ok","registry":"failed","store":"ok"}`,
		Required: "tenant: ACME\nenvironment: test\npassphrase-file: pass\ncallers: [{name: ACQ-1}]\n",
		Wrong:    []string{"registry: {}", "registry: {urls: ['http://localhost:8446']}", "hsm: {pin-file: pin}"},
		Teaches:  []string{"POST /transactions", "POST /transactions/answer", "GET /terminals/ID/counters", "pin-keys", "stale-after", "hsm", "pin-file", "HUP"},
	})
}
