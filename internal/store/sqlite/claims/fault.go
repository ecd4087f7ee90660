package claims

import (
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
)

// Fault is a failure of the database. errors.As finds the *decrypt.Refusal in it; the cause is for the log alone.
type Fault struct {
	Refusal decrypt.Refusal
	Cause   error
}

// Error returns the code and the cause.
func (f *Fault) Error() string { return fmt.Sprintf("claims: %s: %v", f.Refusal.Code, f.Cause) }

// Unwrap returns the refusal and the cause.
func (f *Fault) Unwrap() []error { return []error{&f.Refusal, f.Cause} }

// fault makes of a failure of the database a refusal that tells nothing, around a cause for the log. Other errors are
// those of a call, or of its context, and stay.
func fault(err error) error {
	for _, class := range []struct {
		of   error
		code decrypt.Code
	}{
		{sqlite.ErrFull, decrypt.CodeStoreFull},
		{sqlite.ErrDamaged, decrypt.CodeStoreDamaged},
		{sqlite.ErrUnavailable, decrypt.CodeStoreUnavailable},
		{sqlite.ErrExists, decrypt.CodeStoreUnavailable}, // no statement here may meet a row that it has not looked for
	} {
		if errors.Is(err, class.of) {
			return &Fault{Refusal: decrypt.Refusal{Code: class.code}, Cause: err}
		}
	}
	return err
}
