package admin

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// The parameters of lists.
const (
	queryAfter    = "after"    // go on behind this terminal, or behind the certificate of this serial number
	queryLimit    = "limit"    // so many at most
	queryTerminal = "terminal" // certificates of this terminal only
	queryGroup    = "group"    // terminals of this group only
	queryLabels   = "labels"   // terminals with these labels only: KEY=VALUE, separated by commas
	queryKeySet   = "key-set"  // terminals of this key set only
)

// query is what follows the question mark: known parameters, each at most once.
type query map[string]string

func parseQuery(r *http.Request, known ...string) (query, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, malformed("query: it cannot be read")
	}
	q := make(query, len(values))
	for name, v := range values {
		if !slices.Contains(known, name) || len(v) != 1 || v[0] == "" {
			return nil, malformed("query: want a value once for some of " + strings.Join(known, ", "))
		}
		q[name] = v[0]
	}
	return q, nil
}

// limit is how many are wanted, as many as there may be when nothing is said.
func (q query) limit() (int, error) {
	text, ok := q[queryLimit]
	if !ok {
		return provision.MaxListed, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > provision.MaxListed || strconv.Itoa(n) != text {
		return 0, malformed("query limit: want a number from 1 to " + strconv.Itoa(provision.MaxListed))
	}
	return n, nil
}

// filter is which terminals are wanted.
func (q query) filter() (f provision.Filter, err error) {
	if text, ok := q[queryGroup]; ok {
		if f.Group, err = provision.ParseGroup(text); err != nil {
			return f, malformed("query " + queryGroup + ": want 1 to 32 of A-Z, 0-9 and -")
		}
	}
	if text, ok := q[queryLabels]; ok {
		for one := range strings.SplitSeq(text, ",") {
			l, err := provision.ParseLabel(one)
			if err != nil {
				return f, malformed("query " + queryLabels + ": want KEY=VALUE, separated by commas")
			}
			f.Labels = append(f.Labels, l)
		}
	}
	if text, ok := q[queryKeySet]; ok {
		if f.KeySet, err = keyset.ParseID(text); err != nil {
			return f, malformed("query " + queryKeySet + ": want the name of a key set")
		}
	}
	return f, nil
}

// terminal is the terminal that a parameter names, empty when it is not there.
func (q query) terminal(name string) (keyset.TerminalID, error) {
	text, ok := q[name]
	if !ok {
		return "", nil
	}
	id, err := keyset.ParseTerminal(text)
	if err != nil {
		return "", malformed("query " + name + ": want 1 to 32 of A-Z, 0-9 and -")
	}
	return id, nil
}
