package main

import (
	"errors"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// folder is where a deployment is, and how to open it.
type folder struct {
	c              *console
	dir            string
	passphraseFile string
	signers        []string
}

// flags adds the flags that every command on a deployment has.
func (f *folder) flags(cmd *cobra.Command) {
	p := cmd.PersistentFlags()
	p.StringVar(&f.dir, "dir", ".", "folder of the deployment, as latchkey init made it")
	p.StringVar(&f.passphraseFile, "passphrase-file", "", "file with the passphrase (mode 0600); - for standard input; default: ask")
}

// signs adds the flag of the commands that sign a document.
func (f *folder) signs(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&f.signers, "as", []string{deploy.FirstOperator},
		"who signs; production needs two people, separated by a comma")
}

func (f *folder) passphrase() (secret.Bytes, error) {
	if f.passphraseFile != "" && f.passphraseFile != "-" {
		p, err := seal.ReadPassphrase(f.passphraseFile)
		return p, exit.With(exit.Usage, err, "the passphrase stands in a file of mode 0600, with 12 bytes or more")
	}
	return f.c.secret(f.passphraseFile, "--passphrase-file", "passphrase of the deployment")
}

// open opens the deployment. The caller closes it.
func (f *folder) open() (*deploy.Deployment, error) {
	p, err := f.passphrase()
	if err != nil {
		return nil, err
	}
	defer p.Wipe()
	d, err := deploy.Open(f.dir, p)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, deploy.ErrNotDeployment) {
		return nil, exit.With(exit.NotFound, err, "make a deployment with: latchkey init "+f.dir)
	}
	return d, err
}

// with opens the deployment for one piece of work.
func (f *folder) with(work func(*deploy.Deployment) error) error {
	d, err := f.open()
	if err != nil {
		return err
	}
	err = work(d)
	if errors.Is(err, seal.ErrPassphrase) { // keys are opened when they are needed
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
	doc, err := people[0].Sign(kind, payload)
	for _, p := range people[1:] {
		if err == nil {
			doc, err = p.AddSignature(doc)
		}
	}
	return doc, err
}

func (f *folder) people(d *deploy.Deployment) ([]*deploy.Person, error) {
	if len(f.signers) == 0 {
		return nil, exit.Errorf(exit.Usage, "nobody signs: name people with --as")
	}
	var people []*deploy.Person
	for _, name := range f.signers {
		p, err := d.Operator(name)
		if err != nil {
			return nil, exit.With(exit.NotFound, err, "the people of a deployment are the folders below operators/")
		}
		people = append(people, p)
	}
	return people, nil
}

// refusedBy gives errors about rules the exit code of a refusal.
func refusedBy(err error, hint string) error {
	for _, rule := range []error{keyset.ErrKeySet, keyset.ErrTerminal, keyset.ErrApprovals} {
		if errors.Is(err, rule) {
			return exit.With(exit.Refused, err, hint)
		}
	}
	return err
}
