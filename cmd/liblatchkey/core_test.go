//go:build cgo

package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/pin"
)

// TestCoreVectors has a C program compute the published vectors with the core, on each processor, from the archive and, on this
// machine, from the shared library as pkg-config says.
func TestCoreVectors(t *testing.T) {
	for _, m := range machines {
		t.Run(m.arch, func(t *testing.T) {
			m.needs(t)
			dir := library(t, "core", m.arch)
			checkSize(t, dir, m.arch)
			links := map[string][]string{"archive": {"-I" + dir, filepath.Join(dir, "liblatchkey-core.a"), "-lpthread"}}
			if m.emulator == nil {
				testvec.Program(t, "pkg-config")
				links["shared"] = append(pkgConfig(t, dir, "latchkey-core"), "-Wl,-rpath,"+dir)
			}
			for name, link := range links {
				p := m.program(t, "testdata/vectors.c", link...)
				compute := m.dialogue(t, p)
				t.Logf("%s:", name)
				testvec.Run(t, "dukpt-tdes", coreTDES(compute), tdesElsewhere...)
				testvec.Run(t, "dukpt-aes", coreAES(compute), aesElsewhere...)
				checkLife(t, compute)
				if m.emulator == nil && name == "archive" {
					testvec.Flip(t, "dukpt-tdes", coreTDES(compute), tdesExpected)
					testvec.Flip(t, "dukpt-aes", coreAES(compute), aesExpected)
				}
			}
		})
	}
}

// checkLife starts the library anew for each of a thousand transactions, and expects the thousandth KSN.
func checkLife(t *testing.T, c compute) {
	t.Helper()
	for key, initial := range map[string]string{
		"6AC292FAA1315B4D858AB3A3D7D5933A": "FFFF9876543210E00000",
		"1273671EA26AC29AFA4D1084127652A1": "123456789012345600000000",
	} {
		raw, err := hex.DecodeString(initial)
		if err != nil {
			t.Fatal(err)
		}
		id, err := dukpt.ParseInitialKSN(raw)
		if err != nil {
			t.Fatal(err)
		}
		want, err := id.AtOrdinal(1000)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.is(want.String(), "life %s %s 1000", key, initial); err != nil {
			t.Error(err)
		}
	}
}

// dialogue starts a program that answers each line with one.
func (m machine) dialogue(t *testing.T, program string) compute {
	t.Helper()
	cmd := m.command(context.Background(), program) // which the end of its input ends
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", m.arch, err)
		}
	})
	answers := bufio.NewScanner(out)
	return func(line string) (string, error) {
		if _, err := io.WriteString(in, line+"\n"); err != nil {
			return "", err
		}
		if !answers.Scan() {
			return "", errors.New("no answer")
		}
		if said := answers.Text(); !strings.HasPrefix(said, "error") {
			return said, nil
		}
		return "", errors.New(answers.Text())
	}
}

func pkgConfig(t *testing.T, dir, name string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "pkg-config", "--cflags", "--libs", name)
	cmd.Env = append(os.Environ(), "PKG_CONFIG_PATH="+dir)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pkg-config %s: %v", name, err)
	}
	return strings.Fields(string(out))
}

// Vectors of what the C interface does not have: working keys by themselves, and the host's side.
var (
	tdesElsewhere = []string{"initial_key", "transaction_key", "variant_mask", "ksn_short_left_padded_ff", "ksn_advance", "terminal_key_sequence_digest"}
	aesElsewhere  = []string{
		"initial_key", "update_key", "derivation_key", "working_key_published", "strength_rule", "ksn_advance", "ksn_valid_counter",
		"working_key_2TDEA_from_128", "working_key_3TDEA_from_128", "working_key_AES128_from_128", "working_key_HMAC128_from_128",
		"working_key_2TDEA_from_192", "working_key_3TDEA_from_192", "working_key_AES128_from_192", "working_key_AES192_from_192",
		"working_key_HMAC128_from_192", "working_key_HMAC192_from_192", "working_key_2TDEA_from_256", "working_key_3TDEA_from_256",
		"working_key_AES128_from_256", "working_key_AES192_from_256", "working_key_AES256_from_256", "working_key_HMAC128_from_256",
		"working_key_HMAC192_from_256", "working_key_HMAC256_from_256", "terminal_key_sequence_digest",
	}
)

