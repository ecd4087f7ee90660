// Command latchkey-terminal is the reference terminal: it is started from a bundle and sells from a folder.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/harden"
)

func main() {
	if err := harden.Process(); err != nil { // it holds keys
		exit.Report(os.Stderr, "latchkey-terminal", err)
		os.Exit(int(exit.Failure))
	}
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
	a.element.stuck = make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- root.ExecuteContext(ctx) }()
	select {
	case err := <-ended:
		return a.finish(err)
	case <-a.element.stuck:
	}
	select { // who opens the token is told
	case err := <-ended:
		return a.finish(err)
	case <-time.After(time.Second): // everybody else is in that call, and ends with the program
		return explainToken(a.element.close())
	}
}

// finish closes the token after a command.
func (a *app) finish(err error) error {
	if e := a.element.close(); err == nil {
		err = explainToken(e)
	}
	return err
}
