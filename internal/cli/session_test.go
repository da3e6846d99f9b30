package cli

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stellarescrow/escrowctl/internal/health"
)

// countedSession takes a second for each question.
type countedSession struct {
	asked, closed int
	busy          bool
}

func (s *countedSession) Row(context.Context, string, ...any) error {
	if s.busy {
		return errors.New("two questions at once")
	}
	s.busy = true
	time.Sleep(time.Second)
	s.busy = false
	s.asked++
	return nil
}

func (s *countedSession) Close(context.Context) error { s.closed++; return nil }

// TestSharedSession: however many checks ask at once, there is one session, it
// is asked one question at a time, and it ends when all are done.
func TestSharedSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var shared sharedSession
		var under countedSession
		opened := 0
		open := func(context.Context) (health.Session, error) {
			time.Sleep(time.Second)
			opened++
			return &under, nil
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				s, err := shared.get(t.Context(), open)
				if err == nil {
					err = errors.Join(s.Row(t.Context(), "select 1"), s.Close(t.Context()))
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if opened != 1 || under.asked != 3 || under.closed != 0 {
			t.Errorf("%d sessions, %d questions, %d times closed", opened, under.asked, under.closed)
		}
		shared.close()
		shared.close()
		if under.closed != 1 {
			t.Errorf("closed %d times", under.closed)
		}
		if _, err := shared.get(t.Context(), open); err != nil || opened != 2 {
			t.Errorf("after the end: %d sessions, %v", opened, err)
		}
	})
}

// Nobody waits longer than its own time allows: for the opening, for its turn.
func TestSharedSessionWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var shared sharedSession
		short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		go func() {
			_, _ = shared.get(t.Context(), func(context.Context) (health.Session, error) {
				time.Sleep(time.Second)
				return new(countedSession), nil
			})
		}()
		synctest.Wait()
		if _, err := shared.get(short, nil); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "the database does not answer") {
			t.Errorf("for the opening: %v", err)
		}
		s, err := shared.get(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = s.Row(t.Context(), "slow") }()
		synctest.Wait()
		short, cancel = context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if err := s.Row(short, "quick"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "busy with another question") {
			t.Errorf("for its turn: %v", err)
		}
		time.Sleep(time.Second)
	})
}

// A session that cannot be had is the same for all, until the next run.
func TestSharedSessionFails(t *testing.T) {
	var shared sharedSession
	down := errors.New("down")
	for range 2 {
		if _, err := shared.get(t.Context(), func(context.Context) (health.Session, error) { return nil, down }); !errors.Is(err, down) {
			t.Error(err)
		}
	}
	shared.close()
	if _, err := shared.get(t.Context(), func(context.Context) (health.Session, error) { return new(countedSession), nil }); err != nil {
		t.Error(err)
	}
}

// A session that opens when the run is over already is ended by who opened it: a
// watch would gather one each time.
func TestSharedSessionLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var shared sharedSession
		var under countedSession
		go func() {
			_, _ = shared.get(t.Context(), func(context.Context) (health.Session, error) {
				time.Sleep(time.Second)
				return &under, nil
			})
		}()
		synctest.Wait()
		shared.close()
		time.Sleep(2 * time.Second)
		if under.closed != 1 {
			t.Errorf("closed %d times", under.closed)
		}
	})
}