// What is expected, where a flipped digit must be noticed. The PIN block of AES has random fill, and is opened instead.
var (
	tdesExpected = map[string][]string{
		"pin_encrypt_iso0": {"encrypted_pin_block"}, "retail_mac_request": {"mac8"}, "retail_mac_response": {"mac8"},
		"tdes_cmac_request": {"cmac"}, "tdes_cmac_response": {"cmac"}, "data_request_encrypt": {"ciphertext"},
		"data_response_encrypt": {"ciphertext"},
	}
	aesExpected = map[string][]string{
		"cmac_request": {"mac"}, "cmac_response": {"mac"}, "hmac_request": {"mac"}, "hmac_response": {"mac"},
		"data_request": {"ciphertext"}, "data_response": {"ciphertext"},
	}
)

// compute asks the C program for one case.
type compute func(line string) (string, error)

// is compares what it says.
func (c compute) is(want, format string, args ...any) (int, error) {
	got, err := c(fmt.Sprintf(format, args...))
	if err == nil && !strings.EqualFold(got, want) {
		err = fmt.Errorf("got %s, want %s", got, want)
	}
	return 1, err
}

func coreTDES(c compute) map[string]testvec.Handler {
	mac := func(op string, algorithm, padding int, member string) testvec.Handler {
		return func(v testvec.Vector) (int, error) {
			want, tag := v.String(member), ""
			if op == "verify" {
				want, tag = "ok", want
			}
			return c.is(want, "%s %s %s %d 0 %d 8 %X %s", op, v.String("ik"), v.String("ksn"), algorithm, padding, v.String("data_ascii"), tag)
		}
	}
	return map[string]testvec.Handler{
		"pin_encrypt_iso0": func(v testvec.Vector) (int, error) {
			return c.is(v.String("encrypted_pin_block"), "pin %s %s 1 %s %s", v.String("ik"), v.String("ksn"), v.String("pin"), v.String("pan"))
		},
		"retail_mac_request":  mac("mac", 1, 1, "mac8"),
		"retail_mac_response": mac("verify", 1, 1, "mac8"),
		"tdes_cmac_request":   mac("mac", 2, 0, "cmac"),
		"tdes_cmac_response":  mac("verify", 2, 0, "cmac"),
		"data_request_encrypt": func(v testvec.Vector) (int, error) {
			return c.is(v.String("ciphertext"), "data %s %s 1 %X", v.String("ik"), v.String("ksn"), v.String("data_ascii"))
		},
		"data_response_encrypt": func(v testvec.Vector) (int, error) {
			plain := fmt.Sprintf("%X", v.String("data_ascii"))
			plain += strings.Repeat("0", (16-len(plain)%16)%16)
			return c.is(plain, "decrypt %s %s 1 %s", v.String("ik"), v.String("ksn"), v.String("ciphertext"))
		},
	}
}

