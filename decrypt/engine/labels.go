package engine

import (
	"fmt"

	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// KeyMode says where a key is while it is used.
type KeyMode uint8

// The key modes of design section 4.
const (
	Software   KeyMode = iota + 1 // base key and working keys in host memory
	BDKInToken                    // the base key stays in the token, the initial key leaves for one request
	Token                         // everything stays in the token
)

var keyModeNames = map[KeyMode]string{Software: "software", BDKInToken: "bdk-in-token", Token: "token"}

// ParseKeyMode reads "software", "bdk-in-token" or "token".
func ParseKeyMode(s string) (KeyMode, error) {
	for m, name := range keyModeNames {
		if s == name {
			return m, nil
		}
	}
	return 0, fmt.Errorf("engine: unknown key mode %q", s)
}

// String returns the text that ParseKeyMode reads.
func (m KeyMode) String() string {
	if name, ok := keyModeNames[m]; ok {
		return name
	}
	return fmt.Sprintf("engine.KeyMode(%d)", uint8(m))
}

// PINExposure says whether a clear PIN is ever outside a secure device while it is translated.
type PINExposure uint8

// The PIN exposures of design section 4.
const (
	None       PINExposure = iota + 1 // never outside the device
	HostMemory                        // in host memory for the length of one translation
)

var exposureNames = map[PINExposure]string{None: "none", HostMemory: "host-memory"}

// ParsePINExposure reads "none" or "host-memory".
func ParsePINExposure(s string) (PINExposure, error) {
	for e, name := range exposureNames {
		if s == name {
			return e, nil
		}
	}
	return 0, fmt.Errorf("engine: unknown PIN exposure %q", s)
}

// String returns the text that ParsePINExposure reads.
func (e PINExposure) String() string {
	if name, ok := exposureNames[e]; ok {
		return name
	}
	return fmt.Sprintf("engine.PINExposure(%d)", uint8(e))
}

// Labels say how a key is held. They stand in every answer, metric and audit record. Labels are comparable.
type Labels struct {
	KeyMode     KeyMode
	PINExposure PINExposure
	Environment keyset.Environment
}

// String returns the labels as one short text, such as "software/host-memory/test".
func (l Labels) String() string {
	return l.KeyMode.String() + "/" + l.PINExposure.String() + "/" + l.Environment.String()
}
