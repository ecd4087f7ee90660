package main

import (
	"bytes"
	"context"
	"crypto/des"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	_ "github.com/latchkey-pos/latchkey/internal/seal/sealtest" // many deployments
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
)

func TestMain(m *testing.M) {
	testscript.Main(withTokens{m}, map[string]func(){"latchkey": main, "latchkey-hsm": main})
}

// withTokens runs the tests, for which there may be tokens.
type withTokens struct{ m *testing.M }

func (w withTokens) Run() int { return hsmtest.Binary(w.m, 10) }

// inTurn runs the scripts of a folder one after the other. SoftHSM writes the file of a token anew whenever somebody logs in, and a
// process that reads it meanwhile finds no such token, or an error.
func inTurn(t *testing.T, p testscript.Params) {
	t.Helper()
	scripts, err := filepath.Glob(filepath.Join(p.Dir, "*.txtar"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts in %s: %v", p.Dir, err)
	}
	p.Dir = ""
	for _, script := range scripts {
		p.Files = []string{script}
		t.Run(filepath.Base(script), func(t *testing.T) { testscript.Run(t, p) })
	}
}

// TestTokenScripts runs the commands on PKCS#11 tokens, of SoftHSM. The variables are MODULE, TOKEN, which is the URI of an empty
// token, and LABEL; the PIN is in the file pin. DEAF is the module of
// another token, DEAFTOKEN, that does not return from a call as long as there is a file hang- and its name in DEAFDIR.
func TestTokenScripts(t *testing.T) {
	if !hsm.Built {
		hsmtest.Absent(t, hsm.ErrNoBridge)
	}
	token, deaf := hsmtest.New(t), hsmtest.NewDeaf(t, hsmtest.New(t))
	inTurn(t, testscript.Params{
		Dir:                "testdata/hsm",
		RequireUniqueNames: true,
		Cmds:               map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Setup: func(env *testscript.Env) error {
			env.Setenv("SOFTHSM2_CONF", os.Getenv("SOFTHSM2_CONF"))
			env.Setenv("MODULE", token.Module)
			env.Setenv("TOKEN", token.URI())
			env.Setenv("LABEL", token.Label)
			env.Setenv("DEAFTOKEN", deaf.URI())
			env.Setenv("DEAF", deaf.Module)
			env.Setenv("DEAFDIR", filepath.Dir(deaf.Module))
			return errors.Join(
				os.WriteFile(filepath.Join(env.WorkDir, "pin"), []byte(hsmtest.PIN+"\n"), 0o600),
				os.WriteFile(filepath.Join(env.WorkDir, "open"), []byte(hsmtest.PIN+"\n"), 0o644),
				os.WriteFile(filepath.Join(env.WorkDir, "pass"), []byte("correct horse battery staple\n"), 0o600),
				os.WriteFile(filepath.Join(env.WorkDir, "bad"), []byte("00000000\n"), 0o600),
			)
		},
	})
}

// TestCeremonyScripts runs ceremonies with a token, and the walk-through of docs/hsm.md as it is printed there. Besides the
// variables of TestTokenScripts, OTHER is the URI of another token; the custodians' passphrases are in anna.pass and bert.pass.
func TestCeremonyScripts(t *testing.T) {
	if !hsm.Built {
		hsmtest.Absent(t, hsm.ErrNoBridge)
	}
	other := hsmtest.New(t)
	ceremony := func(t *testing.T, dir string) {
		token := hsmtest.New(t)
		testscript.Run(t, testscript.Params{
			Dir:  dir,
			Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
			Setup: func(env *testscript.Env) error {
				env.Setenv("SOFTHSM2_CONF", os.Getenv("SOFTHSM2_CONF"))
				env.Setenv("MODULE", token.Module)
				env.Setenv("TOKEN", token.URI())
				env.Setenv("LABEL", token.Label)
				env.Setenv("OTHER", other.URI())
				var errs []error
				for name, text := range map[string]string{
					"pin": hsmtest.PIN, "anna.pass": "anna has her own passphrase", "bert.pass": "bert has his own passphrase",
				} {
					errs = append(errs, os.WriteFile(filepath.Join(env.WorkDir, name), []byte(text+"\n"), 0o600))
				}
				return errors.Join(append(errs, writePasses(env.WorkDir))...)
			},
		})
	}
	ceremony(t, filepath.Join("testdata", "ceremony"))
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "hsm.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(page), "\n## A key ceremony\n")
	section, _, end := strings.Cut(section, "\n## ")
	blocks := shellBlock.FindAllStringSubmatch(section, -1)
	if !ok || !end || len(blocks) != 5 {
		t.Fatalf("docs/hsm.md has %d blocks of commands about a ceremony, want 5", len(blocks))
	}
	var text strings.Builder
	text.WriteString("latchkey init pos --tenant SHOP-1 --environment production --passphrase-file pass\nexec sh -eu printed.sh\n" +
		"stdout '^loaded .*KCV 08D7B4'\nstdout '^alias/bdk-2 .* 2TDEA +08D7B4 .* production +bdk-in-token$'\n-- printed.sh --\n")
	for _, b := range blocks {
		text.WriteString(b[1])
	}
	text.WriteString("-- anna.paper --\n7C8A9B0D1E2F30415263748596A7B8C9\n-- bert.paper --\n7DA9DE6A9784FDAEACBFCE1DE0F38AD9\n")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "page.txtar"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	ceremony(t, dir)
}

// TestScripts runs the program as a user does. Each script finds, for every published swipe of
// testdata/devices/devices.json, the base key in a file ID.bdk and KSN, data and clear text in the variables ID_ksn,
// ID_data and ID_clear (with _ for -), and passphrases in the
// files pass, wrong, short and second.
func TestScripts(t *testing.T) {
	t.Parallel()
	swipes := readSwipes(t)
	testscript.Run(t, testscript.Params{
		Dir:                "testdata",
		RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "tamper": tamper, "authority": authority, "approval": approval, "device": device,
			"published": published, "furtherroot": furtherRoot,
		},
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

// writePasses writes the right passphrase, another one, one that is too short, and one that a second person has.
func writePasses(dir string) error {
	var errs []error
	for name, text := range map[string]string{
		"pass": "correct horse battery staple", "wrong": "another passphrase of some length", "short": "too short",
		"second": "second person, second passphrase",
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
	KeyUse     string `json:"key_use"`
	Cipher     string `json:"cipher"`
	IV         string `json:"iv"`
	Ciphertext string `json:"ciphertext"`
	ClearText  string `json:"clear_text"` // none: not text, and no card data
	ClearHex   string `json:"clear_hex"`
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

// TestCaptures opens every published capture as a user does, and holds all that is shown against what its source prints.
func TestCaptures(t *testing.T) {
	t.Parallel()
	makers := map[string]string{"pin variant": "magtek", "data request (variant, then one-way)": "idtech"}
	dir := t.TempDir()
	swipes := readSwipes(t)
	for _, s := range swipes {
		name, ok := makers[s.KeyUse]
		if !ok || s.Cipher != "TDES-CBC" {
			t.Fatalf("%s: no profile is known for %q, %s", s.ID, s.KeyUse, s.Cipher)
		}
		if err := os.WriteFile(filepath.Join(dir, s.ID+".txtar"), s.script(t, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	testscript.Run(t, testscript.Params{Dir: dir})
	t.Logf("captures opened: %d", len(swipes))
}

// script opens a capture with and without --reveal, and compares every byte of standard output.
func (s swipe) script(t *testing.T, profile string) []byte {
	t.Helper()
	clear, err := hex.DecodeString(s.ClearHex)
	if err != nil || len(clear) == 0 {
		t.Fatalf("%s: clear_hex %q: %v", s.ID, s.ClearHex, err)
	}
	o := opened{
		KSN: s.KSN, Profile: profile, Mode: "CBC", Direction: "request", Padding: "none", BaseKCV: s.kcv(t), Bytes: len(clear),
	}
	revealed := strings.TrimRight(string(clear), "\x00")
	if s.ClearText == "" {
		sum := sha256.Sum256(clear)
		o.Kind, o.SHA256, revealed = kindRaw, hex.EncodeToString(sum[:]), s.ClearHex
	} else {
		number := regexp.MustCompile(`^%B([0-9]{6})([0-9]+)([0-9]{4})\^`).FindStringSubmatch(s.ClearText)
		if number == nil || revealed != s.ClearText {
			t.Fatalf("%s: clear_text %q is not the track in clear_hex", s.ID, s.ClearText)
		}
		o.Kind, o.MaskedPAN = kindCard, number[1]+strings.Repeat("*", len(number[2]))+number[3]
	}
	command := "latchkey dukpt decrypt --bdk-file bdk --ksn " + s.KSN + " --profile " + profile + " --kind " + o.Kind +
		" --iv " + s.IV + " --data " + s.Ciphertext + " -o json"
	masked, all := new(bytes.Buffer), new(bytes.Buffer)
	err = (&console{stdout: masked}).json(o)
	o.Clear = revealed
	if err := errors.Join(err, (&console{stdout: all}).json(o)); err != nil {
		t.Fatal(err)
	}
	return fmt.Appendf(nil, "%[1]s\ncmp stdout masked\n! stderr .\n%[1]s --reveal\ncmp stdout revealed\n! stderr .\n"+
		"-- bdk --\n%[2]s\n-- masked --\n%[3]s-- revealed --\n%[4]s", command, s.BDK, masked, all)
}

// kcv is the check value of the base key, by the standard library.
func (s swipe) kcv(t *testing.T) string {
	t.Helper()
	key, err := hex.DecodeString(s.BDK)
	if err != nil || len(key) != 16 {
		t.Fatalf("%s: base key of %d bytes: %v", s.ID, len(key), err)
	}
	block, err := des.NewTripleDESCipher(append(key, key[:8]...))
	if err != nil {
		t.Fatal(err)
	}
	zero := make([]byte, 8)
	block.Encrypt(zero, zero)
	return strings.ToUpper(hex.EncodeToString(zero[:3]))
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
	public := map[string]bool{
		"pin-key":        true, // the name of a zone key
		"carry-pins":     true, // takes nothing
		"own-passphrase": true, // takes nothing: it has one asked for
		"new-secret-id":  true, // takes nothing: it has one made
	}
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

// tamper changes one word of one record of an audit log, in the file of its database: tamper DATABASE N OLD NEW. The
// record stays well formed.
func tamper(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 || len(args[2]) != len(args[3]) {
		ts.Fatalf("usage: tamper DATABASE N OLD NEW, of one length")
	}
	want, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	name := ts.MkAbs(args[0])
	log, err := sqlite.OpenAudit(name)
	ts.Check(err)
	var record []byte
	err = log.Leaves(context.Background(), func(l audit.Leaf) error {
		if l.Index == want {
			record = bytes.Clone(l.Record)
		}
		return nil
	})
	ts.Check(errors.Join(err, log.Close()))
	changed := bytes.Replace(record, []byte(args[2]), []byte(args[3]), 1)
	_, err = audit.ParseRecord(changed)
	ts.Check(err)
	file, err := os.ReadFile(name)
	ts.Check(err)
	if bytes.Equal(changed, record) || !bytes.Contains(file, record) {
		ts.Fatalf("record %d of %d bytes does not hold %s, or does not stand in the file as one", want, len(record), args[2])
	}
	// A split page leaves a stale copy of a row behind: which one is read is the database's business.
	ts.Check(os.WriteFile(name, bytes.ReplaceAll(file, record, changed), 0o600))
}
