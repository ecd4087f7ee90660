// Package daemon is the command line that the daemons share: one configuration file, over it the environment, over both
// the flags; a check that opens everything and ends; one line of JSON when it is ready; and exit codes.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/harden"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// Process is what a program gets from the process around it.
type Process struct {
	Getenv         func(string) string
	Reload         <-chan os.Signal // SIGHUP
	Stdout, Stderr io.Writer
}

// Override is a member of the configuration that a flag and a variable, LATCHKEY_ and the name in capitals, may replace.
type Override[C any] struct {
	Flag, Variable, Usage string
	Listens               bool // it is an address that the program listens on
	Member                func(*C) *string
}

// List is an Override with several values: separated by commas in the variable, and in the flag or by giving it again.
type List[C any] struct {
	Flag, Variable, Usage string
	Set                   func(*C, []string)
}

// Switch is something that a flag has the program do once, at this start.
type Switch[C any] struct {
	Flag, Usage string
	Member      func(*C) *bool
}

// Program is one daemon with a configuration of type C. Every field but Lists and Switches is required.
type Program[C any] struct {
	Name       string // of the command
	Short      string
	Long       string
	Example    string
	Overrides  []Override[C]
	Lists      []List[C]
	Switches   []Switch[C]
	Load       func(path string) (C, error)                                           // reads the file over the defaults
	Verify     func(*C, Process) error                                                // completes the configuration and reports what cannot be right
	Deployment func(C) Deployment                                                     // what the configuration takes itself to be for
	Check      func(context.Context, C, *slog.Logger) error                           // opens everything and closes it again
	Describe   func(C) []slog.Attr                                                    // what the line after a check says
	Run        func(context.Context, C, *slog.Logger, func(addrs ...slog.Attr)) error // serves until the context ends; calls back when ready
	Explain    func(error) error                                                      // gives errors of its own parts exit codes and hints; others it returns as they are
}

// Deployment is the folder that a configuration names, and what it says of it.
type Deployment struct{ Folder, Tenant, Environment string }

// Main runs the program as a process: TERM and INT end it, HUP has it read again what it follows. It returns the exit code.
// Before anything else it forbids core files and tracing: there are keys in its memory.
func (p Program[C]) Main(args []string, getenv func(string) string) int {
	if !planted.On(planted.CoreAllowed) {
		if err := harden.Process(); err != nil {
			exit.Report(os.Stderr, p.Name, err)
			return int(exit.Failure)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	err := p.Execute(ctx, Process{Getenv: getenv, Reload: reload, Stdout: os.Stdout, Stderr: os.Stderr}, args)
	stop()
	exit.Report(os.Stderr, p.Name, err)
	return int(exit.CodeOf(err))
}

// Execute runs the program as if it had been typed with these arguments.
func (p Program[C]) Execute(ctx context.Context, proc Process, args []string) error {
	cmd := p.command(proc)
	cmd.SetArgs(args)
	cmd.SetOut(proc.Stdout)
	cmd.SetErr(proc.Stderr)
	return cmd.ExecuteContext(ctx)
}

func (p Program[C]) command(proc Process) *cobra.Command {
	var path string
	var check bool
	given, lists, on := make([]string, len(p.Overrides)), make([][]string, len(p.Lists)), make([]bool, len(p.Switches))
	help := "see: " + p.Name + " --help"
	cmd := &cobra.Command{
		Use: p.Name + " --config FILE", Short: p.Short, Long: p.Long, Example: p.Example,
		Args: func(cmd *cobra.Command, args []string) error {
			return exit.With(exit.Usage, cobra.NoArgs(cmd, args), help)
		},
		Version:       exit.Version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return exit.With(exit.Usage, errors.New("--config is missing"), p.Name+" --help shows what the file holds")
			}
			c, err := p.config(proc, path, overrides{
				one:  func(i int) (string, bool) { return given[i], cmd.Flags().Changed(p.Overrides[i].Flag) },
				list: func(i int) ([]string, bool) { return lists[i], cmd.Flags().Changed(p.Lists[i].Flag) },
			})
			if err != nil {
				return err
			}
			for i, s := range p.Switches {
				*s.Member(&c) = on[i]
			}
			return p.serve(cmd.Context(), proc, c, check)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "configuration file, YAML")
	cmd.Flags().BoolVar(&check, "check", false, "open everything that the configuration names, making the database if there never was one, report, and end")
	for i, o := range p.Overrides {
		cmd.Flags().StringVar(&given[i], o.Flag, "", o.Usage)
	}
	for i, l := range p.Lists {
		cmd.Flags().StringSliceVar(&lists[i], l.Flag, nil, l.Usage)
	}
	for i, s := range p.Switches {
		cmd.Flags().BoolVar(&on[i], s.Flag, false, s.Usage)
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exit.With(exit.Usage, err, help) })
	return cmd
}

// overrides tell what was given on the command line.
type overrides struct {
	one  func(int) (string, bool)
	list func(int) ([]string, bool)
}