func coreAES(c compute) map[string]testvec.Handler {
	mac := func(op string, algorithm, key, length int) testvec.Handler {
		return func(v testvec.Vector) (int, error) {
			ik, err := initialKeyOf(v)
			if err != nil {
				return 0, err
			}
			want, tag := v.String("mac"), ""
			if op == "verify" {
				want, tag = "ok", want
			}
			return c.is(want, "%s %s %s %d %d 0 %d %X %s", op, ik, v.String("ksn"), algorithm, key, length, v.String("data_ascii"), tag)
		}
	}
	data := func(op string) testvec.Handler {
		return func(v testvec.Vector) (int, error) {
			ik, err := initialKeyOf(v)
			if err != nil {
				return 0, err
			}
			plain := fmt.Sprintf("%X", v.String("data_ascii"))
			plain += strings.Repeat("0", (32-len(plain)%32)%32)
			if op == "data" {
				return c.is(v.String("ciphertext"), "data %s %s 1 %s", ik, v.String("ksn"), plain)
			}
			return c.is(plain, "decrypt %s %s 1 %s", ik, v.String("ksn"), v.String("ciphertext"))
		}
	}
	return map[string]testvec.Handler{
		"cmac_request":  mac("mac", 2, 3, 16),
		"cmac_response": mac("verify", 2, 3, 16),
		"hmac_request":  mac("mac", 4, 6, 32),
		"hmac_response": mac("verify", 4, 6, 32),
		"data_request":  data("data"),
		"data_response": data("decrypt"),
		"pin_encrypt_iso4": func(v testvec.Vector) (int, error) {
			return checkPINBlock(c, v)
		},
	}
}

func baseKeyOf(v testvec.Vector) (*dukpt.BaseKey, error) {
	bdk := v.Hex("bdk")
	k, err := keys.NewKey(keys.Attributes{
		Algorithm: map[int]keys.Algorithm{16: keys.AES128, 24: keys.AES192, 32: keys.AES256}[len(bdk)],
		Usage:     keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	}, bdk)
	if err != nil {
		return nil, err
	}
	return dukpt.NewBaseKey(k)
}

// initialKeyOf derives the initial key of a vector, in hexadecimal.
func initialKeyOf(v testvec.Vector) (string, error) {
	base, err := baseKeyOf(v)
	if err != nil {
		return "", err
	}
	ksn, err := dukpt.ParseKSN(v.Hex("ksn"))
	if err != nil {
		return "", err
	}
	ik, err := base.Derive(ksn.KeyID())
	if err != nil {
		return "", err
	}
	k := ik.Key()
	return hex.EncodeToString(k.Material().Expose()), nil
}

// checkPINBlock has the host open the block, whose fill is random: the published one would have to be repeated by chance.
func checkPINBlock(c compute, v testvec.Vector) (int, error) {
	ik, err := initialKeyOf(v)
	if err != nil {
		return 0, err
	}
	said, err := c(fmt.Sprintf("pin %s %s 5 %s %s", ik, v.String("ksn"), v.String("pin"), v.String("pan")))
	if err != nil {
		return 0, err
	}
	block, err := hex.DecodeString(said)
	if err != nil {
		return 0, err
	}
	base, err := baseKeyOf(v)
	if err != nil {
		return 0, err
	}
	ksn, err := dukpt.ParseKSN(v.Hex("ksn"))
	if err != nil {
		return 0, err
	}
	tx, err := base.Begin(ksn)
	if err != nil {
		return 0, err
	}
	pan, err := pin.ParsePAN(v.String("pan"))
	if err != nil {
		return 0, err
	}
	zone, err := keys.GenerateKey(keys.Attributes{
		Algorithm: keys.AES128, Usage: keys.UsagePIN, Mode: keys.ModeEncrypt, Exportability: keys.NonExportable,
	})
	if err != nil {
		return 0, err
	}
	_, err = tx.TranslatePIN(nil, dukpt.PINBlock{Format: pin.Format4, PAN: pan, Block: block},
		dukpt.PINTarget{Format: pin.Format4, PAN: pan, Key: zone})
	return 1, err
}

// TestCoreWrong makes wrong calls under AddressSanitizer, which watches what Go writes too.
func TestCoreWrong(t *testing.T) {
	m := machines[0]
	m.needs(t)
	dir := library(t, "core", m.arch, "LATCHKEY_LIB_FLAGS=-asan", "LATCHKEY_LIB_TAGS=planted")
	p := m.program(t, "testdata/wrong.c", "-fsanitize=address", "-I"+dir, filepath.Join(dir, "liblatchkey-core.a"), "-lpthread")
	said := m.run(t, "", p)
	t.Log(said)
	if !strings.Contains(said, "; 0 faults\n") {
		t.Error("there are faults")
	}
	cmd := m.command(t.Context(), p)
	cmd.Env = append(os.Environ(), "LATCHKEY_PLANTED=bug.clib-overrun")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "ERROR: AddressSanitizer") {
		t.Errorf("a library that writes past the end of a buffer is not caught: %v\n%s", err, out)
	}
}

