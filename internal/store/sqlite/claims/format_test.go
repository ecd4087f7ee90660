package claims

import (
	"bytes"
	"compress/gzip"
	"io"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
	"github.com/latchkey-pos/latchkey/message"
)

// firstVerifier is the key of the checkpoint in testdata/first.db.gz.
const firstVerifier = "latchkey/SHOP/decryptd+1b5d38b4+AS8EtE1DVRRt+5DRzk2MzG327a0qgNkgfhBI1w487XUf"

// openFirst opens a copy of the database that the first release has written: the messages s0 to s4 of claimSet under the
// ordinals 1 to 5, an answer to s2, another message under ordinal 1 that was refused, and a checkpoint.
func openFirst(t *testing.T) (*Store, string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "first.db.gz"))
	if err != nil {
		t.Fatal(err)
	}
	whole := must(io.ReadAll(must(gzip.NewReader(bytes.NewReader(b)))))
	path := filepath.Join(t.TempDir(), "first.db")
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, path
}

// TestFirstRelease goes on with what the first release has written.
func TestFirstRelease(t *testing.T) {
	t.Parallel()
	s, path := openFirst(t)
	c := dump(t, s)
	if len(c.States) != 1 || len(c.Rows) != 10 || len(c.Requests) != 5 || len(c.Answers) != 1 || len(c.Acks) != 1 || len(c.Leaves) != 7 {
		t.Errorf("%d counters, %d rows, %d requests, %d answers, %d acks, %d records", len(c.States), len(c.Rows), len(c.Requests), len(c.Answers), len(c.Acks), len(c.Leaves))
	}
	if out, err := s.Claim(t.Context(), claimSet("s2", 3)); err != nil || out.Verdict != decrypt.Resend || out.Answer == nil || out.Answer.Result != message.Approved {
		t.Errorf("a message of before: %+v %v, want RESEND with its answer", out, err)
	}
	if _, err := s.Claim(t.Context(), claimSet("other", 2)); !isCode(err, decrypt.CodeKSNReplayed) {
		t.Errorf("another message under its KSN: %v, want %s", err, decrypt.CodeKSNReplayed)
	}
	if out, err := s.Claim(t.Context(), claimSet("s5", 6)); err != nil || out.Verdict != decrypt.Fresh {
		t.Errorf("a new message: %v %v, want FRESH", out.Verdict, err)
	}
	drained := claimSet("s6", 7)
	drained.Grants = []decrypt.Grant{{ID: "G", Count: 1}}
	if out, err := s.Claim(t.Context(), drained); err != nil || out.Verdict != decrypt.Fresh || dump(t, s).Drained["G"] != 1 {
		t.Errorf("a message under a drain grant: %v %v, want FRESH", out.Verdict, err)
	}
	log := must(sqlite.OpenAudit(path))
	defer func() { _ = log.Close() }()
	r, err := audit.Verify(t.Context(), log, must(audit.NewVerifier(firstVerifier)))
	if err != nil || r.Size != 11 || r.Signed != 7 || r.Checkpoints != 1 {
		t.Errorf("verify: %+v %v", r, err)
	}
}

// TestFormatIsOne compares the tables of a new database with those of the first release, brought up to date.
func TestFormatIsOne(t *testing.T) {
	t.Parallel()
	tables := func(s *Store) map[string]string {
		out := make(map[string]string)
		err := s.view(t.Context(), func(q tx) error {
			return q.Each(`SELECT name, coalesce(sql, '') FROM sqlite_schema`, nil, func(scan func(...any) error) error {
				var name, sql string
				err := scan(&name, &sql)
				out[name] = sql
				return err
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	first, _ := openFirst(t)
	now, _ := openNew(t)
	if want, got := tables(first), tables(now); !maps.Equal(want, got) || len(got) < 9 {
		t.Errorf("the tables differ:\n%q\nwant\n%q", got, want)
	}
}
