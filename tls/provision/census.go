package provision

import (
	"context"
	"math"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// CertificateExpired is what a census calls certificates that have ended, revoked or not. No list says it of one.
const CertificateExpired CertificateState = "expired"

// Horizons are the times within which a census counts the current certificates that end.
func Horizons() []time.Duration {
	const day = 24 * time.Hour
	return []time.Duration{time.Hour, day, 3 * day, 7 * day, 14 * day, 30 * day, 90 * day}
}

// Census is how much of what a registry has. It is plain data.
type Census struct {
	Terminals    map[keyset.Status]int
	Certificates map[identity.Role]map[CertificateState]int
	// Ending are the current certificates of TLS keys that end within each of the horizons, those within a shorter one included.
	Ending []int
	Tasks  map[TaskKind]int // that other services have to be told
	Oldest time.Duration    // since the oldest task was made that is due; 0 for none
}

// maxCensusTasks bounds the tasks that are read to be counted.
const maxCensusTasks = 1 << 16

// Census counts what there is. It reads the whole registry, but for the chains of certificates: ask for it now and then.
func (e *Engine) Census(ctx context.Context) (*Census, error) {
	var out *Census
	err := e.view(ctx, func(tx Tx) error {
		var err error
		out, err = e.census(tx)
		return err
	})
	return out, err
}

func (e *Engine) census(tx Tx) (*Census, error) {
	now := e.now()
	c := &Census{
		Terminals: make(map[keyset.Status]int), Ending: make([]int, len(Horizons())), Tasks: make(map[TaskKind]int),
		Certificates: map[identity.Role]map[CertificateState]int{identity.Terminal: {}, identity.Agreement: {}},
	}
	rows := make(map[keyset.TerminalID]*Terminal)
	err := tx.Terminals("", 0, func(row *Terminal) error {
		c.Terminals[row.Status]++
		rows[row.ID] = &Terminal{Serial: row.Serial, PreviousSerial: row.PreviousSerial, AgreementSerial: row.AgreementSerial}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = tx.Certificates("", "", 0, func(i Issuance) error {
		state := CertificateExpired
		if now.Before(i.NotAfter) {
			state = CertificateReplaced
			if row, ok := rows[i.Terminal]; ok {
				state = row.worth(&i)
			}
		}
		c.Certificates[i.Role][state]++
		if i.Role == identity.Terminal && state == CertificateCurrent {
			c.ends(i.NotAfter.Sub(now))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	tasks, err := tx.Tasks(math.MaxInt64, TaskPlace{}, maxCensusTasks)
	for _, task := range tasks {
		c.Tasks[task.Kind]++
		if age := now.Sub(task.Created); task.Kind != 0 && !task.Due.After(now) {
			c.Oldest = max(c.Oldest, age)
		}
	}
	return c, err
}

// ends counts a current certificate that ends in a while.
func (c *Census) ends(in time.Duration) {
	for i, horizon := range Horizons() {
		if in <= horizon {
			c.Ending[i]++
		}
	}
}

// Behind returns how long ago the engine has last seen what others write to its store; 0 where nobody else does.
func (e *Engine) Behind() time.Duration {
	if at := e.seen.at.Load(); e.config.Shared && at != nil {
		return time.Since(*at)
	}
	return 0
}

// What Count of Config is told of.
const (
	CountedEnrolment = "enrol"
	CountedRenewal   = "renew"
	CountedAgreement = "agreement"
	CountedDelivery  = "deliver"

	countedDone = "ok"
)

// count tells what became of what a terminal has asked for: ok, or the code of the refusal.
func (e *Engine) count(action string, err error) {
	if e.config.Count == nil {
		return
	}
	result := countedDone
	if err != nil {
		result = string(codeOf(err))
		if _, known := Code(result).Info(); !known {
			result = string(CodeInternal)
		}
	}
	e.config.Count(action, result)
}
