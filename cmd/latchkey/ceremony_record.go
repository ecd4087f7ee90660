package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/filelock"
	"github.com/latchkey-pos/latchkey/keys/ceremony"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// recordFile is a record on a disk, which nobody else changes meanwhile.
type recordFile struct {
	*ceremony.Record
	file *os.File
	size int
}

const recordHint = "--record names the record that latchkey key ceremony plan has made"

// openRecord opens a record to be added to, and waits until nobody else does. The caller closes it.
func openRecord(path string) (*recordFile, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, badFile(err, recordHint)
	}
	r, err := lockRecord(file)
	if err != nil {
		return nil, errors.Join(ceremonyRefused(err), file.Close())
	}
	return r, nil
}

func lockRecord(file *os.File) (*recordFile, error) {
	if err := filelock.Lock(file); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, ceremony.MaxRecord+1))
	if err != nil {
		return nil, err
	}
	r, err := ceremony.Parse(text)
	if err != nil {
		return nil, err
	}
	return &recordFile{Record: r, file: file, size: len(text)}, nil
}

// readRecord reads a record as it is now.
func readRecord(path string) (*ceremony.Record, error) {
	text, err := readFile(path, ceremony.MaxRecord)
	if err != nil {
		return nil, badFile(err, recordHint)
	}
	r, err := ceremony.Parse(text)
	return r, ceremonyRefused(err)
}

// save writes what was added to the end of the file.
func (r *recordFile) save() error {
	text := r.Text()
	if _, err := r.file.WriteAt(text[r.size:], int64(r.size)); err != nil {
		return err
	}
	if err := r.file.Sync(); err != nil {
		return err
	}
	r.size = len(text)
	return nil
}

func (r *recordFile) close() { _ = r.file.Close() } // what was saved is on the disk

// ours refuses the record of another deployment. It returns what decides whose certificates count at a time; zero: whenever.
func (f *folder) ours(r *ceremony.Record, at time.Time) (keyset.Verifier, error) {
	config, err := f.config()
	if err != nil {
		return nil, err
	}
	if p := r.Plan(); p.Tenant != config.Tenant || p.Environment != config.Environment {
		return nil, exit.With(exit.Refused, fmt.Errorf("the ceremony is of %s, %v; the deployment of %s, %v", p.Tenant, p.Environment, config.Tenant, config.Environment),
			"name the folder of that deployment with --dir")
	}
	return deploy.Verifier(f.dir, config.Tenant, at)
}

// collect opens a record of this deployment to be added to, with the sealed components that belong to it, all of them. The caller
// closes it. It returns what decides whose certificates count at a time, too.
func (f *folder) collect(path string, files []string, at time.Time) (*recordFile, keyset.Verifier, [][]byte, error) {
	sealed, err := readSealed(files)
	if err != nil {
		return nil, nil, nil, err
	}
	r, err := openRecord(path)
	if err != nil {
		return nil, nil, nil, err
	}
	verify, err := f.ours(r.Record, at)
	if err == nil {
		err = ceremonyRefused(r.Collect(sealed))
	}
	if err != nil {
		r.close()
		return nil, nil, nil, err
	}
	return r, verify, sealed, nil
}

// readSealed reads the files of all components.
func readSealed(files []string) ([][]byte, error) {
	var out [][]byte
	for i, file := range files {
		if slices.Contains(files[:i], file) {
			return nil, exit.With(exit.Usage, fmt.Errorf("%s is named twice", file), "each component has a file of its own")
		}
		b, err := readFile(file, ceremony.MaxSealed)
		if err != nil {
			return nil, badFile(err, "--sealed-file names what latchkey key ceremony seal has written")
		}
		out = append(out, b)
	}
	return out, nil
}
