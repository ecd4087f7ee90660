package hsm

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// What the process that is watched does, one after the other, and writes into the trace before it does it.
const (
	spiedSetUp       = "set up"
	spiedConsecutive = "consecutive transactions"
	spiedOperations  = "all operations"
	spiedPlanted     = "planted"
	spiedEnd         = "end"

	spiedTransactions = 200
	spiedAll          = 20 // transactions with every operation
)

// spiedTerminal is the terminal whose transactions are watched.
const spiedTerminal = "1234567890123456"

// TestSpy reads what pkcs11-spy of OpenSC wrote down while a process made AES transactions on SoftHSM: no attribute was read,
// nothing searched for, no byte string of a key passed, and a transaction cost two derivations.
func TestSpy(t *testing.T) {
	t.Parallel()
	if !Built {
		hsmtest.Absent(t, ErrNoBridge)
	}
	spy, token := hsmtest.Spy(t), hsmtest.New(t)
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := exec.CommandContext(t.Context(), must(os.Executable()), "-test.run", "^TestSpied$", "-test.v")
	cmd.Env = append(os.Environ(), "PKCS11SPY="+token.Module, "PKCS11SPY_OUTPUT="+trace, "LATCHKEY_SPIED="+hsmtest.Token{Module: spy, Label: token.Label}.URI())
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestSpied") {
		t.Fatalf("%v: %s", err, out)
	}
	parts := spiedParts(t, must(os.ReadFile(trace)))
	var secrets [][]byte
	ksn := must(dukpt.ParseKSNHex(spiedTerminal + "00000001"))
	for range 1 + spiedTransactions + spiedAll {
		secrets = append(secrets, keysOf(t, ksn)...)
		ksn, _ = ksn.Next()
	}
	for name, transactions := range map[string]int{spiedConsecutive: spiedTransactions, spiedOperations: spiedAll} {
		p := parts[name]
		if p.reads != 0 || p.calls["C_GetAttributeValue"] != 0 || p.searches() != 0 || p.calls["C_WrapKey"] != 0 {
			t.Errorf("%s: %d values read, calls: %v", name, p.reads, p.calls)
		}
		if leaks := p.leaks(secrets); len(leaks) != 0 {
			t.Errorf("%s: parts of %d keys pass, the first: %s", name, len(leaks), leaks[0])
		}
		if p.calls["C_SignInit"] < transactions {
			t.Errorf("%s: the trace is not whole: %v", name, p.calls)
		}
	}
	if n := parts[spiedConsecutive].calls["C_DeriveKey"]; float64(n)/spiedTransactions > 2.1 || n < spiedTransactions {
		t.Errorf("%d C_DeriveKey in %d transactions", n, spiedTransactions)
	}
	// What is looked for is there where it has to be, and found: the base key while it is imported, and what was planted.
	if leaks := parts[spiedSetUp].leaks([][]byte{unhex(aesBDK)}); len(leaks) == 0 {
		t.Error("the base key is imported, and not found in the trace")
	}
	if p := parts[spiedPlanted]; len(p.leaks(secrets)) == 0 || p.reads == 0 || p.searches() == 0 {
		t.Errorf("planted: %d keys found, %d values read, calls: %v", len(p.leaks(secrets)), p.reads, p.calls)
	}
	t.Logf("%d transactions: %v", spiedTransactions, parts[spiedConsecutive].calls)
}

