package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"rsc.io/qr"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/enroll"
)

// showsTickets marks commands that -o qr is for.
const showsTickets = "latchkey-tickets"

// handout is how a ticket leaves: on standard output, as a QR code, or in a file.
type handout struct {
	folder        *folder
	file          string // for the ticket
	slip          string // file for the slip
	url, trustURL string // of the registration authority, as terminals reach it
}

func (h *handout) flags(cmd *cobra.Command, what string) {
	fl := cmd.Flags()
	fl.StringVar(&h.file, "ticket-file", "", what+"write the ticket to a new file of mode 0600 instead of standard output")
	fl.StringVar(&h.slip, "slip-file", "", what+"write what -o qr shows to a new file of mode 0600, for latchkey-terminal enrol --slip-file")
	fl.StringVar(&h.url, "url", "", what+"with -o qr or --slip-file: where terminals reach the registration authority, https://HOST:PORT")
	fl.StringVar(&h.trustURL, "trust-url", "", what+"with -o qr or --slip-file: where the trust list is published, http://HOST:PORT")
}

// check refuses what cannot be handed out, before something is made that is shown once.
func (h *handout) check() error {
	wanted := h.folder.c.format == "qr" || h.slip != ""
	if !wanted {
		if h.url != "" || h.trustURL != "" {
			return exit.With(exit.Usage, errors.New("--url and --trust-url go with -o qr or --slip-file"), "a ticket does not say where")
		}
		return vacantFile(h.file)
	}
	if h.file != "" || h.folder.c.format == "qr" && h.slip != "" {
		return exit.With(exit.Usage, errors.New("the ticket leaves in one way"), "choose one of -o qr, --slip-file and --ticket-file")
	}
	text, err := h.text(strings.Repeat("0", 26)+"-"+strings.Repeat("0", 26), strings.Repeat("T", 32))
	if err != nil {
		return exit.With(exit.Usage, err, "as in: --url https://ra.example:8445 --trust-url http://ra.example:8447")
	}
	secret.Wipe(text)
	return vacantFile(h.slip)
}

// text is the slip with a ticket. The caller wipes it.
func (h *handout) text(ticket, terminal string) ([]byte, error) {
	config, err := h.folder.config()
	if err != nil {
		return nil, err
	}
	parsed, err := enroll.ParseTicket([]byte(ticket))
	if err != nil {
		return nil, err
	}
	defer parsed.Wipe()
	return enroll.Slip{
		Tenant: string(config.Tenant), Terminal: terminal, Environment: config.Environment.String(), URL: h.url, TrustURL: h.trustURL, Ticket: parsed,
	}.Append(nil)
}

// showSlip hands a slip out.
func (h *handout) showSlip(c *console, ticket, terminal string) error {
	text, err := h.text(ticket, terminal)
	if err != nil {
		return err
	}
	defer secret.Wipe(text)
	if h.slip != "" {
		if err := seal.WriteFile(h.slip, text, 0o600); err != nil {
			return err
		}
		return c.show(map[string]string{"slipFile": h.slip}, field{"slip", "in " + h.slip})
	}
	picture, err := drawQR(string(text))
	if err != nil {
		return err
	}
	c.note("scan it at %s; it holds the code, so nobody else may see it", terminal)
	if f, ok := c.stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		var b strings.Builder // black on white, whatever the terminal has
		for line := range strings.Lines(picture) {
			b.WriteString("\x1b[30;107m" + strings.TrimSuffix(line, "\n") + "\x1b[0m\n")
		}
		picture = b.String()
	}
	_, err = io.WriteString(c.stdout, picture)
	return err
}

// quietZone is how many light modules the standard wants around a QR code (ISO/IEC 18004, 6.3.8).
const quietZone = 4

// drawQR draws a text as a QR code, two modules in each character: a block is dark.
func drawQR(text string) (string, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return "", fmt.Errorf("qr: %w", err)
	}
	var b strings.Builder
	for y := -quietZone; y < code.Size+quietZone; y += 2 {
		for x := -quietZone; x < code.Size+quietZone; x++ {
			switch upper, lower := code.Black(x, y), code.Black(x, y+1); {
			case upper && lower:
				b.WriteString("█")
			case upper:
				b.WriteString("▀")
			case lower:
				b.WriteString("▄")
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}
