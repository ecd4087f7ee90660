// Command latchkey-terminal is the reference terminal: it is started from a bundle and sells from a folder.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/latchkey-pos/latchkey/internal/exit"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	exit.Report(os.Stderr, "latchkey-terminal", err)
	os.Exit(int(exit.CodeOf(err)))
}

// run is the program without the process around it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if e := a.element.close(); err == nil {
		err = e
	}
	return err
}
