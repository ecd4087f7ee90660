package claims

import (
	"context"

	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
)

// Restore is sqlite.Restore for claims.
func Restore(
	ctx context.Context, path, from string, replace bool, progress func(done, of int), ready func(path string) error,
) (aside string, err error) {
	return sqlite.Restore(ctx, path, from, sqlite.Claims, replace, progress, ready)
}
