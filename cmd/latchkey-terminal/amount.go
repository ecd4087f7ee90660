package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/latchkey-pos/latchkey/message"
)

// currencies are those that the reference terminal knows: ISO 4217 numeric code, letters and decimals.
var currencies = []struct {
	number, letters string
	exponent        int
}{
	{"978", "EUR", 2}, {"840", "USD", 2}, {"826", "GBP", 2}, {"756", "CHF", 2}, {"156", "CNY", 2}, {"392", "JPY", 0},
	{"036", "AUD", 2}, {"124", "CAD", 2}, {"208", "DKK", 2}, {"578", "NOK", 2}, {"752", "SEK", 2}, {"985", "PLN", 2},
	{"203", "CZK", 2}, {"414", "KWD", 3}, {"410", "KRW", 0}, {"356", "INR", 2}, {"986", "BRL", 2}, {"344", "HKD", 2},
}

// parseAmount reads an amount in the major unit. It rounds nothing: 12.345 euro is refused.
func parseAmount(amount, currency string) (message.Amount, error) {
	for _, c := range currencies {
		if currency != c.number && currency != c.letters {
			continue
		}
		minor, err := parseMinor(amount, c.exponent)
		if err != nil {
			return message.Amount{}, err
		}
		code, err := message.ParseCurrency(c.letters)
		return message.Amount{Minor: minor, Currency: code, Exponent: uint8(c.exponent)}, err
	}
	return message.Amount{}, fmt.Errorf("currency %q is not one this terminal knows", currency)
}

func parseMinor(amount string, exponent int) (int64, error) {
	whole, fraction, point := strings.Cut(amount, ".")
	if whole == "" || len(fraction) > exponent || point && fraction == "" {
		return 0, fmt.Errorf("amount %q, want digits with at most %d decimals", amount, exponent)
	}
	digits := whole + fraction + strings.Repeat("0", exponent-len(fraction))
	n, err := strconv.ParseUint(digits, 10, 40)
	if err != nil || n == 0 {
		return 0, errors.New("amount is not a positive number in range")
	}
	return int64(n), nil
}
