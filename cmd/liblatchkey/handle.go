package main

/*
#include "api.h"
*/
import "C"

import "sync"

// registry has the open handles of one kind. Numbers come from one counter for all kinds and are never given twice: a closed
// handle, or one of another kind, is found nowhere.
type registry[T any] struct {
	mu   sync.RWMutex
	open map[C.lk_handle]T
}

var handles struct {
	mu   sync.Mutex
	last C.lk_handle
}

func nextHandle() C.lk_handle {
	handles.mu.Lock()
	defer handles.mu.Unlock()
	handles.last++
	return handles.last
}

// add opens a handle.
func (r *registry[T]) add(v T) C.lk_handle {
	h := nextHandle()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		r.open = make(map[C.lk_handle]T)
	}
	r.open[h] = v
	return h
}

// find returns what a handle stands for.
func (r *registry[T]) find(h C.lk_handle) (T, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	v, ok := r.open[h]
	if !ok {
		return v, errHandle
	}
	return v, nil
}

// remove closes a handle. Of two who try, one succeeds.
func (r *registry[T]) remove(h C.lk_handle) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.open[h]; !ok {
		return errHandle
	}
	delete(r.open, h)
	return nil
}
