// Command latchkey-decryptd is the host decryption service: it verifies, decrypts and PIN-translates what payment
// terminals send, each content once, and serves acquirer hosts over mutual TLS.
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
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	d := &daemon{getenv: os.Getenv, reload: reload, stdout: os.Stdout, stderr: os.Stderr}
	err := run(ctx, d, os.Args[1:])
	stop()
	exit.Report(os.Stderr, "latchkey-decryptd", err)
	os.Exit(int(exit.CodeOf(err)))
}

// daemon is what the program gets from the process around it.
type daemon struct {
	getenv         func(string) string
	reload         <-chan os.Signal
	stdout, stderr io.Writer
}

// run is the program without the process around it.
func run(ctx context.Context, d *daemon, args []string) error {
	root := newCommand(d)
	root.SetArgs(args)
	root.SetOut(d.stdout)
	root.SetErr(d.stderr)
	return root.ExecuteContext(ctx)
}
