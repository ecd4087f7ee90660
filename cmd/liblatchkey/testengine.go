//go:build cgo && testengine && !core

package main

/*
#include "api.h"
#include "testengine.h"
*/
import "C"

import (
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/terminal"
)

// processor is the secure processor of testengine.c. Programs are never built with it.
type processor struct{ c *C.processor }

func newProcessor() processor { return processor{C.processor_new()} }

func (p processor) free() { C.processor_free(p.c) }

// load puts a first key into a slot.
func (p processor) load(slot terminal.Slot, ik *dukpt.InitialKey) error {
	e, err := p.start()
	if err != nil {
		return err
	}
	if err := e.Stage(slot.Number, ik, slot.MaxJump); err != nil {
		return err
	}
	return e.Switch(slot.Number)
}

// start has power come back.
func (p processor) start() (terminal.Engine, error) {
	table := C.processor_start(p.c)
	return newEngine(&table, &guard{threads: make(map[int]int)})
}

// startWild returns an engine that breaks every promise.
func startWild() (terminal.Engine, error) {
	table := C.wild_engine()
	return newEngine(&table, &guard{threads: make(map[int]int)})
}

// startForgetful returns one that forgets what it is to say.
func startForgetful() (terminal.Engine, error) {
	return newEngine(C.forgetful_engine(), &guard{threads: make(map[int]int)})
}

// forgetfulSealer returns a sealer that says nothing of what it has written, or a number.
func forgetfulSealer(says bool, n int) (terminal.Sealer, error) {
	said := 0
	if says {
		said = n + 1
	}
	return newSealer(C.forgetful_sealer(C.size_t(said)), &guard{threads: make(map[int]int)})
}

// sealerDevice is the sealer of testsealer.c.
type sealerDevice struct{ c *C.sealer_device }

func newSealerDevice(number uint8) sealerDevice { return sealerDevice{C.sealer_new(C.uint8_t(number))} }

func (d sealerDevice) free() { C.sealer_free(d.c) }

func (d sealerDevice) open() (terminal.Sealer, error) {
	table := C.sealer_of(d.c)
	return newSealer(&table, &guard{threads: make(map[int]int)})
}
