package postgres

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Server is where a database may be. Only one of several takes writes at a time.
type Server struct {
	Host string // name, address, or the folder of a Unix socket, which begins with /
	Port uint16 // 0: 5432
}

// local reports whether what is said to the server stays on this machine.
func (s Server) local() bool {
	if filepath.IsAbs(s.Host) || s.Host == "localhost" {
		return true
	}
	ip := net.ParseIP(s.Host)
	return ip != nil && ip.IsLoopback()
}

// String returns HOST:PORT, or the path of the socket.
func (s Server) String() string {
	port := strconv.Itoa(int(s.port()))
	if filepath.IsAbs(s.Host) {
		return filepath.Join(s.Host, ".s.PGSQL."+port)
	}
	return net.JoinHostPort(s.Host, port)
}

func (s Server) port() uint16 {
	if s.Port == 0 {
		return 5432
	}
	return s.Port
}

// Options says how to reach a database and what is asked of it.
type Options struct {
	Servers      []Server // at least one; the next one is tried when one fails or takes no writes
	Database     string   // required
	User         string   // required
	PasswordFile string   // file with the password alone, mode 0600, read for each connection; empty: none is given
	RootsFile    string   // PEM of who may certify the server; empty: no TLS, for servers of this machine alone
	Schema       string   // of the tables; empty: that of their kind, latchkey for claims

	// Instance names this service and its audit log; required to open. No two processes have one name.
	Instance string
	// Kept is a checkpoint of the audit log of the instance: a database that does not contain it is ErrBehind; nil: none.
	Kept []byte
	// RequireStandby refuses a server that does not wait, at each commit, until a standby has it.
	RequireStandby bool
	// AcceptLag takes a server with standbys that it does not wait for. What they lack is forgotten when one takes its place.
	AcceptLag bool
	// Fencing takes a database that has another history than before, which may lack claims: a fence comes next. Claims only.
	Fencing bool
	// Patience is how long a connection, a statement or a commit may take; 0: 5 s. A batch waits for others half as long.
	Patience time.Duration
	Batch    func(calls int) // called after each commit with the calls that shared it, by one goroutine; nil: not called
	Logger   *slog.Logger    // of connections and promises; nil: nothing is logged

	tables *Tables // nil: those of claims
}

var (
	schemaForm   = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)
	instanceForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
)

// Check reports the first option that cannot be right. It touches no file.
func (o Options) Check() error {
	if len(o.Servers) == 0 {
		return errors.New("servers: name at least one")
	}
	for _, s := range o.Servers {
		if s.Host == "" || strings.ContainsAny(s.Host, ", \t\r\n") {
			return fmt.Errorf("servers: %q: want the name of a host, an address, or the folder of a socket", s.Host)
		}
		if o.RootsFile == "" && !s.local() {
			return fmt.Errorf("servers: %s is another machine: name the roots that its certificate is to have", s.Host)
		}
	}
	switch {
	case o.Database == "":
		return errors.New("name: want the database")
	case o.User == "":
		return errors.New("user: want the one to log in as")
	case !schemaForm.MatchString(o.schema()):
		return fmt.Errorf("schema: %q: want [a-z_][a-z0-9_]*, 63 at most", o.Schema)
	case o.RequireStandby && o.AcceptLag:
		return errors.New("standby: a server that must wait for its standby has no lag to accept")
	case o.Patience < 0:
		return fmt.Errorf("patience: %v: want more than nothing", o.Patience)
	}
	return nil
}

// check is Check for what works under the name of an instance.
func (o Options) check() error {
	if err := o.Check(); err != nil {
		return err
	}
	if !instanceForm.MatchString(o.Instance) {
		return fmt.Errorf("instance: %q: want [A-Za-z0-9_-]{1,64}", o.Instance)
	}
	return nil
}

func (o Options) schema() string { return cmp.Or(o.Schema, o.kind().Schema) }

func (o Options) patience() time.Duration {
	if o.Patience == 0 {
		return 5 * time.Second
	}
	return o.Patience
}

func (o Options) logger() *slog.Logger {
	if o.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Logger
}

// config describes connections to one server. Nothing of it comes from the environment or from the home of the user.
func (o Options) config(s Server) (*pgx.ConnConfig, error) {
	password, err := o.password()
	if err != nil {
		return nil, err
	}
	mode := "disable"
	if o.RootsFile != "" && !filepath.IsAbs(s.Host) {
		mode = "verify-full"
	}
	c, err := pgx.ParseConfig(keywords(
		"host", s.Host, "port", strconv.Itoa(int(s.port())), "dbname", o.Database, "user", o.User, "password", "-", "passfile", "/dev/null",
		"sslmode", mode, "sslrootcert", o.RootsFile, "sslcert", "", "sslkey", "", "sslnegotiation", "postgres",
		"target_session_attrs", "any", "connect_timeout", "0",
	))
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrUnavailable, err)
	}
	c.Password, c.Fallbacks = password, nil
	if c.TLSConfig != nil {
		c.TLSConfig.MinVersion = tls.VersionTLS13
	}
	c.ConnectTimeout = o.patience()
	c.RuntimeParams = map[string]string{
		"application_name": "latchkey " + o.Instance, "search_path": o.schema(), "client_encoding": "UTF8", "timezone": "UTC",
		"statement_timeout": milliseconds(o.patience()), "lock_timeout": milliseconds(o.patience() / 2),
		// A service that is frozen or cut off keeps nobody waiting for longer than this.
		"idle_in_transaction_session_timeout": milliseconds(o.patience()), "client_connection_check_interval": "1000",
		"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3",
	}
	return c, nil
}

func milliseconds(d time.Duration) string {
	return strconv.FormatInt(max(d.Milliseconds(), 1), 10)
}

// keywords writes a connection string of names and values.
func keywords(pairs ...string) string {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		value := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(pairs[i+1])
		fmt.Fprintf(&b, "%s='%s' ", pairs[i], value)
	}
	return b.String()
}

// password reads the file anew, so that a password can be changed while services are running.
func (o Options) password() (string, error) {
	if o.PasswordFile == "" {
		return "", nil
	}
	info, err := os.Stat(o.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("%w: password-file: %v", ErrUnavailable, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%w: password-file: %s can be read by others: want mode 0600", ErrUnavailable, o.PasswordFile)
	}
	b, err := os.ReadFile(o.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("%w: password-file: %v", ErrUnavailable, err)
	}
	defer clear(b)
	password := string(bytes.TrimRight(b, "\r\n")) // the driver wants a string, which cannot be wiped
	if password == "" || strings.ContainsAny(password, "\r\n\x00") {
		return "", fmt.Errorf("%w: password-file: want one line", ErrUnavailable)
	}
	return password, nil
}