// config reads the file and puts the environment over it, and the flags over both.
func (p Program[C]) config(proc Process, path string, given overrides) (C, error) {
	c, err := p.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, exit.With(exit.NotFound, err, "latchkey init writes a configuration that works")
	}
	if err != nil {
		return c, exit.With(exit.Usage, err, p.Name+" --help shows what the file holds")
	}
	for i, o := range p.Overrides {
		if v := proc.Getenv(o.Variable); v != "" {
			*o.Member(&c) = v
		}
		if v, ok := given.one(i); ok {
			*o.Member(&c) = v
		}
	}
	for i, l := range p.Lists {
		if v := proc.Getenv(l.Variable); v != "" {
			l.Set(&c, strings.Split(v, ","))
		}
		if v, ok := given.list(i); ok {
			l.Set(&c, v)
		}
	}
	if err := p.Verify(&c, proc); err != nil {
		return c, exit.With(exit.Usage, fmt.Errorf("%s: %w", path, err), p.Name+" --help shows what the file holds")
	}
	return c, p.agrees(path, c)
}

// agrees holds the configuration to what the deployment folder says of itself. Where a machine has parts of one only, the
// certificates and documents in it say whose they are.
func (p Program[C]) agrees(path string, c C) error {
	want := p.Deployment(c)
	got, err := deploy.LoadConfig(want.Folder)
	if errors.Is(err, deploy.ErrNotDeployment) {
		return nil
	}
	if err != nil {
		return exit.With(exit.Usage, err, "restore the file as latchkey init made it")
	}
	if string(got.Tenant) != want.Tenant || got.Environment.String() != want.Environment {
		return exit.With(exit.Usage, fmt.Errorf("%s: tenant %s, %s, but the deployment in %s is of tenant %s, %s",
			path, want.Tenant, want.Environment, want.Folder, got.Tenant, got.Environment),
			"set tenant and environment as in "+filepath.Join(want.Folder, deploy.ConfigFile)+", or folder to another one")
	}
	return nil
}

func (p Program[C]) serve(ctx context.Context, proc Process, c C, check bool) error {
	log := slog.New(slog.NewJSONHandler(proc.Stderr, nil))
	if planted.Built {
		log.Warn("this binary can carry planted faults: it is for tests only")
	}
	out := slog.New(slog.NewJSONHandler(proc.Stdout, nil))
	if check {
		if err := p.Check(ctx, c, log); err != nil {
			return p.coded(err)
		}
		out.LogAttrs(ctx, slog.LevelInfo, "checked", p.Describe(c)...)
		return nil
	}
	w, err := newWatched(proc.Getenv, log)
	if err != nil {
		return exit.With(exit.Usage, err, "start it by its unit, or without the variables of sd_notify")
	}
	defer w.end()
	return p.coded(p.Run(ctx, c, log, func(addrs ...slog.Attr) {
		out.LogAttrs(ctx, slog.LevelInfo, "ready", addrs...)
		w.serves(ctx, addrs)
	}))
}

// coded gives the errors of starting their exit codes.
func (p Program[C]) coded(err error) error {
	if err == nil {
		return nil
	}
	err = p.Explain(err)
	if _, explained := errors.AsType[*exit.Error](err); explained {
		return err
	}
	switch {
	case errors.Is(err, seal.ErrPassphraseFile) && errors.Is(err, fs.ErrNotExist):
		return exit.With(exit.NotFound, err, "write the passphrase to it: one line, mode 0600")
	case errors.Is(err, seal.ErrPassphraseFile):
		return exit.With(exit.Usage, err, "the passphrase stands in a file of mode 0600: one line of 12 bytes or more")
	case errors.Is(err, seal.ErrPassphrase):
		return exit.With(exit.Verification, err, "is passphrase-file that of this deployment, and the sealed file unchanged?")
	case errors.Is(err, keyset.ErrSignature), errors.Is(err, keyset.ErrApprovals):
		return exit.With(exit.Verification, err, "have the document signed by the operators of this deployment")
	case errors.Is(err, deploy.ErrDocument):
		return exit.With(exit.Verification, err, "the document has to be of this tenant and environment, and as it was signed: latchkey keyset list")
	case errors.Is(err, syscall.EADDRINUSE):
		return exit.With(exit.Failure, err, "another program has it: end that, or take another address with "+p.addresses())
	case errors.Is(err, fs.ErrNotExist):
		return exit.With(exit.NotFound, err, "latchkey init makes the deployment folder; paths in the file are relative to folder")
	case errors.Is(err, fs.ErrPermission):
		return exit.With(exit.Refused, err, "the service's user must own the file")
	}
	return err
}

// addresses names the flags with addresses that the program listens on.
func (p Program[C]) addresses() string {
	var names []string
	for _, o := range p.Overrides {
		if o.Listens {
			names = append(names, "--"+o.Flag)
		}
	}
	return strings.Join(names, ", ")
}
