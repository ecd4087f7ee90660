package message

import "fmt"

const (
	maxMinor    = 999_999_999_999 // twelve digits, as ISO 8583 field 4 has
	maxExponent = 4               // the most that ISO 4217 uses
)

// Currency is an alphabetic code of ISO 4217, as in "EUR". The zero value is none.
type Currency [3]byte

// ParseCurrency reads three upper-case letters. It does not know which codes are in use.
func ParseCurrency(s string) (Currency, error) {
	if len(s) != 3 {
		return Currency{}, fmt.Errorf("message: currency has %d characters, want 3", len(s))
	}
	c := Currency([]byte(s))
	if !c.valid() {
		return Currency{}, fmt.Errorf("message: currency has a character outside A-Z")
	}
	return c, nil
}

func (c Currency) valid() bool {
	for _, b := range c {
		if b < 'A' || b > 'Z' {
			return false
		}
	}
	return true
}

// String returns the three letters.
func (c Currency) String() string { return string(c[:]) }

// Amount is a sum of money: Minor units of 10^-Exponent of the currency. 12.34 euro is {1234, "EUR", 2}.
type Amount struct {
	Minor    int64 // 0 to 999,999,999,999
	Currency Currency
	Exponent uint8 // 0 to 4
}

// String returns the amount with its decimal point and currency, as in "12.34 EUR".
func (a Amount) String() string {
	if a.Exponent == 0 || a.Exponent > maxExponent {
		return fmt.Sprintf("%d %s", a.Minor, a.Currency)
	}
	unit := int64(1)
	for range a.Exponent {
		unit *= 10
	}
	return fmt.Sprintf("%d.%0*d %s", a.Minor/unit, int(a.Exponent), a.Minor%unit, a.Currency)
}

// Check reports an amount that no message may carry. The error wraps ErrMessage.
func (a *Amount) Check() error {
	if a.Minor < 0 || a.Minor > maxMinor {
		return broken("amount is out of range, want 0 to %d", int64(maxMinor))
	}
	if !a.Currency.valid() {
		return broken("currency is not three upper-case letters")
	}
	if a.Exponent > maxExponent {
		return broken("amount has exponent %d, want at most %d", a.Exponent, maxExponent)
	}
	return nil
}
