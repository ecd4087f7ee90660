package pin

import "testing"

// TestNoAllocation makes and reads blocks of every format in memory of the caller's.
func TestNoAllocation(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	p, got, pan := mustPIN(t, "739128"), NewOpened(), mustPAN(t, "4111111111111111")
	fill := GenerateFill()
	buffer := make([]byte, 0, format4Size)
	for _, f := range everyFormat {
		c := testCipher(t, f, 1)
		steps := map[string]func() error{}
		moved := NewOpened()
		if err := Format1.Decode(&moved, []byte{0x14, 0x12, 0x34, 0, 0, 0, 0, 0}, PAN{}); err != nil {
			t.Fatal(err)
		}
		if f.BlockSize() == fieldSize {
			steps["clear"] = func() error {
				block, err := f.Append(buffer, p, pan, fill)
				if err != nil {
					return err
				}
				return f.Decode(&got, block, pan)
			}
		}
		if f != Format2 {
			steps["enciphered"] = func() error {
				block, err := f.Encrypt(buffer, c, p, pan, fill)
				if err != nil {
					return err
				}
				return f.Decrypt(&got, c, block, pan)
			}
			steps["moved"] = func() error {
				_, err := moved.Encrypt(buffer, Side{Format: f, PAN: pan, Cipher: c}, fill)
				return err
			}
			steps["refused"] = func() error {
				if err := f.Decrypt(&got, c, buffer[:format4Size][:f.BlockSize()-1], pan); err != ErrBlock {
					return err
				}
				return nil
			}
		}
		for name, step := range steps {
			var err error
			allocs := testing.AllocsPerRun(100, func() {
				if e := step(); e != nil {
					err = e
				}
			})
			if err != nil || allocs != 0 {
				t.Errorf("%v, %s: %v allocations, %v", f, name, allocs, err)
			}
		}
	}
}

func BenchmarkBlock(b *testing.B) {
	p, pan := mustPIN(b, "7391"), mustPAN(b, "4111111111111111")
	for _, f := range []Format{Format0, Format3, Format4} {
		c, got, buffer := testCipher(b, f, 1), NewOpened(), make([]byte, 0, format4Size)
		b.Run(f.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				block, err := f.Encrypt(buffer, c, p, pan, Fill{})
				if err == nil {
					err = f.Decrypt(&got, c, block, pan)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
