package deliveries

import (
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

// Fault is a failure of the database. errors.As finds the *keydist.Refusal in it; the cause is for the log alone.
type Fault struct {
	Refusal keydist.Refusal
	Cause   error
}

// Error returns the code and the cause.
func (f *Fault) Error() string { return fmt.Sprintf("deliveries: %s: %v", f.Refusal.Code, f.Cause) }

// Unwrap returns the refusal and the cause.
func (f *Fault) Unwrap() []error { return []error{&f.Refusal, f.Cause} }

// fault makes of a failure of the database a refusal that tells nothing, around a cause for the log. Other errors are
// those of a function, or of its context, and stay.
func fault(err error) error {
	for _, class := range []struct {
		of   error
		code keydist.Code
	}{
		{sqlite.ErrFull, keydist.CodeStoreFull},
		{sqlite.ErrDamaged, keydist.CodeStoreDamaged},
		{sqlite.ErrUnavailable, keydist.CodeStoreUnavailable},
	} {
		if errors.Is(err, class.of) {
			return &Fault{Refusal: keydist.Refusal{Code: class.code}, Cause: err}
		}
	}
	return err
}
