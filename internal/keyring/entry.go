package keyring

import (
	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// entry is one key in memory. It does not change after it was made, until it is wiped.
type entry struct {
	info engine.KeyInfo
	key  keys.Key
	base *dukpt.BaseKey // for usage B0
}

// labelled is what a ring says about all of its keys.
type labelled struct {
	labels       engine.Labels
	fingerprints secret.Bytes // key of the keyed fingerprints
}

func softwareLabels(env keyset.Environment) engine.Labels {
	return engine.Labels{KeyMode: engine.Software, PINExposure: engine.HostMemory, Environment: env}
}

// prepare makes what the engine needs beside the key.
func (e *entry) prepare() error {
	if e.info.Attributes.Usage != keys.UsageBDK {
		return nil
	}
	base, err := dukpt.NewBaseKey(e.key)
	if err != nil {
		return err // it says what it is of
	}
	e.base = base
	return nil
}

func (e *entry) wipe() {
	e.key.Wipe()
	if e.base != nil {
		e.base.Wipe()
	}
}
