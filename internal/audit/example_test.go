package audit_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/internal/audit"
)

// log keeps a log in memory. A store keeps it beside what it records.
type log struct {
	tree        audit.Tree
	leaves      []audit.Leaf
	checkpoints [][]byte
}

func (l *log) append(r audit.Record) error {
	r.Sequence = l.tree.Size() + 1
	record, err := r.Encode()
	if err != nil {
		return err
	}
	tree, hashes := l.tree.Append(record)
	l.leaves = append(l.leaves, audit.Leaf{Index: l.tree.Size(), Record: record, Hashes: hashes})
	l.tree = tree
	return nil
}

func (l *log) Leaves(_ context.Context, yield func(audit.Leaf) error) error {
	for _, leaf := range l.leaves {
		if err := yield(leaf); err != nil {
			return err
		}
	}
	return nil
}

func (l *log) Checkpoints(context.Context) ([][]byte, error) { return l.checkpoints, nil }

// A log is written, signed, and verified. Then one byte of it is changed.
func ExampleVerify() {
	secret, public, err := audit.GenerateKey("latchkey/SHOP/decryptd")
	if err != nil {
		panic(err)
	}
	signer, err := audit.NewSigner(secret)
	if err != nil {
		panic(err)
	}
	verifier, err := audit.NewVerifier(public)
	if err != nil {
		panic(err)
	}
	var l log
	for _, result := range []string{"FRESH", "RESEND", "REFUSED"} {
		err := l.append(audit.Record{Time: time.UnixMilli(1767225601123), Instance: "decrypt-1", Action: "transaction/sale", Result: result})
		if err != nil {
			panic(err)
		}
	}
	checkpoint, err := signer.Sign(l.tree)
	if err != nil {
		panic(err)
	}
	l.checkpoints = append(l.checkpoints, checkpoint)

	report, err := audit.Verify(context.Background(), &l, verifier)
	fmt.Println(report.Size, "records,", report.Signed, "signed:", err)

	l.leaves[1].Record[len(l.leaves[1].Record)-1] ^= 1
	_, err = audit.Verify(context.Background(), &l, verifier)
	wrong, _ := errors.AsType[*audit.LeafError](err)
	fmt.Println("leaf", wrong.Index, "was changed")
	// Output:
	// 3 records, 3 signed: <nil>
	// leaf 1 was changed
}
