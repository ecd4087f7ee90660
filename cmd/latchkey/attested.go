package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

func newAttested(c *console) *cobra.Command {
	f := &folder{c: c}
	cmd := noun("attested", "Makers whose devices may have attested keys: sign, show", newAttestedSign(c, f), newAttestedShow(c, f))
	f.flags(cmd)
	return cmd
}

// signedMakers names a document.
type signedMakers struct {
	Revision    uint64   `json:"revision"`
	Environment string   `json:"environment"`
	Approvers   []string `json:"approvers"`
}

func (s signedMakers) fields() []field {
	return []field{
		{"revision", s.Revision}, {"environment", s.Environment}, {"approved by", strings.Join(s.Approvers, ", ")},
	}
}

// listedMakers is a document with all that it says.
type listedMakers struct {
	signedMakers
	Roots   []listedRoot `json:"roots"`
	Devices []string     `json:"devices"`
}

type listedRoot struct {
	Subject  string `json:"subject"`
	SHA256   string `json:"sha256"`
	NotAfter string `json:"notAfter"`
}

// String shows a subject in quotes: whoever made the certificate chose its letters.
func (r listedRoot) String() string {
	return strconv.Quote(r.Subject) + " until " + r.NotAfter + ", SHA-256 " + r.SHA256
}

func listMakers(m *keydist.Makers, approvers []string) listedMakers {
	return listedMakers{
		signedMakers: signedMakers{m.Revision, m.Environment.String(), approvers},
		Roots:        listRoots(m.Roots), Devices: append([]string{}, m.Devices.Lines()...),
	}
}

func newAttestedShow(c *console, f *folder) *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Show the makers and devices that are in force",
		Long: `Show verifies every revision of the makers and devices in the folder attested, as the key-distribution host does, and
shows the latest and who signed it. It needs no passphrase.`,
		Args: arguments(),
		RunE: func(*cobra.Command, []string) error {
			a, err := f.attested()
			if err != nil {
				return err
			}
			if a.Makers() == nil {
				return exit.With(exit.NotFound, errors.New("no maker is trusted: nothing was signed"), "see: latchkey attested sign --help")
			}
			l := listMakers(a.Makers(), a.Approvers())
			fields := l.fields()
			for _, root := range l.Roots {
				fields = append(fields, field{"root", root})
			}
			for _, device := range l.Devices {
				fields = append(fields, field{"device", device})
			}
			return c.show(l, fields...)
		},
	}
}

// attested reads the documents of the deployment.
func (f *folder) attested() (*deploy.Attested, error) {
	config, err := f.config()
	if err != nil {
		return nil, err
	}
	a, err := deploy.NewAttested(deploy.AttestedOptions{Dir: f.dir, Tenant: config.Tenant, Environment: config.Environment})
	return a, badDocument(err)
}

// changedMakers says what a new revision is and what it changes.
type changedMakers struct {
	signedMakers
	Roots          int          `json:"roots"`
	RootsAdded     []listedRoot `json:"rootsAdded"`
	RootsRemoved   []listedRoot `json:"rootsRemoved"`
	Devices        int          `json:"devices"`
	DevicesAdded   []string     `json:"devicesAdded"`
	DevicesRemoved []string     `json:"devicesRemoved"`
}

func changeMakers(before, after listedMakers) changedMakers {
	return changedMakers{
		signedMakers: after.signedMakers,
		Roots:        len(after.Roots), RootsAdded: without(after.Roots, before.Roots), RootsRemoved: without(before.Roots, after.Roots),
		Devices: len(after.Devices), DevicesAdded: without(after.Devices, before.Devices), DevicesRemoved: without(before.Devices, after.Devices),
	}
}

// without returns what is in all and not in others.
func without[T comparable](all, others []T) []T {
	known := make(map[T]bool, len(others))
	for _, o := range others {
		known[o] = true
	}
	out := []T{}
	for _, v := range all {
		if !known[v] {
			out = append(out, v)
		}
	}
	return out
}

func showChange(c *console, l changedMakers) error {
	fields := append(l.fields(), field{"roots", l.Roots})
	for _, root := range l.RootsAdded {
		fields = append(fields, field{"root added", root})
	}
	for _, root := range l.RootsRemoved {
		fields = append(fields, field{"root removed", root})
	}
	return c.show(l, append(fields, field{"devices", l.Devices}, field{"devices added", some(l.DevicesAdded)},
		field{"devices removed", some(l.DevicesRemoved)})...)
}

