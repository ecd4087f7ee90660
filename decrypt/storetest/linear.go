package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
)

const (
	linearRounds  = 20
	linearClients = 6
	linearCalls   = 10 // of each client
)

// testLinear has clients claim the same few things at once, and looks for an order in which one call after the other would have
// got those answers from the model. Without such an order, two calls have not seen of each other what they should.
func testLinear(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	verdicts := make(map[string]int)
	for round := range linearRounds {
		calls := clash(t, s, round)
		for _, c := range calls {
			verdicts[c.Output.(reply).verdict()]++
		}
		if !linear(calls) {
			t.Fatalf("round %d: no order of the calls explains their answers", round)
		}
	}
	for _, v := range []string{decrypt.Fresh.String(), decrypt.Resend.String(), string(decrypt.CodeKSNReplayed)} {
		if verdicts[v] < linearRounds {
			t.Errorf("too little happened: %v", verdicts)
		}
	}
}

// reply is what one call was answered.
type reply struct {
	out decrypt.ClaimOutcome
	err error
}

func (c reply) verdict() string {
	if c.err != nil {
		return string(codeOf(c.err))
	}
	return c.out.Verdict.String()
}

// clash has clients claim at once, and returns who was answered what, and when. Each round has a key of its own.
func clash(t *testing.T, s decrypt.Store, round int) []porcupine.Operation {
	id := must(dukpt.ParseKeyID(fmt.Sprintf("12345678%08X", 0xABC00000+round)))
	start := time.Now()
	var mu sync.Mutex
	var calls []porcupine.Operation
	var clients sync.WaitGroup
	for client := range linearClients {
		rng := rand.New(rand.NewPCG(uint64(round), uint64(client)))
		clients.Go(func() {
			for range linearCalls {
				set := contested(rng, round, id)
				call := time.Since(start)
				out, err := s.Claim(t.Context(), set)
				back := time.Since(start)
				mu.Lock()
				calls = append(calls, porcupine.Operation{ClientId: client, Input: set, Call: int64(call), Output: reply{out, err}, Return: int64(back)})
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	return calls
}

// contested is one of few sets, so that clients meet.
func contested(rng *rand.Rand, round int, id dukpt.KeyID) decrypt.ClaimSet {
	n := 1 + rng.Uint32N(3)
	name := fmt.Sprint("round ", round, " sale ", n, " of ", rng.IntN(2))
	claims := []decrypt.Claim{claim(id, n, decrypt.PurposeMAC, name+" mac"), claim(id, n, decrypt.PurposeData, name+" data")}
	if rng.IntN(4) == 0 { // far ahead of the others, which are below the floor then
		n += 2 * windowW
		claims = claims[:1]
		claims[0] = claim(id, n, decrypt.PurposeMAC, name)
	}
	return named(set(name, claims...))
}

// linear reports whether one call after the other could have got these answers.
func linear(calls []porcupine.Operation) bool {
	return porcupine.CheckOperations(porcupine.Model{
		Init: func() any { return newContents() },
		Step: func(state, input, output any) (bool, any) {
			m := &Model{contents: state.(Contents).clone()}
			out, err := m.Claim(context.Background(), input.(decrypt.ClaimSet))
			m.contents.Leaves = nil // their order is what is looked for
			got := output.(reply)
			return codeOf(err) == codeOf(got.err) && (err == nil) == (got.err == nil) && compare(out, got.out) == "", m.contents
		},
		Equal: func(a, b any) bool { return reflect.DeepEqual(a, b) },
	}, calls)
}
