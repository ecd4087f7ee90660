package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/latchkey-pos/latchkey/internal/pgtest"
)

// TestStoreScripts runs the commands for a PostgreSQL on an empty database. The files decryptd.yaml and password are for it.
func TestStoreScripts(t *testing.T) {
	cluster := pgtest.Own(t)
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/postgres",
		RequireUniqueNames: true,
		Cmds:               map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Setup: func(env *testscript.Env) error {
			config := "tenant: SHOP-1\nenvironment: test\npassphrase-file: pass\ncallers:\n  - name: ACQ-1\n" +
				"postgres:\n  servers: ['127.0.0.1:%d']\n  name: %s\n  user: " + pgtest.Superuser + "\n  password-file: password\n  patience: 2s\n"
			database := cluster.Database(t)
			service := strings.Replace(config, "callers:\n  - name: ACQ-1\n", "", 1)
			return errors.Join(
				os.WriteFile(filepath.Join(env.WorkDir, "pass"), []byte("correct horse battery staple\n"), 0o600),
				os.WriteFile(filepath.Join(env.WorkDir, "password"), []byte(cluster.Password+"\n"), 0o600),
				os.WriteFile(filepath.Join(env.WorkDir, "decryptd.yaml"), fmt.Appendf(nil, config, cluster.Port, database), 0o600),
				os.WriteFile(filepath.Join(env.WorkDir, "provisiond.yaml"), fmt.Appendf(nil, service, cluster.Port, database), 0o600),
				os.WriteFile(filepath.Join(env.WorkDir, "keyd.yaml"), fmt.Appendf(nil, service, cluster.Port, database), 0o600),
				os.WriteFile(filepath.Join(env.WorkDir, "elsewhere.yaml"), fmt.Appendf(nil, config, 1, "none"), 0o600),
			)
		},
	})
}

// TestBar draws nothing for programs.
func TestBar(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := newBar(&out, "working")
	b.show(1, 2)
	b.end()
	if out.Len() != 0 {
		t.Errorf("%q where nobody looks", out.String())
	}
	b.w = &out
	b.show(1, 2)
	b.show(0, 0)
	if want := "\rworking [###############               ] 1 of 2\rworking [##############################] 0 of 0"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}
