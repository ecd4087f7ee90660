package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/pgtest"
)

// shared is a database in which services keep what they would keep in a file each.
type shared struct {
	*pgtest.Cluster
	database string
}

// onPostgres makes the database of an authority.
func (a *authority) onPostgres(t *testing.T) *shared {
	t.Helper()
	cluster := pgtest.Own(t)
	check(t, os.WriteFile(filepath.Join(a.dir, "database.password"), []byte(cluster.Password+"\n"), 0o600))
	return &shared{cluster, cluster.Database(t)}
}

// instance writes the configuration of a service under a name of its own there, next to the one that it is made from.
func (s *shared) instance(t *testing.T, from, name string) (config string) {
	t.Helper()
	text, err := os.ReadFile(from)
	check(t, err)
	own := string(text)
	for line, with := range map[string]string{
		`instance: .*`: "instance: " + name, `checkpoint-file: .*`: fmt.Sprintf("checkpoint-file: audit/%s.checkpoint", name),
		`database: .*`: fmt.Sprintf("postgres:\n  servers: ['127.0.0.1:%d']\n  name: %s\n  user: %s\n  password-file: database.password",
			s.Port, s.database, pgtest.Superuser),
	} {
		form := regexp.MustCompile("(?m)^" + line + "$")
		if len(form.FindAllString(own, -1)) != 1 {
			t.Fatalf("%s does not have one line %s", from, line)
		}
		own = form.ReplaceAllLiteralString(own, with)
	}
	config = filepath.Join(filepath.Dir(from), name+".yaml")
	check(t, os.WriteFile(config, []byte(own), 0o600))
	return config
}

// migrate makes the tables of a kind of service: provisiond or keyd.
func (s *shared) migrate(t *testing.T, service, config string) {
	t.Helper()
	if _, errs, code := output(t.Context(), nil, filepath.Join(binaries.shipped, "latchkey"), "store", "migrate", "--service", service,
		"--config", config); code != 0 {
		t.Fatalf("store migrate ends with %d: %s", code, errs)
	}
}

// pair has the authority be two, RA-1 and RA-2, which share the tables. Neither is started.
func (a *authority) pair(t *testing.T, s *shared) (two [2]*service) {
	t.Helper()
	from := a.ra.config
	for i := range two {
		two[i] = newService("latchkey-provisiond", s.instance(t, from, fmt.Sprintf("RA-%d", i+1)), "terminals", "services", "publication", "admin")
		t.Cleanup(two[i].end)
	}
	s.migrate(t, "provisiond", two[0].config)
	a.ra, a.second = two[0], two[1]
	return two
}

// verify runs latchkey audit verify on what an instance left behind, with the checkpoint that it has shipped, and returns what it says.
func (s *shared) verify(t *testing.T, service, config, pub string) (said string) {
	t.Helper()
	out, errs, code := output(t.Context(), nil, filepath.Join(binaries.shipped, "latchkey"), "audit", "verify", "--service", service, "--config", config,
		"--key-file", filepath.Join(filepath.Dir(config), "audit", pub),
		"--checkpoint", filepath.Join(filepath.Dir(config), "audit", strings.TrimSuffix(filepath.Base(config), ".yaml")+".checkpoint"))
	if code != 0 {
		t.Errorf("audit verify of %s ends with %d: %s%s", config, code, out, errs)
	}
	return strings.Join(strings.Fields(strings.SplitN(out, "root", 2)[0]), " ")
}
