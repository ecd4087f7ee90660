package api

import (
	"fmt"
	"io"
	"log/slog"
	"strconv"
)

// Released card data is in these values so that a host can use it, not so that it can be logged by accident: they print
// masked. JSON of them is the wire form and holds everything: do not log it, neither directly nor inside another value.

func (f Field) text() string {
	out := "slot " + strconv.Itoa(int(f.Slot)) + " " + f.Usage + " KSN " + f.KSN + " key set " + f.KeySet
	if f.MaskedPAN != "" {
		out += " card " + f.MaskedPAN
	}
	if len(f.ClearData) > 0 {
		out += " data of " + strconv.Itoa(len(f.ClearData)) + " bytes"
	}
	if f.PINBlock != "" {
		out += " PIN under " + f.PINKey
	}
	return out
}

// Format prints what identifies the field, the card number masked, and no data, whatever the verb.
func (f Field) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "["+f.text()+"]") }

// LogValue gives loggers what Format prints.
func (f Field) LogValue() slog.Value { return slog.StringValue(f.text()) }

func (r TransactionResponse) text() string {
	out := r.Type + " " + r.Tenant + "/" + r.Terminal + "/" + strconv.FormatUint(r.BootCounter, 10) + "/" +
		strconv.FormatUint(r.Sequence, 10) + " " + string(r.CounterStatus)
	if r.Code != "" {
		out += " " + r.Code
	}
	for _, f := range r.Fields {
		out += " [" + f.text() + "]"
	}
	return out
}

// Format prints who said what, card numbers masked, and no data, whatever the verb.
func (r TransactionResponse) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "["+r.text()+"]") }

// LogValue gives loggers what Format prints.
func (r TransactionResponse) LogValue() slog.Value { return slog.StringValue(r.text()) }
