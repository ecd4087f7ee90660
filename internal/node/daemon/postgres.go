package daemon

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/latchkey-pos/latchkey/internal/store/postgres"
)

// PostgresConfig says which PostgreSQL keeps what a service would keep in a file, and its audit log, of this instance and of others.
type PostgresConfig struct {
	Servers      []string `yaml:"servers"`       // HOST, HOST:PORT, or the folder of a Unix socket; of several, the one that takes writes; at least one
	Name         string   `yaml:"name"`          // of the database; default latchkey
	User         string   `yaml:"user"`          // default latchkey
	PasswordFile string   `yaml:"password-file"` // one line, mode 0600, read for each connection; absent: none is given
	Roots        string   `yaml:"roots"`         // PEM of who may certify the servers; may be absent for servers on this machine alone
	Schema       string   `yaml:"schema"`        // of the tables; default: one for each kind of service
	Standby      string   `yaml:"standby"`       // required: commits wait for one; accept-lag, for latchkey-decryptd alone: there may be some that they do not wait for; absent: neither
	Patience     Duration `yaml:"patience"`      // how long a connection or a commit may take; default 5s, 1s to 1m
}

// What the member standby may say.
const (
	standbyRequired = "required"
	standbyLag      = "accept-lag"
)

// Complete sets what a file says nothing about. It refuses an empty section, and one beside the name of a file.
func (p *PostgresConfig) Complete(file []byte) error {
	var members map[string]any
	if err := yaml.Unmarshal(file, &members); err != nil {
		return err
	}
	if _, named := members["postgres"]; named && p == nil {
		return errors.New("postgres: want a mapping with servers")
	}
	if _, both := members["database"]; both && p != nil {
		return errors.New("postgres: database names a file, which it takes the place of: remove one of them")
	}
	p.Defaults()
	return nil
}

// Defaults sets what is empty.
func (p *PostgresConfig) Defaults() {
	if p == nil {
		return
	}
	if p.Name == "" {
		p.Name = "latchkey"
	}
	if p.User == "" {
		p.User = "latchkey"
	}
	if p.Patience == 0 {
		p.Patience = Duration(5 * time.Second)
	}
}

// Check reports the first member that cannot be right.
func (p *PostgresConfig) Check(folder, instance string) error {
	if p == nil {
		return nil
	}
	o, err := p.Options(folder, instance)
	if err == nil {
		err = First(o.Check(), CheckDuration("patience", p.Patience, time.Second, time.Minute))
	}
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}

// RefuseLag reports a section that accepts standbys that lag, for services of which several act on what the database says: after a
// fail-over to such a standby the instance whose commits were lost stops, and the others would go on without what it has decided.
func (p *PostgresConfig) RefuseLag() error {
	if p == nil || p.Standby != standbyLag {
		return nil
	}
	return fmt.Errorf("postgres: standby: %s is for latchkey-decryptd alone, which can be fenced: a standby that lags has not heard of every revocation "+
		"and every key id that was given out; want %s, or no standby", standbyLag, standbyRequired)
}

// errNoPostgres is the error of what is only for a database that several services use.
var errNoPostgres = errors.New("the configuration has no section postgres: the service makes the tables of a file by itself")

// Options is how the database of the configuration is reached.
func (p *PostgresConfig) Options(folder, instance string) (postgres.Options, error) {
	if p == nil {
		return postgres.Options{}, errNoPostgres
	}
	o := postgres.Options{
		Database: p.Name, User: p.User, Schema: p.Schema, Instance: instance, Patience: time.Duration(p.Patience),
		RequireStandby: p.Standby == standbyRequired, AcceptLag: p.Standby == standbyLag,
	}
	if p.PasswordFile != "" {
		o.PasswordFile = Path(folder, p.PasswordFile)
	}
	if p.Roots != "" {
		o.RootsFile = Path(folder, p.Roots)
	}
	if p.Standby != "" && !o.RequireStandby && !o.AcceptLag {
		return o, fmt.Errorf("standby: %q: want %s or %s", p.Standby, standbyRequired, standbyLag)
	}
	for i, text := range p.Servers {
		server, err := parseServer(text)
		if err != nil {
			return o, fmt.Errorf("servers: number %d: %w", i+1, err)
		}
		o.Servers = append(o.Servers, server)
	}
	return o, nil
}

// parseServer reads HOST, HOST:PORT, or the folder of a socket, with :PORT when it is not that of the default.
func parseServer(text string) (postgres.Server, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil { // no port, or no way to write one
		return postgres.Server{Host: text}, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return postgres.Server{}, errors.New("want HOST:PORT, HOST, or the folder of a socket")
	}
	return postgres.Server{Host: filepath.Clean(host), Port: uint16(n)}, nil
}

// PostgresUser is who works on a database in place of its service; the zero value is the service.
type PostgresUser struct {
	Name         string
	PasswordFile string // empty: no password is given
}

// OptionsAs is Options for somebody.
func (p *PostgresConfig) OptionsAs(folder, instance string, as PostgresUser) (postgres.Options, error) {
	o, err := p.Options(folder, instance)
	if as.Name != "" {
		o.User, o.PasswordFile = as.Name, as.PasswordFile
	}
	return o, err
}

// SharedDatabase is a database that several services use.
type SharedDatabase interface {
	Promise() postgres.Promise
	Stats() postgres.Stats
}

// WatchPostgres says what a database promises, and how often it was lost.
func WatchPostgres(reg prometheus.Registerer, db SharedDatabase) error {
	count := func(name, help string, f func(postgres.Stats) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(f(db.Stats())) })
	}
	cs := []prometheus.Collector{
		count("latchkey_store_connections_total", "Connections to the database that was written over, one after the other.",
			func(s postgres.Stats) uint64 { return s.Connections }),
		count("latchkey_store_resolved_total", "Commits whose outcome was looked up, because the connection was lost or the standby did not confirm them.",
			func(s postgres.Stats) uint64 { return s.Resolved }),
		count("latchkey_store_statements_total", "Statements of transactions.", func(s postgres.Stats) uint64 { return s.Statements }),
	}
	for _, p := range []postgres.Promise{postgres.SingleServer, postgres.SynchronousStandby, postgres.AsynchronousStandby} {
		cs = append(cs, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "latchkey_store_promise", Help: "1 for what the database promises not to forget what it has acknowledged in.", ConstLabels: prometheus.Labels{"promise": p.String()},
		}, func() float64 {
			if db.Promise() == p {
				return 1
			}
			return 0
		}))
	}
	for _, c := range cs {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	return nil
}
