package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"

	"github.com/latchkey-pos/latchkey/internal/supervisor"
)

// watched tells the supervisor of the process, if there is one, that the program serves, lives and ends.
type watched struct {
	supervisor.Supervisor
	log     *slog.Logger
	stop    context.CancelFunc
	stopped sync.WaitGroup
}

func newWatched(getenv func(string) string, log *slog.Logger) (*watched, error) {
	s, err := supervisor.New(getenv)
	return &watched{Supervisor: s, log: log, stop: func() {}}, err
}

// serves says that the program is ready, then that it lives, and once ctx ends that it stops, with what is under way going on. It lives
// as long as the listener for operators answers: a supervisor that only heard a timer would keep a daemon that hangs.
func (w *watched) serves(ctx context.Context, addrs []slog.Attr) {
	w.told(w.Ready())
	context.AfterFunc(ctx, func() { w.told(w.Stopping()) })
	admin := ""
	for _, a := range addrs {
		if a.Key == "admin" {
			admin = a.Value.String()
		}
	}
	// Not the context of the signal: while requests under way end, the supervisor still wants to hear of life.
	live, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.stop = stop
	client := &http.Client{Transport: &http.Transport{}}
	w.stopped.Go(func() {
		defer client.CloseIdleConnections()
		w.Watch(live, func(ctx context.Context) error { return answers(ctx, client, "http://"+admin+"/livez") }, w.told)
	})
}

// end has nothing more told.
func (w *watched) end() {
	w.stop()
	w.stopped.Wait()
}

// told logs that the supervisor could not be told: it acts on its own then.
func (w *watched) told(err error) {
	if err != nil {
		w.log.Error("the supervisor was not told", slog.String("error", err.Error()))
	}
}

// answers asks an endpoint.
func answers(ctx context.Context, client *http.Client, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<10))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", res.StatusCode)
	}
	return err
}