// TestSpied is the process that is watched. By itself it is skipped: pkcs11-spy reads the environment when it is loaded.
func TestSpied(t *testing.T) {
	name := os.Getenv("LATCHKEY_SPIED")
	if name == "" {
		t.Skip("TestSpy runs this in a process of its own")
	}
	mark := func(part string) {
		f := must(os.OpenFile(os.Getenv("PKCS11SPY_OUTPUT"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600))
		_, err := fmt.Fprintf(f, "==== %s\n", part)
		if cerr := f.Close(); err != nil || cerr != nil {
			t.Fatal(err, cerr)
		}
	}
	mark(spiedSetUp)
	token := openAgain(t, must(ParseURI(name)), Options{})
	e, base, till, zone := token.Engine(), put(t, token, keys.AES128), newTill(t, keys.AES128, spiedTerminal), alias(t, "zone")
	if _, err := token.Import(t.Context(), zone, newKey(t, attributesFor(keys.AES128, keys.UsagePIN, keys.ModeEncrypt), zoneKey), keyset.Test); err != nil {
		t.Fatal(err)
	}
	if err := till.send(t).verify(t, e, base); err != nil {
		t.Fatal(err)
	}
	mark(spiedConsecutive)
	for range spiedTransactions {
		if err := till.send(t).verify(t, e, base); err != nil {
			t.Fatal(err)
		}
	}
	mark(spiedOperations)
	var last dukpt.KSN
	for range spiedAll {
		last = till.send(t).ksn
		if _, err := answers(t, e, base, zone, last, sealedPIN(t, keys.AES128, last, pin.Format4)); err != nil {
			t.Fatal(err)
		}
	}
	mark(spiedPlanted)
	all := keysOf(t, last)
	err := token.use(t.Context(), func(c *connection, l *lease) error {
		o, err := c.device.createObject(l.session, imported(keys.AES128, all[len(all)-1], false, useEncrypt))
		if err != nil {
			return err
		}
		if _, err := c.device.attributes(l.session, o, []uint{attrValue}); err == nil {
			t.Error("the value of a sensitive key can be read")
		}
		_, err = c.device.findObjects(l.session, []attribute{number(attrClass, classSecret)}, 1)
		l.destroy(c, o)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	mark(spiedEnd)
}

// spied is a part of a trace.
type spied struct {
	calls map[string]int
	reads int      // of CKA_VALUE
	blobs [][]byte // everything that passed as bytes
}

var (
	spiedCall = regexp.MustCompile(`^[0-9]+: (C_[A-Za-z]+)$`)
	spiedDump = regexp.MustCompile(`^    ([0-9A-F]{8})  ((?:[0-9A-F]{2} ){1,16})`)
)

// spiedParts reads a trace: a line with a number for each call, and bytes as sixteen to a line with their offset.
func spiedParts(t *testing.T, trace []byte) map[string]*spied {
	t.Helper()
	parts := map[string]*spied{}
	var p *spied
	call := ""
	for line := range strings.Lines(string(trace)) {
		line = strings.TrimRight(line, "\r\n")
		if name, ok := strings.CutPrefix(line, "==== "); ok {
			p = &spied{calls: map[string]int{}}
			parts[name] = p
			continue
		}
		if p == nil {
			t.Fatalf("the trace begins with %q", line)
		}
		if m := spiedCall.FindStringSubmatch(line); m != nil {
			call = m[1]
			p.calls[call]++
		}
		if call == "C_GetAttributeValue" && strings.HasPrefix(line, "    CKA_VALUE ") {
			p.reads++
		}
		m := spiedDump.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		b := must(hex.DecodeString(strings.ReplaceAll(m[2], " ", "")))
		if m[1] != "00000000" && len(p.blobs) > 0 {
			last := len(p.blobs) - 1
			p.blobs[last] = append(p.blobs[last], b...)
		} else {
			p.blobs = append(p.blobs, b)
		}
	}
	if parts[spiedEnd] == nil {
		t.Fatal("the trace has no end")
	}
	return parts
}

// searches counts the calls that look for objects.
func (p *spied) searches() (n int) {
	for name, calls := range p.calls {
		if strings.HasPrefix(name, "C_FindObjects") {
			n += calls
		}
	}
	return n
}

// leaks names the keys of which eight bytes in a row passed.
func (p *spied) leaks(secrets [][]byte) (found []string) {
	windows := map[[8]byte]bool{}
	for _, blob := range p.blobs {
		for at := range max(len(blob)-7, 0) {
			windows[[8]byte(blob[at:])] = true
		}
	}
	for _, s := range secrets {
		for at := range len(s) - 7 {
			if windows[[8]byte(s[at:])] {
				found = append(found, fmt.Sprintf("%X", s))
				break
			}
		}
	}
	return found
}

// TestSpiedParts reads a trace that is written down here.
func TestSpiedParts(t *testing.T) {
	t.Parallel()
	parts := spiedParts(t, []byte("==== a\n\n1: C_GetAttributeValue\n2026-01-01 00:00:00.000\n    CKA_VALUE             00007f17c806ee20 / 17\n"+
		"    00000000  00 01 02 03 04 05 06 07 08 09 0A 0B 0C 0D 0E 0F  AA BB CC ........\n    00000010  10                                               AB CD\n"+
		"Returned:  0 CKR_OK\n\n2: C_FindObjectsInit\n    CKA_VALUE \n==== end\n"))
	a := parts["a"]
	want := unhex("000102030405060708090A0B0C0D0E0F10")
	if a.reads != 1 || a.calls["C_GetAttributeValue"] != 1 || a.searches() != 1 || len(a.blobs) != 1 || !bytes.Equal(a.blobs[0], want) {
		t.Errorf("read %+v", a)
	}
	for name, n := range map[string]int{"FF0203040506070809FF": 1, "090A0B0C0D0E0F10": 1, "FF02030405060708FF": 0, "090A0B0C0D0E0F11": 0} {
		if leaks := a.leaks([][]byte{unhex(name)}); len(leaks) != n {
			t.Errorf("%s: %d found, want %d", name, len(leaks), n)
		}
	}
}
