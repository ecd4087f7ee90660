package main

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	nodekeydist "github.com/latchkey-pos/latchkey/internal/node/keydist"
	nodeprovision "github.com/latchkey-pos/latchkey/internal/node/provision"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// authority starts the key-distribution host and the registration authority of a deployment folder, each with the
// configuration that init wrote and on free ports, until the script ends: authority DIR. The services address is in the
// variable server.
func authority(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: authority DIR")
	}
	ctx, stop := context.WithCancel(context.Background())
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	var ended []chan error
	ts.Defer(func() {
		stop()
		for _, e := range ended {
			if err := <-e; err != nil {
				ts.Logf("%v", err)
			}
		}
	})
	run := func(part func() error) chan error {
		done := make(chan error, 1)
		ended = append(ended, done)
		go func() { done <- part() }()
		return done
	}
	dir := ts.MkAbs(args[0])
	host, err := nodekeydist.LoadConfig(dir + "/keyd.yaml")
	ts.Check(err)
	host.Listen, host.Admin, host.PassphraseFile = "127.0.0.1:0", "127.0.0.1:0", ts.MkAbs("pass")
	hosts := make(chan nodekeydist.Addrs, 1)
	done := run(func() error { return nodekeydist.Run(ctx, host, log, func(a nodekeydist.Addrs) { hosts <- a }) })
	h, err := await("key-distribution host", hosts, done)
	ts.Check(err)
	ra, err := nodeprovision.LoadConfig(dir + "/provisiond.yaml")
	ts.Check(err)
	ra.Terminals, ra.Services, ra.Publication, ra.Admin = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	ra.PassphraseFile, ra.Keyd = ts.MkAbs("pass"), "https://"+h.Service
	authorities := make(chan nodeprovision.Addrs, 1)
	done = run(func() error {
		return nodeprovision.Run(ctx, ra, log, func(a nodeprovision.Addrs) { authorities <- a })
	})
	a, err := await("registration authority", authorities, done)
	ts.Check(err)
	ts.Setenv("server", "https://"+a.Services)
	ts.Setenv("ra", "https://"+a.Terminals)
	ts.Setenv("publication", "http://"+a.Publication)
}

// approval puts the id of the first operation on standard output of the last command into the variable approval.
func approval(ts *testscript.TestScript, _ bool, _ []string) {
	m := regexp.MustCompile(`(?m)^[0-9A-Z]{26}`).FindString(ts.ReadFile("stdout"))
	if m == "" {
		ts.Fatalf("no operation waits")
	}
	ts.Setenv("approval", m)
}

// device is a terminal on the network of the last authority: device enrol DIR TENANT ID SLIP, and device renew DIR. It says
// which version of the trust list it has, in the variable trustlist.
func device(ts *testscript.TestScript, neg bool, args []string) {
	var err error
	switch {
	case len(args) == 5 && args[0] == "enrol":
		err = enrolDevice(ts, ts.MkAbs(args[1]), args[2], args[3], ts.ReadFile(args[4]))
	case len(args) == 2 && args[0] == "renew":
		err = renewDevice(ts, ts.MkAbs(args[1]))
	default:
		ts.Fatalf("usage: device enrol DIR TENANT ID SLIP | device renew DIR")
	}
	if (err != nil) != neg {
		ts.Fatalf("device %s: %v", args[0], err)
	}
	ts.Logf("device %s: %v", args[0], err)
}

func enrolDevice(ts *testscript.TestScript, dir, tenant, id, slip string) error {
	ticket, err := enroll.ParseTicket([]byte(strings.TrimSpace(slip)))
	ts.Check(err)
	ts.Check(os.Mkdir(dir, 0o700))
	medium := terminal.OSFS(dir)
	sealer, err := terminal.CreateInsecureFile(medium)
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return terminal.Enroll(ctx, medium, sealer, terminal.EnrolOptions{
		URL: ts.Getenv("ra"), TrustURL: ts.Getenv("publication"), Tenant: keyset.TenantID(tenant), Terminal: keyset.TerminalID(id), Ticket: ticket,
	})
}

func renewDevice(ts *testscript.TestScript, dir string) error {
	medium := terminal.OSFS(dir)
	sealer, err := terminal.OpenInsecureFile(medium)
	ts.Check(err)
	t, err := terminal.Open(terminal.Options{FS: medium, Sealer: sealer})
	ts.Check(err)
	defer func() { ts.Check(t.Close()) }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err = t.Renew(ctx)
	ts.Setenv("trustlist", strconv.FormatUint(t.Status().TrustList, 10))
	return err
}

// published waits until the authority hands out the trust list that is in a file.
func published(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: published FILE")
	}
	want := ts.ReadFile(args[0])
	for deadline := time.Now().Add(20 * time.Second); ; {
		resp, err := http.Get(ts.Getenv("publication") + "/trust-list")
		ts.Check(err)
		got, err := io.ReadAll(resp.Body)
		ts.Check(errors.Join(err, resp.Body.Close()))
		if string(got) == want {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("it is not handed out")
		}
		time.Sleep(20 * time.Millisecond) // polling with a deadline
	}
}

// furtherRoot adds the root of another services authority to a file of roots: furtherroot FILE.
func furtherRoot(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: furtherroot FILE")
	}
	issuer, err := catest.NewFake(identity.ServicesCA, catest.Twist{}, time.Now)
	ts.Check(err)
	chain := issuer.Chain()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[len(chain)-1].Raw})
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), append([]byte(ts.ReadFile(args[0])), text...), 0o600))
}