// TestCoreWrongElsewhere makes the same calls on the other processors, one of which has sizes of 32 bits.
func TestCoreWrongElsewhere(t *testing.T) {
	for _, m := range machines[1:] {
		t.Run(m.arch, func(t *testing.T) {
			m.needs(t)
			dir := library(t, "core", m.arch)
			p := m.program(t, "testdata/wrong.c", "-I"+dir, filepath.Join(dir, "liblatchkey-core.a"), "-lpthread")
			if said := m.run(t, "", p); !strings.Contains(said, "; 0 faults\n") {
				t.Error(said)
			}
		})
	}
}

// TestLinkWrong makes wrong calls of the whole library, whose C side AddressSanitizer watches.
func TestLinkWrong(t *testing.T) {
	m := machines[0]
	m.needs(t)
	dir := library(t, "link", m.arch)
	p := m.program(t, "testdata/wronglink.c", "-fsanitize=address", "-I"+dir, filepath.Join(dir, "liblatchkey.a"), "-lpthread")
	said := m.run(t, "", p, t.TempDir(), t.TempDir(), t.TempDir())
	t.Log(said)
	if !strings.Contains(said, "; 0 faults\n") {
		t.Error("there are faults")
	}
}

// TestPanicEnds shows that no panic passes the boundary.
func TestPanicEnds(t *testing.T) {
	if got := int(call(func() error { panic("a fault") })); got != int(errInternal) {
		t.Errorf("a panic gives %d, want %d", got, errInternal)
	}
	if got := int(call(func() error { var p *registers; return errors.New(p.scheme().String()) })); got != int(errInternal) {
		t.Errorf("a nil pointer gives %d, want %d", got, errInternal)
	}
}

// stable are the codes that were given out once. A number never changes its meaning; new ones are added.
const stable = `0 OK
1 ARGUMENT
2 SHORT_BUFFER
3 OVERLAP
4 HANDLE
5 ORDER
6 BUSY
7 LENGTH
8 UNSUPPORTED
9 INTERNAL
20 KSN
21 KEY
22 EXHAUSTED
23 VERIFY
24 STATE
25 STRENGTH
26 PIN
27 PAN
28 SAVE
40 SLOT
41 ZEROIZED
42 NO_KEYPAD
43 JUMP
44 JUMP_BUDGET
45 END
46 ENGINE
60 NO_TERMINAL
61 EXISTS
62 LOCKED
63 INSECURE
64 TICKET
65 TRUST
66 REFUSED
67 CERTIFICATE_REFUSED
68 ASSIGNMENT
69 UNREACHABLE
70 UNANSWERED
71 ACK
72 QUEUE
73 OFFLINE
74 SALE
75 BEHIND
76 UNCONFIRMED
77 CLOSED
78 MEDIUM
`

// TestCodesStable holds the numbers in the header, and that each has a text, to the list above.
func TestCodesStable(t *testing.T) {
	header, err := os.ReadFile("latchkey.h")
	if err != nil {
		t.Fatal(err)
	}
	texts, err := os.ReadFile("text.c")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(header), "enum lk_code {")
	body, _, _ := strings.Cut(rest, "};")
	var list strings.Builder
	for _, m := range regexp.MustCompile(`LK_([A-Z_]+) = ([0-9]+)`).FindAllStringSubmatch(body, -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&list, "%d %s\n", n, m[1])
		if strings.Count(string(texts), "case LK_"+m[1]+":") != 1 {
			t.Errorf("LK_%s has no text", m[1])
		}
	}
	if list.String() != stable {
		t.Errorf("the codes are\n%swant\n%s", list.String(), stable)
	}
}
