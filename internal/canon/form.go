package canon

import (
	"bytes"
	"encoding"
	"fmt"
)

// Form is how a package stores or sends its values: a Codec, a length, and the error of the package that every error wraps.
// It is safe for concurrent use. The zero value is unusable.
type Form struct {
	codec     Codec
	malformed error
	most      int
}

// NewForm returns a form of at most most bytes, with the limits that New takes.
func NewForm(malformed error, most, items, depth int) Form {
	return Form{codec: New(items, depth), malformed: malformed, most: most}
}

// Errorf returns an error that wraps the error of the package.
func (f Form) Errorf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", f.malformed, fmt.Sprintf(format, args...))
}

// Marshal returns the one spelling of a wire form.
func (f Form) Marshal(wire any) ([]byte, error) {
	b, err := f.codec.Marshal(wire)
	if err != nil {
		return nil, f.Errorf("%v", err)
	}
	if err := f.fits(b); err != nil {
		return nil, err
	}
	return b, nil
}

// Unmarshal reads b into a wire form, a pointer to a zero value, as Codec.Unmarshal does.
func (f Form) Unmarshal(b []byte, wire any) error {
	if err := f.fits(b); err != nil {
		return err
	}
	if err := f.codec.Unmarshal(b, wire); err != nil {
		return f.Errorf("%v", err)
	}
	return nil
}

func (f Form) fits(b []byte) error {
	if len(b) > f.most {
		return f.Errorf("%d bytes, want at most %d", len(b), f.most)
	}
	return nil
}

// Spelled returns a value that was read from b if it is written as b. Its Marshal checks it, so that is checked too.
func Spelled[V interface{ Marshal() ([]byte, error) }](f Form, v V, b []byte) (V, error) {
	var none V
	again, err := v.Marshal()
	if err != nil {
		return none, err
	}
	if !bytes.Equal(again, b) {
		return none, f.Errorf("%v", errSpelling)
	}
	return v, nil
}

// Reader reads members of a wire form, one after another, and keeps the first error. After one it reads nothing.
type Reader struct {
	Err  error
	form Form
}

// Reader returns a reader whose errors are those of the form.
func (f Form) Reader() Reader { return Reader{form: f} }

// Fail keeps an error.
func (r *Reader) Fail(format string, args ...any) {
	if r.Err == nil {
		r.Err = r.form.Errorf(format, args...)
	}
}

// Version wants the version of a format.
func (r *Reader) Version(got, want uint) {
	if got != want {
		r.Fail("format version %d, want %d", got, want)
	}
}

// Text reads a text.
func (r *Reader) Text(dst encoding.TextUnmarshaler, s string) {
	if r.Err != nil {
		return
	}
	if err := dst.UnmarshalText([]byte(s)); err != nil {
		r.Fail("%v", err)
	}
}

// Binary reads bytes that may be left out.
func (r *Reader) Binary(dst encoding.BinaryUnmarshaler, b []byte) {
	if r.Err != nil || len(b) == 0 {
		return
	}
	if err := dst.UnmarshalBinary(b); err != nil {
		r.Fail("%v", err)
	}
}
