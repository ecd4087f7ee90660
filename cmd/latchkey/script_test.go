package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"latchkey": main})
}

// TestScripts runs the program as a user does. Each script finds, for every published swipe of
// testdata/devices/devices.json, the base key in a file ID.bdk and KSN, data and clear text in the variables ID_ksn,
// ID_data and ID_clear (with _ for -), and passphrases in the
// files pass, wrong and short.
func TestScripts(t *testing.T) {
	t.Parallel()
	swipes := readSwipes(t)
	testscript.Run(t, testscript.Params{
		Dir:                "testdata",
		RequireUniqueNames: true,
		Cmds:               map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Setup: func(env *testscript.Env) error {
			for _, s := range swipes {
				name := strings.ReplaceAll(s.ID, "-", "_")
				env.Setenv(name+"_ksn", s.KSN)
				env.Setenv(name+"_data", s.Ciphertext)
				env.Setenv(name+"_clear", s.ClearText)
				if err := os.WriteFile(filepath.Join(env.WorkDir, s.ID+".bdk"), []byte(s.BDK+"\n"), 0o600); err != nil {
					return err
				}
			}
			return writePasses(env.WorkDir)
		},
	})
}

// writePasses writes the right passphrase, another one, and one that is too short.
func writePasses(dir string) error {
	var errs []error
	for name, text := range map[string]string{
		"pass": "correct horse battery staple", "wrong": "another passphrase of some length", "short": "too short",
	} {
		errs = append(errs, os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600))
	}
	return errors.Join(errs...)
}

// swipe is a published capture of a reader.
type swipe struct {
	ID         string `json:"id"`
	Kind       string `json:"kind"`
	BDK        string `json:"bdk"`
	KSN        string `json:"ksn"`
	Ciphertext string `json:"ciphertext"`
	ClearText  string `json:"clear_text"`
}

func readSwipes(t *testing.T) []swipe {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "testdata", "devices", "devices.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []swipe `json:"vectors"`
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	var swipes []swipe
	for _, v := range file.Vectors {
		if v.Kind == "decrypt" {
			swipes = append(swipes, v)
		}
	}
	if len(swipes) < 3 {
		t.Fatalf("%d swipes in devices.json, want those of MagTek and ID TECH", len(swipes))
	}
	return swipes
}

// exits runs a command and wants exactly this exit code: exits 6 latchkey dukpt decrypt …
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARGUMENT…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// flagName finds the long flags in a usage text.
var flagName = regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+)`)

// TestNoFlagTakesASecret walks every command: a flag whose name sounds like a secret takes the path of a file.
func TestNoFlagTakesASecret(t *testing.T) {
	t.Parallel()
	public := map[string]bool{"pin-key": true} // the name of a zone key
	flags := 0
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, m := range flagName.FindAllStringSubmatch(cmd.LocalFlags().FlagUsages(), -1) {
			flags++
			for _, word := range []string{"pass", "secret", "bdk", "pin", "pan", "code", "token", "track", "component"} {
				if strings.Contains(m[1], word) && !strings.HasSuffix(m[1], "-file") && !public[m[1]] {
					t.Errorf("%s --%s may take a secret: read it from a file", cmd.CommandPath(), m[1])
				}
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(&console{}))
	if flags < 20 {
		t.Errorf("only %d flags seen", flags)
	}
}
