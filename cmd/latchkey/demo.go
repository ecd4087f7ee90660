package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/planted"
)

// demoOptions say where the demonstration works and when it ends.
type demoOptions struct {
	dir    string // empty: a temporary folder, removed at the end
	keep   bool
	hsm    bool   // keys in PKCS#11 tokens
	module string // empty: SoftHSM where it is installed

	vault        bool   // a Vault certifies the terminals
	vaultProgram string // empty: vault or bao, where it is installed
}

func newDemo(c *console) *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "The whole story on this machine, in about a minute",
		Long: `Demo makes a deployment in a folder of its own, starts the registration authority, the key-distribution
host, the decryption service and an acquirer's host, each with its own listener on the loopback
interface. Terminals fresh from the box enrol with a code on a slip of paper, get their certificate and
their initial keys, and sell with PIN over mutual TLS.

In between it attacks: a spent code with another key, a trust list of a stranger, an initial key changed
on its way, a captured message again, the same key serial number with another amount, a changed byte, a
PIN block made for another card, a PIN block sent as data. A second content of a serial number has the
terminal quarantined, until the operator releases it. Then a terminal is stolen: its open connection is
closed, and nobody lets it in again; the times are printed. At the end the link of the other one is cut: it
sells without its host, up to what that has allowed, loses its power in the middle of a write, and has
everything answered once when the link is back.

With --hsm base keys, zone keys, and the keys of issuers and of what signs are in fresh tokens of SoftHSM,
one for each host, in the folder of the demonstration: keys of AES transactions never leave the token.

With --vault a Vault of its own certifies the terminals: the program is started in development mode, in the
folder of the demonstration, and prepared as latchkey vault setup does. At the end Vault's own audit log
has to have every certificate that the registry has.

Everything that is printed comes from the answers of the components. The exit code is 0 only if every
step ended as it should; otherwise the message names the step, and the code is 6.`,
		Example: "  latchkey demo\n  latchkey demo --dir ./demo --keep\n  latchkey-hsm demo --hsm\n  latchkey demo --vault",
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDemo(cmd.Context(), c, o)
		},
	}
	cmd.Flags().StringVar(&o.dir, "dir", "", "folder to work in, new or empty, that stays; default: a temporary one that is removed")
	cmd.Flags().BoolVar(&o.keep, "keep", false, "leave everything running until interrupted, and print commands to talk to it, also for a further terminal")
	cmd.Flags().BoolVar(&o.hsm, "hsm", false, "have keys in fresh PKCS#11 tokens of SoftHSM; needs the programs of make build-hsm")
	cmd.Flags().StringVar(&o.module, "module", "", "with --hsm: path of the SoftHSM module; default: where packages install it")
	cmd.Flags().BoolVar(&o.vault, "vault", false, "have a Vault certify the terminals; needs the program")
	cmd.Flags().StringVar(&o.vaultProgram, "vault-program", "", "with --vault: path of the program; default: vault or bao, where it is installed")
	return cmd
}

// runDemo tells the story in its folder and clears up behind it.
func runDemo(ctx context.Context, c *console, o demoOptions) (err error) {
	if o.module != "" && !o.hsm {
		return exit.With(exit.Usage, errors.New("--module is for --hsm"), "say --hsm, too")
	}
	if o.vaultProgram != "" && !o.vault {
		return exit.With(exit.Usage, errors.New("--vault-program is for --vault"), "say --vault, too")
	}
	if o.vault && o.hsm {
		return exit.With(exit.Usage, errors.New("--vault and --hsm are two demonstrations"), "run one after the other")
	}
	if o.vault {
		if o.vaultProgram, err = findVault(o.vaultProgram); err != nil {
			return err
		}
	}
	if o.hsm {
		if o.module, err = findModule(o.module); err != nil {
			return err
		}
	}
	root := o.dir
	if root == "" {
		if root, err = os.MkdirTemp("", "latchkey-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	}
	if root, err = filepath.Abs(root); err != nil {
		return err
	}
	if err := vacantFolder(root); err != nil {
		return err
	}
	s := &story{out: newPrinter(c), root: root, options: o, started: time.Now()}
	defer func() { err = errors.Join(err, s.close()) }()
	if planted.Built {
		s.out.line("planted faults: %s", strings.Join(plantedFaults(), ", "))
	}
	if err := s.tell(ctx); err != nil {
		return err
	}
	sum, err := s.summary(ctx)
	if err != nil {
		return err
	}
	s.out.summary(sum)
	if c.format == "json" {
		if err := c.json(sum); err != nil {
			return err
		}
	}
	if o.keep {
		return s.keep(ctx)
	}
	return nil
}

// vacantFolder makes the folder, or refuses one that has something in it.
func vacantFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return exit.With(exit.Refused, fmt.Errorf("%s is not empty", dir), "the demonstration works in a new or empty folder: name one with --dir")
	}
	return nil
}

