package fleet

import (
	"bytes"

	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// ReadResults reads the lines of a file of results.
func ReadResults(b []byte) (*Results, error) {
	r := &Results{left: make(map[keyset.TerminalID]Result), done: make(map[keyset.TerminalID]Result)}
	return r, r.read(b)
}

// Lines writes the results anew, as one line each without an order.
func (r *Results) Lines() (out []string, _ error) {
	records := []record{r.head.record()}
	if r.approval != "" {
		records = append(records, record{Approval: r.approval})
	}
	for _, of := range []map[keyset.TerminalID]Result{r.left, r.done} {
		for _, one := range of {
			records = append(records, one.record())
		}
	}
	for _, rec := range records {
		var b bytes.Buffer
		if err := write(&b, []record{rec}); err != nil {
			return nil, err
		}
		out = append(out, b.String())
	}
	return out, nil
}
