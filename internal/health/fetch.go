package health

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/stellarescrow/escrowctl/internal/httpx"
)

// reply is what an HTTP service answered, with whatever status.
type reply struct {
	url  string
	code int
	body []byte
	ttfb time.Duration // from the start of the connection to the first byte
}

// answer is a reply or why there is none.
type answer struct {
	reply
	err error
}

// fetch asks an HTTP service with GET. An answer with another status than 200 is
// an answer too. Its errors are those of httpx.
func fetch(ctx context.Context, client *httpx.Client, address string) (reply, error) {
	a, err := client.Get(ctx, httpx.Request{URL: address})
	if e, ok := errors.AsType[*httpx.Error](err); ok && e.Kind == httpx.Refused {
		err = nil
	}
	return reply{url: address, code: a.Status, body: a.Body, ttfb: a.FirstByte}, err
}

// ask fetches an address in the background. What it returns waits for the
// answer, so that nothing is waited for that is not needed.
func ask(ctx context.Context, client *httpx.Client, address string) func() answer {
	done := make(chan answer, 1)
	go func() {
		r, err := fetch(ctx, client, address)
		done <- answer{r, err}
	}()
	return sync.OnceValue(func() answer { return <-done })
}

// isDown says whether a failed request means that the service does not answer,
// rather than that the question could not be put or that the answer is garbage.
func isDown(err error) bool {
	e, ok := errors.AsType[*httpx.Error](err)
	var lookup *net.DNSError
	return ok && e.Kind == httpx.NoAnswer && !errors.As(err, &lookup) && !errors.Is(err, context.Canceled)
}
