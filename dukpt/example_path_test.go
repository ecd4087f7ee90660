package dukpt_test

import (
	"fmt"
	"log"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
)

// A terminal's transactions one after the other: each but the first takes one step down the tree.
func ExampleBaseKey_NewPath() {
	base := exampleBase()
	defer base.Wipe()
	path, tx := base.NewPath(), dukpt.NewHostTransaction()
	defer path.Wipe()
	ksn, err := dukpt.ParseKSNHex("FFFF9876543210E00001")
	if err != nil {
		log.Fatal(err)
	}
	for range 3 {
		if err := path.Seek(tx, ksn); err != nil {
			log.Fatal(err)
		}
		mac, err := tx.MACResponse(nil, dukpt.TDES.DefaultMAC(), []byte("00 APPROVED"))
		if err != nil {
			log.Fatal(err)
		}
		tx.End()
		fmt.Printf("%v %X\n", ksn, mac)
		ksn, _ = ksn.Next()
	}
	// Output:
	// FFFF9876543210E00001 054C073DA61E32EF
	// FFFF9876543210E00002 81DC488907EE448D
	// FFFF9876543210E00003 9EE4E1F60E1935E5
}

// One transaction does for many: nothing is allocated under TDES.
func ExampleBaseKey_Bind() {
	base := exampleBase()
	defer base.Wipe()
	tx := dukpt.NewHostTransaction()
	for _, s := range []string{"FFFF9876543210E00001", "FFFF9876543210E00008"} {
		ksn, err := dukpt.ParseKSNHex(s)
		if err != nil {
			log.Fatal(err)
		}
		if err := base.Bind(tx, ksn); err != nil {
			log.Fatal(err)
		}
		fmt.Println(tx.KSN().Ordinal())
		tx.End()
	}
	// Output:
	// 1
	// 8
}

// A file of transactions: those of one terminal are taken together, whatever their order in the file.
func ExampleBaseKey_DeriveBatch() {
	base := exampleBase()
	defer base.Wipe()
	var ksns []dukpt.KSN
	for _, s := range []string{"FFFF9876543210E00008", "FFFF9876543210400001", "FFFF9876543210E00002"} {
		ksn, err := dukpt.ParseKSNHex(s)
		if err != nil {
			log.Fatal(err)
		}
		ksns = append(ksns, ksn)
	}
	done := make([]bool, len(ksns))
	err := base.DeriveBatch(ksns, func(i int, tx *dukpt.HostTransaction) error {
		done[i] = tx.KSN() == ksns[i]
		return nil
	})
	fmt.Println(done, err)
	// Output: [true true true] <nil>
}

// Do two libraries make the same keys? Their check values say it.
func ExampleBaseKey_CheckValues() {
	base := exampleBase()
	defer base.Wipe()
	ksn, err := dukpt.ParseKSNHex("FFFF9876543210E00001")
	if err != nil {
		log.Fatal(err)
	}
	checks, err := base.CheckValues(ksn)
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range checks[:4] {
		fmt.Println(c.Use, c.Key, c.KCV)
	}
	// Output:
	// PIN 2TDEA A10107
	// MAC 2TDEA 91A1BB
	// MAC 2TDEA 7F62E4
	// data 2TDEA 156B9F
}

// The key under which a terminal of AES DUKPT gets its next initial key.
func ExampleInitialKey_UpdateKey() {
	k, err := keys.NewKey(keys.Attributes{
		Algorithm: keys.AES128, Usage: keys.UsageInitialKey, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	}, []byte("\x12\x73\x67\x1E\xA2\x6A\xC2\x9A\xFA\x4D\x10\x84\x12\x76\x52\xA1"))
	if err != nil {
		log.Fatal(err)
	}
	defer k.Wipe()
	id, err := dukpt.ParseKeyID("1234567890123456")
	if err != nil {
		log.Fatal(err)
	}
	ik, err := dukpt.NewInitialKey(id, k)
	if err != nil {
		log.Fatal(err)
	}
	defer ik.Wipe()
	update, err := ik.UpdateKey(dukpt.KeyAES128)
	if err != nil {
		log.Fatal(err)
	}
	defer update.Wipe()
	fmt.Println(update.Attributes().Usage, update.Attributes().Algorithm, update.KCV())
	// Output: K1 AES-128 923E3134B1
}

// Some hosts say how a KSN is put together by three digits.
func ExampleParseDescriptor() {
	d, err := dukpt.ParseDescriptor("605")
	if err != nil {
		log.Fatal(err)
	}
	ksn, err := d.Parse("9876543210E00001")
	if err != nil {
		log.Fatal(err)
	}
	keySet, _, device, err := d.Split(ksn)
	fmt.Println(ksn, keySet, device, err)
	// Output: FFFF9876543210E00001 987654 3210E <nil>
}
