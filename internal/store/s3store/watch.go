package s3store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// watched is an HTTP client whose requests fail when nothing moves for a while:
// no byte of the request is taken, no answer comes, no byte of the answer
// arrives. A request with a body must besides keep up a least rate, or a store
// that takes a byte a minute would hold a backup for ever. What the kernel has
// taken may still be on its way: its share of that time is added while the
// answer is awaited. A reader that is in no hurry is not at fault: while nobody
// reads an answer, no time runs.
//
// Limits on the whole request would not do: an object of a terabyte takes
// hours, a part over a thin line minutes.
type watched struct {
	next    aws.HTTPClient
	idle    time.Duration
	minRate int64 // bytes a second
}

// underway is the most that the kernels on both sides hold of a request, with
// Linux's default limits (tcp_wmem, tcp_rmem).
const underway = 8 << 20

// timeFor is how long n bytes may take.
func (w *watched) timeFor(n int64) time.Duration {
	return time.Duration(float64(n) / float64(w.minRate) * float64(time.Second))
}

// idleKey finds a limit of a request's own in its context.
type idleKey struct{}

// withIdle allows requests under ctx another time without progress.
func withIdle(ctx context.Context, limit time.Duration) context.Context {
	return context.WithValue(ctx, idleKey{}, limit)
}

// stalledError is what a watched request fails with. The SDK takes it for a
// broken connection and tries again.
type stalledError struct{ what string }

func (e *stalledError) Error() string { return e.what }

// Timeout marks the error as one worth another attempt.
func (e *stalledError) Timeout() bool { return true }

// Do implements aws.HTTPClient.
func (w *watched) Do(req *http.Request) (*http.Response, error) {
	idle := w.idle
	if own, ok := req.Context().Value(idleKey{}).(time.Duration); ok {
		idle = own
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	watch := &watch{ctx: ctx, cancel: cancel, idle: idle, wait: idle + w.timeFor(min(max(req.ContentLength, 0), underway))}
	watch.left.Store(req.ContentLength)
	watch.timer = time.AfterFunc(idle, func() { cancel(&stalledError{"no progress for " + watch.limit().Round(time.Millisecond).String()}) })
	if size := req.ContentLength; size > 0 {
		limit := watch.wait + w.timeFor(size)
		deadline := time.AfterFunc(limit, func() {
			cancel(&stalledError{fmt.Sprintf("%d bytes not taken within %s", size, limit.Round(time.Millisecond))})
		})
		defer deadline.Stop()
	}
	req = req.WithContext(ctx)
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = &watchedRequest{req.Body, watch}
		if again := req.GetBody; again != nil {
			req.GetBody = func() (io.ReadCloser, error) {
				body, err := again()
				return &watchedRequest{body, watch}, err
			}
		}
	}
	resp, err := w.next.Do(req)
	watch.timer.Stop()
	if err != nil {
		err = watch.explain(err)
		cancel(nil)
		return nil, err
	}
	resp.Body = &watchedAnswer{resp.Body, watch}
	return resp, nil
}

// watch ends one request when its timer does.
type watch struct {
	ctx    context.Context //nolint:containedctx // it lives as long as one request
	cancel context.CancelCauseFunc
	timer  *time.Timer
	idle   time.Duration // between two bytes
	wait   time.Duration // from the request's last byte to the answer's first
	left   atomic.Int64  // bytes of the request still to be taken
}

// limit is how long nothing may move now.
func (w *watch) limit() time.Duration {
	if w.left.Load() > 0 {
		return w.idle
	}
	return w.wait
}

// explain puts the reason of an end that the watch brought about in the place
// of the error that came of it.
func (w *watch) explain(err error) error {
	var stalled *stalledError
	if errors.As(context.Cause(w.ctx), &stalled) {
		return stalled
	}
	return err
}

// watchedRequest counts each piece of the request that is taken as progress.
type watchedRequest struct {
	io.ReadCloser
	watch *watch
}

func (r *watchedRequest) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.watch.left.Add(-int64(n))
	// Stop first: a timer that has fired, or was stopped at the end, stays so.
	if r.watch.timer.Stop() {
		r.watch.timer.Reset(r.watch.limit())
	}
	return n, err
}

// watchedAnswer lets time run only while somebody waits for the answer.
type watchedAnswer struct {
	io.ReadCloser
	watch *watch
}

func (r *watchedAnswer) Read(p []byte) (int, error) {
	r.watch.timer.Reset(r.watch.idle)
	n, err := r.ReadCloser.Read(p)
	r.watch.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.watch.explain(err)
	}
	return n, err
}

func (r *watchedAnswer) Close() error {
	r.watch.timer.Stop()
	err := r.ReadCloser.Close()
	r.watch.cancel(nil)
	return err
}
