package rows

import (
	"context"
	"errors"

	"github.com/latchkey-pos/latchkey/internal/audit"
)

// Store is what every room that keeps rows has over its database: T is a transaction in the words of the room. It is safe for
// concurrent use. Close it.
type Store[T any] struct {
	db      DB
	as      func(Tx) T
	refused func(error) error
}

// NewStore makes a store of a database, which it closes. as puts a transaction into the words of the room, and refused the failures
// of the database; other errors it leaves alone.
func NewStore[T any](db DB, as func(Tx) T, refused func(error) error) Store[T] {
	return Store[T]{db, as, refused}
}

// Update is DB.Update.
func (s Store[T]) Update(ctx context.Context, f func(T) error) error {
	return s.refused(s.db.Update(ctx, func(t Tx) error { return f(s.as(t)) }))
}

// View is DB.View.
func (s Store[T]) View(ctx context.Context, f func(T) error) error {
	return s.refused(s.db.View(ctx, func(t Tx) error { return f(s.as(t)) }))
}

// Check is DB.Check.
func (s Store[T]) Check(ctx context.Context) error { return s.refused(s.db.Check(ctx)) }

// Checkpoint is DB.Checkpoint.
func (s Store[T]) Checkpoint(ctx context.Context, signer *audit.Signer) ([]byte, error) {
	b, err := s.db.Checkpoint(ctx, signer)
	return b, s.refused(err)
}

// Close is DB.Close.
func (s Store[T]) Close() error { return s.db.Close() }

// CodeOf returns the code that a room has for a failure of a database, or false for any other error.
func CodeOf[C any](err error, full, damaged, unavailable C) (code C, failed bool) {
	switch {
	case errors.Is(err, ErrFull):
		return full, true
	case errors.Is(err, ErrDamaged):
		return damaged, true
	case errors.Is(err, ErrUnavailable):
		return unavailable, true
	}
	return code, false
}
