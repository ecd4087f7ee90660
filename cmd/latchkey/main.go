// Command latchkey is the operator's tool: it makes a deployment, its keys, key sets and terminals, explains what the
// field hands you, verifies the audit log, and demonstrates the whole on one machine.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/harden"
	"github.com/latchkey-pos/latchkey/keys"
)

func main() {
	if err := harden.Process(); err != nil { // it holds keys
		exit.Report(os.Stderr, "latchkey", err)
		os.Exit(int(exit.Failure))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	exit.Report(os.Stderr, "latchkey", err)
	os.Exit(int(exit.CodeOf(err)))
}

// run is the program without the process around it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	root := newRoot(&console{stdin: stdin, stdout: stdout, stderr: stderr, server: os.Getenv("LATCHKEY_SERVER")})
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return forbidden(root.ExecuteContext(ctx))
}

// forbidden gives what the rules for keys forbid one exit code, whatever the command was: TDES where Go's FIPS mode is enforced,
// and a weak key that lies in the keyring already.
func forbidden(err error) error {
	switch known := exit.CodeOf(err); {
	case errors.Is(err, keys.ErrForbidden):
		return exit.With(exit.Refused, err, "take AES keys, or run without GODEBUG=fips140=only")
	case errors.Is(err, keys.ErrWeak) && known == exit.Failure:
		return exit.With(exit.Refused, err, "nothing works with a weak base key: take its file away, and give the terminals of its key sets another key")
	}
	return err
}