// some shows a number and the first few.
func some(lines []string) string {
	const few = 10
	text := strconv.Itoa(len(lines))
	if len(lines) > 0 {
		text += ": " + strings.Join(lines[:min(few, len(lines))], ", ")
	}
	if len(lines) > few {
		text += ", …"
	}
	return text
}

// makersRequest is what attested sign asks for.
type makersRequest struct{ roots, devices string }

func newAttestedSign(c *console, f *folder) *cobra.Command {
	var r makersRequest
	cmd := &cobra.Command{
		Use:   "sign",
		Short: "Make and sign the next revision of makers and devices",
		Long: `Sign says whose word for the agreement key of a device is taken, for key sets with delivery attested: the roots of
makers and key-injection facilities (PEM), and their devices that may have keys. The new revision replaces the
one before as a whole, is signed by the people named with --as, and takes effect when the key-distribution host
next looks, within a second. What it changes is shown.

The list of devices has one a line: the serial number that the maker's certificate of the device has in its
subject, or "certificate:" and the serial number of that certificate in lower-case hex. Empty lines and lines
that begin with # do not count. A list without devices lets none have keys.`,
		Example: `  latchkey attested sign --roots makers.pem --devices devices.txt --as OPERATOR-1,OPERATOR-2`,
		Args:    arguments(),
		RunE: func(*cobra.Command, []string) error {
			next, err := r.read()
			if err != nil {
				return err
			}
			return f.with(func(d *deploy.Deployment) error {
				a, err := f.attested()
				if err != nil {
					return err
				}
				before := new(keydist.Makers)
				if a.Makers() != nil {
					before = a.Makers()
				}
				next.Tenant, next.Environment, next.Revision = d.Config().Tenant, d.Config().Environment, before.Revision+1
				approvers, err := f.saveMakers(d, next)
				if err != nil {
					return err
				}
				return showChange(c, changeMakers(listMakers(before, nil), listMakers(next, approvers)))
			})
		},
	}
	cmd.Flags().StringVar(&r.roots, "roots", "", "file with the certificates of makers and key-injection facilities that are trusted (PEM)")
	cmd.Flags().StringVar(&r.devices, "devices", "", "file with the devices that may have keys, one a line")
	required(cmd, "roots", "devices")
	f.signs(cmd)
	return cmd
}

// read reads the two files.
func (r makersRequest) read() (*keydist.Makers, error) {
	roots, err := deploy.LoadChain(r.roots)
	if err != nil {
		return nil, badFile(err, "--roots names a file of certificates (PEM) and nothing else")
	}
	text, err := readFile(r.devices, keydist.MaxAllowList)
	if err != nil {
		return nil, badFile(err, "--devices names a file with one device a line; it may be empty")
	}
	devices, err := keydist.ParseAllowList(text)
	if err != nil {
		return nil, exit.With(exit.Usage, fmt.Errorf("%s: %w", r.devices, err), "see: latchkey attested sign --help")
	}
	return &keydist.Makers{Roots: roots, Devices: devices}, nil
}

// readFile reads a file of at most so many bytes, and one more of a longer one.
func readFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	return io.ReadAll(io.LimitReader(f, most+1))
}

func badFile(err error, hint string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return exit.With(exit.NotFound, err, hint)
	}
	return exit.With(exit.Usage, err, hint)
}

// saveMakers signs a revision and stores it. It returns who has approved it.
func (f *folder) saveMakers(d *deploy.Deployment, m *keydist.Makers) ([]string, error) {
	payload, err := m.Marshal()
	if err != nil {
		return nil, refusedMakers(err)
	}
	doc, err := f.sign(d, keydist.KindMakers, payload)
	if err != nil {
		return nil, err
	}
	_, approvers, err := d.SaveMakers(doc)
	return approvers, refusedMakers(err)
}

func refusedMakers(err error) error {
	if errors.Is(err, keydist.ErrMakers) {
		return exit.With(exit.Refused, err, "a root is an authority of a maker, and none of our own; there is room for about 300,000 devices: docs/protocol.md, section 8")
	}
	if errors.Is(err, keyset.ErrSignature) {
		return exit.With(exit.Refused, err, "operators and custodians sign, each with a certificate that is valid now")
	}
	return refusedBy(err, "see docs/protocol.md, section 8")
}

// badDocument gives a damaged folder the exit code of a signature that is wrong.
func badDocument(err error) error {
	const hint = "restore the folder attested: every revision of it is kept"
	switch {
	case errors.Is(err, deploy.ErrDocument):
		return exit.With(exit.Verification, err, hint)
	case errors.Is(err, fs.ErrNotExist):
		return exit.With(exit.NotFound, err, hint)
	}
	return err
}
