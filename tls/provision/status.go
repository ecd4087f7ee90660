package provision

import (
	"slices"

	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// What a terminal may do here by its status, and what becomes of what it sends to a listener:
//
//	             connects, renews, is told   is delivered     its messages are
//	             what is set up for it;      initial keys
//	             gets codes and rekeys
//	pending      yes                         yes              a sign-in, and nothing else
//	active       yes                         yes              taken
//	blocked      yes                         no               held, but for a sign-in and what a drain grant lets through
//	quarantined  yes                         no               as blocked
//	retired      no                          no               refused; it can turn out to be revoked or compromised
//	revoked      no                          no               refused; it can turn out to be compromised
//	compromised  no                          no               refused, for ever
//
// Blocked by a person and quarantined on evidence are one here: such a terminal keeps its certificate alive, so that what
// it has queued can be let through and it goes on when it is unblocked. Only unblock ends either; evidence turns blocked
// into quarantined, and a person does not turn it back into blocked.

// connecting are the statuses in which a terminal connects, and all that goes with it.
var connecting = []keyset.Status{
	keyset.StatusPending, keyset.StatusActive, keyset.StatusBlocked, keyset.StatusQuarantined,
}

// deliverable are the statuses in which terminals get initial keys.
var deliverable = []keyset.Status{keyset.StatusPending, keyset.StatusActive}

// connects reports whether a status lets a terminal connect.
func connects(s keyset.Status) bool { return slices.Contains(connecting, s) }

// connects reports whether the status lets the terminal connect.
func (t *Terminal) connects() bool { return connects(t.Status) }

// severity orders the statuses that end a terminal by what they take away. Nothing leads from one to a milder one.
func severity(s keyset.Status) int {
	return slices.Index([]keyset.Status{keyset.StatusRetired, keyset.StatusRevoked, keyset.StatusCompromised}, s)
}