// plantedFaults lists the guards that this binary was told to skip.
func plantedFaults() []string {
	var on []string
	for _, guard := range []planted.Name{
		planted.GuardClaim, planted.GuardMACFirst, planted.GuardFormat4PAN, planted.GuardPurpose, planted.GuardBlocked,
		planted.GuardCodeBinding, planted.GuardTrustList, planted.GuardKDHSignature, planted.GuardFeedGate,
	} {
		if planted.On(guard) {
			on = append(on, string(guard))
		}
	}
	if on == nil {
		return []string{"none"}
	}
	return on
}

// step is one chapter of the story. It ends in an error unless everything came as expected.
type step struct {
	title string
	run   func(context.Context) error
}

// story is the demonstration while it runs.
type story struct {
	out     *printer
	root    string
	options demoOptions
	started time.Time
	setUp   time.Duration // until the first sale could be made
	*site
	boxes  []*boxed // terminals as they come from the box
	tills  []*till  // those that sell
	counts tally
	cuts   time.Duration // the slowest door that closed on the stolen terminal
	leaves uint64        // of the audit log
	cable  *cable        // between T-AES and its host, from where it is cut
}

// tell runs every step. The error names the step that did not end as it should.
func (s *story) tell(ctx context.Context) error {
	steps := s.steps()
	for i, st := range steps {
		s.out.step(i+1, st.title)
		err := st.run(ctx)
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted in step %d, %s", i+1, st.title)
		}
		code := exit.CodeOf(err)
		if code == exit.Failure {
			code = exit.Verification
		}
		return exit.With(code, fmt.Errorf("step %d, %s: %w", i+1, st.title, err),
			"the demonstration did not go as it should; with --dir DIR the log of both services stays in DIR/demo.log")
	}
	return nil
}

func (s *story) steps() []step {
	return []step{
		{"a deployment: issuers, keys, key sets", s.makeDeployment},
		{"the services and an acquirer's host start", s.startServices},
		{"terminals fresh from the box, and their slips of paper", s.boxedTerminals},
		{"two terminals enrol: certificate and initial keys for a code", s.enrolTerminals},
		{"attack: a slip of paper is used again, for another key", s.attackSpentCode},
		{"attack: a trust list that a stranger has signed", s.attackTrustList},
		{"attack: an initial key is changed on its way", s.attackDelivery},
		{"the terminals sign in", s.signIn},
		{"three sales with PIN at T-TDES", s.sales(0)},
		{"three sales with PIN at T-AES", s.sales(1)},
		{"attack: a captured message is sent again", s.attackReplay},
		{"attack: the same KSN with another amount", s.attackSameKSN},
		{"attack: one byte changed in flight", s.attackChangedByte},
		{"attack: a PIN block made for another card", s.attackOtherPAN},
		{"attack: a PIN block sent as card data", s.attackPINAsData},
		{"a blocked key set", s.blockedKeySet},
		{"a blocked terminal, and a quarantined one", s.heldTerminals},
		{"T-AES gets a new certificate and new keys", s.renewAndRekey},
		{"T-TDES is stolen", s.stolenTerminal},
		{"the link of T-AES is cut: three sales without the host", s.linkCut},
		{"the power goes in the middle of a write", s.powerCut},
		{"the link is back: all three are answered once", s.linkBack},
		{"the audit logs", s.auditLog},
	}
}
