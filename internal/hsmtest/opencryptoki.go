package hsmtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// opencryptokiModules are the places of the module.
var opencryptokiModules = []string{"/usr/lib/*/pkcs11/libopencryptoki.so", "/usr/lib/pkcs11/libopencryptoki.so", "/usr/lib64/pkcs11/libopencryptoki.so"}

// inside tells a process of Apart that it is one, by the path of the module.
const inside = "LATCHKEY_TEST_OPENCRYPTOKI"

// The slot daemon, its memory and its files are of the machine, and where they are is compiled in. So the process gets name
// spaces of its own, with empty folders in those places and one slot, that of the software token. It is the first process
// there: when it ends, the system ends the daemon.
const setUp = `set -eu
for dir in /run /dev/shm /etc/opencryptoki /var/lib/opencryptoki; do mount -t tmpfs -o mode=755 none "$dir"; done
printf 'version opencryptoki-3.1\nslot 0\n{\nstdll = libpkcs11_sw.so\n}\n' >/etc/opencryptoki/opencryptoki.conf
exec "$@"`

// anew ends the daemon, if there is one, and starts another with an empty token: one that pkcsconf initialises again, the
// security officer cannot log in to any more. The PINs of the maker and the one that the officer gives out have to be changed
// before they are of use. The waits are for the daemon, 10 s at most.
const anew = `set -eu
wait_for() {
	tries=0
	until "$@" >/dev/null 2>&1; do
		tries=$((tries + 1))
		[ "$tries" -lt 200 ] || { echo "not within 10 s: $*"; exit 1; }
		sleep 0.05
	done
}
gone() { ! kill -0 "$1" || grep -q '^State:.Z' "/proc/$1/status"; } # nobody reaps it
if [ -e /run/pkcsslotd.pid ]; then
	pid=$(cat /run/pkcsslotd.pid)
	kill "$pid"
	wait_for gone "$pid"
fi
rm -rf /run/pkcsslotd.* /run/lock/opencryptoki /dev/shm/* /var/lib/opencryptoki/*
mkdir -p /run/lock/opencryptoki/swtok /var/lib/opencryptoki/swtok/TOK_OBJ
chgrp -R pkcs11 /run/lock/opencryptoki /var/lib/opencryptoki
chmod -R 770 /run/lock/opencryptoki /var/lib/opencryptoki
pkcsslotd
wait_for pkcsconf -t
echo "$1" | pkcsconf -c 0 -I -S 87654321
pkcsconf -c 0 -P -S 87654321 -n "$3"
pkcsconf -c 0 -u -S "$3" -n 12345678
pkcsconf -c 0 -p -U 12345678 -n "$2"`

// Apart runs the tests of this binary that match a pattern, which call [Opencryptoki], in a process that has the slot daemon of
// opencryptoki and its software token for itself. Nothing of it is left when they end. It fails when one of them fails or none
// runs; it needs root. Without the component the test is skipped, or fails where LATCHKEY_REQUIRE names opencryptoki, or
// demands all.
func Apart(tb testing.TB, pattern string) {
	tb.Helper()
	module, err := opencryptokiAt(opencryptokiModules...)
	if err != nil {
		absent(tb, "opencryptoki", err)
	}
	out, err := apart(tb, module, pattern)
	switch said := string(out); {
	case err != nil:
		tb.Fatalf("%v: %s", err, said)
	case !strings.Contains(said, "--- PASS: "):
		tb.Fatalf("no test matches %s: %s", pattern, said)
	default:
		tb.Logf("%s", said)
	}
}

func apart(tb testing.TB, module, pattern string) ([]byte, error) {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	args := append(names(), "sh", "-c", setUp, "sh", self, "-test.v", "-test.run", pattern)
	if testing.Short() {
		args = append(args, "-test.short")
	}
	cmd := exec.CommandContext(tb.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), inside+"="+module)
	return cmd.CombinedOutput()
}

// names is the command that begins a process in name spaces of its own, all of which end with it.
func names() []string {
	return []string{"unshare", "--mount", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"}
}

// opencryptokiAt finds the module and tries whether a process can have the component for itself.
func opencryptokiAt(places ...string) (module string, err error) {
	for _, place := range places {
		if found, _ := filepath.Glob(place); len(found) > 0 { // only a bad pattern is an error
			module = found[0]
			break
		}
	}
	if module == "" {
		return "", fmt.Errorf("the module of opencryptoki is in none of %v", places)
	}
	for _, program := range []string{"pkcsslotd", "pkcsconf"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", err
		}
	}
	try := append(names(), "mount", "-t", "tmpfs", "none", "/run")
	if out, err := exec.Command(try[0], try[1:]...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("a process cannot have opencryptoki for itself: %w: %s", err, bytes.TrimSpace(out))
	}
	return module, nil
}

// Opencryptoki makes the one software token anew and returns it, in a process of [Apart]; elsewhere the test is skipped. The
// module must not be in use: it knows the old token, and the daemon of before.
func Opencryptoki(tb testing.TB) Token {
	tb.Helper()
	module := os.Getenv(inside)
	if module == "" {
		tb.Skip("Apart runs this in a process of its own")
	}
	t := Token{Module: module, Label: "latchkey-slot"}
	if out, err := exec.CommandContext(tb.Context(), "sh", "-c", anew, "sh", t.Label, PIN, SOPIN).CombinedOutput(); err != nil {
		tb.Fatalf("%v: %s", err, out)
	}
	return t
}
