package main

import (
	"context"
	"io"
	"log/slog"
	"regexp"

	"github.com/rogpeppe/go-internal/testscript"

	nodekeydist "github.com/latchkey-pos/latchkey/internal/node/keydist"
	nodeprovision "github.com/latchkey-pos/latchkey/internal/node/provision"
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
