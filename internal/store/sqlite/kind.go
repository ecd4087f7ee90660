package sqlite

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Kind says which daemon a database belongs to. It is the application id in the header of the file.
type Kind uint32

// The databases of this program.
const (
	Claims     Kind = 0x4c4b4559 // "LKEY", of latchkey-decryptd
	Registry   Kind = 0x4c4b5241 // "LKRA", of latchkey-provisiond
	Deliveries Kind = 0x4c4b4b44 // "LKKD", of latchkey-keyd
)

var kinds = []Kind{Claims, Registry, Deliveries}

func (k Kind) known() bool { return slices.Contains(kinds, k) }

// String returns the four letters in the header.
func (k Kind) String() string {
	if !k.known() {
		return fmt.Sprintf("%#x", uint32(k))
	}
	return string(binary.BigEndian.AppendUint32(nil, uint32(k)))
}
