package provision

import (
	"fmt"
	"slices"
	"strings"

	"github.com/latchkey-pos/latchkey/keys/keyset"
)

const (
	maxLabels     = 16 // of one terminal
	maxLabelKey   = 32
	maxLabelValue = 64
)

// Group is what an operator calls the terminals that belong together: 1 to 32 of A-Z, 0-9 and -. The empty group is none.
// Groups and labels are for people: nothing is permitted or refused by them, and the feed does not have them.
type Group string

// ParseGroup reads the name of a group.
func ParseGroup(s string) (Group, error) {
	if _, err := keyset.ParseTerminal(s); err != nil { // the rule is the same
		return "", fmt.Errorf("provision: a group has 1 to 32 of A-Z, 0-9 and -")
	}
	return Group(s), nil
}

// Label is one thing that an operator notes about a terminal.
type Label struct {
	Key   string // 1 to 32 of a-z, 0-9, - and .
	Value string // 1 to 64 printable characters of ASCII, no space at either end, none of , and ;
}

// ParseLabel reads KEY=VALUE.
func ParseLabel(s string) (Label, error) {
	key, value, ok := strings.Cut(s, "=")
	l := Label{key, value}
	if !ok || !l.valid() {
		return Label{}, fmt.Errorf("provision: a label is KEY=VALUE, 1 to %d of a-z, 0-9, - and . and 1 to %d printable characters without , and ;",
			maxLabelKey, maxLabelValue)
	}
	return l, nil
}

// String returns KEY=VALUE.
func (l Label) String() string { return l.Key + "=" + l.Value }

func (l Label) valid() bool {
	return len(l.Key) >= 1 && len(l.Key) <= maxLabelKey && strings.Trim(l.Key, "abcdefghijklmnopqrstuvwxyz0123456789-.") == "" &&
		len(l.Value) >= 1 && len(l.Value) <= maxLabelValue && strings.TrimSpace(l.Value) == l.Value &&
		!strings.ContainsFunc(l.Value, func(r rune) bool { return r < ' ' || r > '~' || r == ',' || r == ';' })
}

// SortLabels puts labels into the order in which they are kept, and refuses a key that is there twice and too many of them.
func SortLabels(labels []Label) ([]Label, error) {
	labels = slices.Clone(labels)
	slices.SortFunc(labels, func(a, b Label) int { return strings.Compare(a.Key, b.Key) })
	return labels, checkMarks("", labels)
}

// checkMarks holds a group and labels to the rules.
func checkMarks(group Group, labels []Label) error {
	if group != "" {
		if _, err := ParseGroup(string(group)); err != nil {
			return err
		}
	}
	if len(labels) > maxLabels {
		return fmt.Errorf("provision: %d labels, want at most %d", len(labels), maxLabels)
	}
	for i, l := range labels {
		if !l.valid() {
			return fmt.Errorf("provision: label %d is not KEY=VALUE", i+1)
		}
		if i > 0 && labels[i-1].Key >= l.Key {
			return fmt.Errorf("provision: labels are ascending by key, each once")
		}
	}
	return nil
}

// Filter says which terminals of a list are wanted. The zero value wants all.
type Filter struct {
	Group  Group
	Labels []Label   // all of them
	KeySet keyset.ID // that have a slot of this set, or a key of it that is not retired
}

// matches reports whether a terminal is wanted.
func (f *Filter) matches(t *Terminal) bool {
	if f.Group != "" && t.Group != f.Group {
		return false
	}
	for _, l := range f.Labels {
		if !slices.Contains(t.Labels, l) {
			return false
		}
	}
	return f.KeySet == "" || slices.ContainsFunc(t.Slots, func(s Slot) bool { return s.touches(f.KeySet) })
}
