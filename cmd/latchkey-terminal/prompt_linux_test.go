package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
)

// TestPrompts sells as a cashier does who has no files: card number and PIN are asked for, and what is typed is not shown.
func TestPrompts(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "t1")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	medium := terminal.OSFS(dir)
	sealer, err := terminal.CreateInsecureFile(medium)
	if err != nil {
		t.Fatal(err)
	}
	bundle := terminaltest.NewLab(t, dukpt.AES).Bundle(t, terminal.Endpoint{URL: "https://127.0.0.1:1"})
	if err := terminal.Import(medium, sealer, bundle); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		flags []string
		asked string
		typed []string
		code  exit.Code
		said  string // is part of the error
	}{
		{nil, "card number: \nPIN: \n", []string{"4111111111111111", "1234"}, exit.Unreachable, "(reverse)"},
		{[]string{"--no-pin"}, "card number: \n", []string{"4111111111111111"}, exit.Unreachable, "(resend)"},
		{[]string{"--pan-file", "-", "--no-pin"}, "card number: \n", []string{"4111111111111111"}, exit.Unreachable, "(resend)"},
		{[]string{"--pan-file", "-"}, "card number: \n", []string{"4111111111111112"}, exit.Usage, "no card number"},
		{nil, "card number: \n", []string{""}, exit.Usage, "card number is empty"},
		{[]string{"--track2-file", "-", "--pin-file", "-"}, "", nil, exit.Usage, "same input"},
		{[]string{"--track2-file", "-"}, "card: \nPIN: \n", []string{";4761739001010119=29122010123456789?", "97"}, exit.Usage, "digits"},
	} {
		keyboard, screen := openTTY(t)
		asked, shown := new(buffer), new(buffer)
		var copying sync.WaitGroup
		copying.Go(func() { _, _ = io.Copy(shown, keyboard) }) // ends with the terminal
		done := make(chan error, 1)
		go func() {
			args := []string{"sale", "--dir", dir, "--amount", "1", "--timeout", "100ms"}
			done <- run(t.Context(), append(args, c.flags...), screen, io.Discard, asked)
		}()
		for i, line := range c.typed {
			silent(t, screen, asked, i+1)
			if _, err := fmt.Fprintf(keyboard, "%s\n", line); err != nil {
				t.Fatal(err)
			}
		}
		err := <-done
		_ = screen.Close()
		copying.Wait()
		_ = keyboard.Close()
		if exit.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.said) {
			t.Errorf("%q: %v, code %d, want code %d and %q", c.flags, err, exit.CodeOf(err), c.code, c.said)
		}
		if got := strings.ReplaceAll(asked.String(), "link: offline\n", ""); got != c.asked {
			t.Errorf("%q: asked %q, want %q", c.flags, got, c.asked)
		}
		for _, line := range c.typed {
			if line != "" && strings.Contains(shown.String()+asked.String()+err.Error(), line) {
				t.Errorf("%q: what is typed is shown: %q", c.flags, shown)
			}
		}
	}
}

// buffer is safe for concurrent use.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// openTTY opens a terminal: what is written to the keyboard is typed, and what it would show is read from there.
func openTTY(t *testing.T) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	var locked, number int32
	control(t, keyboard, syscall.TIOCSPTLCK, unsafe.Pointer(&locked))
	control(t, keyboard, syscall.TIOCGPTN, unsafe.Pointer(&number))
	screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return keyboard, screen
}

// silent waits until a question has been asked and the terminal does not show what is typed.
func silent(t *testing.T, tty *os.File, asked *buffer, questions int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if strings.Count(asked.String(), ": ") < questions {
			continue
		}
		var state syscall.Termios
		control(t, tty, syscall.TCGETS, unsafe.Pointer(&state))
		if state.Lflag&syscall.ECHO == 0 {
			return
		}
	}
	t.Fatalf("nobody asks for something secret; said so far: %q", asked)
}

func control(t *testing.T, f *os.File, request uintptr, argument unsafe.Pointer) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, number = syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(argument))
	})
	if err = errors.Join(err, errno(number)); err != nil {
		t.Fatal(err)
	}
}

func errno(n syscall.Errno) error {
	if n == 0 {
		return nil
	}
	return n
}
