// Command serve runs one of the platform's stand-ins in a container of the
// sandbox:
//
//	serve indexer|api|horizon|grafana [ADDRESS]
//	serve get URL         ends with 0 if the answer is 200: for healthchecks
//
// STANDIN holds a JSON object of settings and faults to start with. The keys
// and the password come from API_KEYS, ADMIN_KEYS and GRAFANA_ADMIN_PASSWORD,
// and are read at the start only, as the real services do.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/stellarescrow/escrowctl/internal/testenv/platform"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("want indexer, api, horizon, grafana or get")
	}
	if args[0] == "get" && len(args) == 2 {
		return get(ctx, args[1])
	}
	handler, address, err := role(args[0])
	if err != nil {
		return err
	}
	if len(args) > 1 {
		address = args[1]
	}
	if text := os.Getenv("STANDIN"); text != "" {
		if err := handler.Merge([]byte(text)); err != nil {
			return fmt.Errorf("STANDIN: %w", err)
		}
	}
	server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	log.Printf("%s on %s", args[0], address)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// standIn is a service that can be set.
type standIn interface {
	http.Handler
	Merge(object []byte) error
}

func role(name string) (standIn, string, error) {
	switch name {
	case "indexer":
		return platform.NewIndexer(time.Now), ":3000", nil
	case "api":
		return platform.NewAPI(os.Getenv("API_KEYS"), os.Getenv("ADMIN_KEYS")), ":4000", nil
	case "horizon":
		return platform.NewHorizon(time.Now), ":8000", nil
	case "grafana":
		g, err := platform.NewGrafana(os.Getenv("GRAFANA_ADMIN_PASSWORD"), os.Getenv("GRAFANA_DATA"))
		return g, ":3000", err
	default:
		return nil, "", fmt.Errorf("no role %q: want indexer, api, horizon or grafana", name)
	}
}

func get(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}
