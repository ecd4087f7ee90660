package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// folder is where a deployment is, and how to open it.
type folder struct {
	c              *console
	dir            string
	passphraseFile string
	signers        []string
	signerFiles    []string // with their passphrases, in the order of signers
}

// flags adds the flags that every command on a deployment has.
func (f *folder) flags(cmd *cobra.Command) {
	p := cmd.PersistentFlags()
	p.StringVar(&f.dir, "dir", ".", "folder of the deployment, as latchkey init made it")
	p.StringVar(&f.passphraseFile, "passphrase-file", "", "file with the passphrase (mode 0600); - for standard input; default: ask")
}

// signs adds the flags of the commands that sign a document.
func (f *folder) signs(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&f.signers, "as", []string{deploy.FirstOperator},
		"who signs; production needs two people, separated by a comma")
	cmd.Flags().StringArrayVar(&f.signerFiles, "as-passphrase-file", nil,
		"file with the passphrase of who signs (mode 0600), given again for the next of --as; empty for that of the deployment")
}

func (f *folder) passphrase() (secret.Bytes, error) {
	return f.c.passphrase(f.passphraseFile, "--passphrase-file", "passphrase of the deployment")
}

// open opens the deployment under a passphrase. The caller closes it.
func (f *folder) open(passphrase func() (secret.Bytes, error)) (*deploy.Deployment, error) {
	p, err := passphrase()
	if err != nil {
		return nil, err
	}
	defer p.Wipe()
	d, err := deploy.Open(f.dir, p)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, deploy.ErrNotDeployment) {
		return nil, f.missing(err)
	}
	return d, err
}

// config reads what the deployment is. It needs no passphrase.
func (f *folder) config() (deploy.Config, error) {
	c, err := deploy.LoadConfig(f.dir)
	if errors.Is(err, deploy.ErrNotDeployment) {
		err = f.missing(err)
	}
	return c, err
}

func (f *folder) missing(err error) error {
	return exit.With(exit.NotFound, err, "make a deployment with: latchkey init "+f.dir)
}

// with opens the deployment for one piece of work.
func (f *folder) with(work func(*deploy.Deployment) error) error {
	return f.under(f.passphrase, work)
}

func (f *folder) under(passphrase func() (secret.Bytes, error), work func(*deploy.Deployment) error) error {
	d, err := f.open(passphrase)
	if err != nil {
		return err
	}
	err = work(d)
	_, coded := errors.AsType[*exit.Error](err)
	if !coded && errors.Is(err, seal.ErrPassphrase) { // keys are opened when they are needed
		err = exit.With(exit.Verification, err, "the passphrase is not the one the deployment was made with")
	}
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// sign makes a signed document, approved by everybody named with --as.
func (f *folder) sign(d *deploy.Deployment, kind string, payload []byte) ([]byte, error) {
	people, err := f.people(d)
	if err != nil {
		return nil, err
	}
	return deploy.Sign(people, kind, payload)
}

// people opens the keys of everybody named with --as.
func (f *folder) people(d *deploy.Deployment) ([]*deploy.Person, error) {
	if len(f.signers) == 0 || len(f.signerFiles) > len(f.signers) {
		return nil, exit.With(exit.Usage, fmt.Errorf("%d people sign, %d files have their passphrases", len(f.signers), len(f.signerFiles)),
			"name people with --as, and for each at most one --as-passphrase-file")
	}
	var people []*deploy.Person
	for i, name := range f.signers {
		if slices.Contains(f.signers[:i], name) {
			return nil, exit.With(exit.Usage, fmt.Errorf("%s is named twice", name), "name different people with --as")
		}
		var file string
		if i < len(f.signerFiles) {
			file = f.signerFiles[i]
		}
		p, err := f.signer(d, name, file)
		if err != nil {
			return nil, err
		}
		people = append(people, p)
	}
	return people, nil
}

// signer opens the key of one of the people: under the passphrase in a file, or else under that of the deployment; if it is
// another, somebody may type it.
func (f *folder) signer(d *deploy.Deployment, name, file string) (*deploy.Person, error) {
	if file == "" {
		p, err := d.Operator(name)
		if !errors.Is(err, seal.ErrPassphrase) || !f.c.input().Person() {
			return p, notPerson(name, err)
		}
	}
	pass, err := f.c.passphrase(file, "--as-passphrase-file", "passphrase of "+name)
	if err != nil {
		return nil, err
	}
	defer pass.Wipe()
	p, err := d.OpenPerson(name, pass)
	return p, notPerson(name, err)
}

// notPerson gives the errors of opening somebody's key their exit codes.
func notPerson(name string, err error) error {
	switch {
	case errors.Is(err, identity.ErrIdentity):
		return exit.With(exit.Usage, err, personName)
	case errors.Is(err, seal.ErrPassphrase):
		return exit.With(exit.Verification, err,
			"the passphrase is not the one of "+name+"'s key: one that is not that of the deployment is given with --as-passphrase-file")
	case errors.Is(err, fs.ErrNotExist):
		return exit.With(exit.NotFound, err, "the people of a deployment are the folders below operators/: latchkey operator add "+name)
	}
	return err
}

// personName says what a person may be called.
const personName = "a name has 1 to 32 of A-Z, 0-9 and -"

// refusedBy gives errors about rules the exit code of a refusal.
func refusedBy(err error, hint string) error {
	if errors.Is(err, keyset.ErrApprovals) {
		return exit.With(exit.Refused, err, "two people sign in production: --as OPERATOR-1,OPERATOR-2; latchkey operator add makes the second")
	}
	for _, rule := range []error{keyset.ErrKeySet, keyset.ErrTerminal} {
		if errors.Is(err, rule) {
			return exit.With(exit.Refused, err, hint)
		}
	}
	return err
}
