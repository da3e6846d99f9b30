package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/stellarescrow/escrowctl/internal/keys"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// grafanaService is made anew before others that hold the password.
const grafanaService = "grafana"

// grafanaServer is Grafana, whose API its users log in to with their password
// (HTTP basic authentication).
type grafanaServer struct {
	url, user string
	client    *http.Client
}

// Check asks who is logged in. Grafana refuses a user whose password was wrong
// five times in five minutes, the right one too.
func (s *grafanaServer) Check(ctx context.Context, password string) error {
	var who struct {
		Login string `json:"login"`
	}
	err := s.ask(ctx, http.MethodGet, "/api/user", s.user, password, nil, &who)
	if err == nil && who.Login == "" {
		err = fmt.Errorf("%s/api/user: the answer names no user: is that Grafana?", s.url)
	}
	return err
}

// CheckWrong comes as somebody who is not there, which does not count against
// the user.
func (s *grafanaServer) CheckWrong(ctx context.Context) error {
	return s.ask(ctx, http.MethodGet, "/api/user", "escrowctl-"+rand.Text(), rand.Text(), nil, nil)
}

// Add changes the user's password: it has one.
func (s *grafanaServer) Add(ctx context.Context, with, fresh string) error {
	return s.ask(ctx, http.MethodPut, "/api/user/password", s.user, with,
		map[string]string{"oldPassword": with, "newPassword": fresh, "confirmNew": fresh}, nil)
}

// Drop has nothing to do.
func (s *grafanaServer) Drop(context.Context, string, string) error { return nil }

// ask calls the API and reads its answer into out.
func (s *grafanaServer) ask(ctx context.Context, method, path, user, password string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, body)
	if err != nil {
		return fmt.Errorf("%s is no URL: set grafana.url", s.url)
	}
	req.SetBasicAuth(user, password)
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		var where *url.Error
		if errors.As(err, &where) {
			err = where.Err // its URL stands here
		}
		return fmt.Errorf("%s%s: %w", s.url, path, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("%s%s: %w", s.url, path, err)
	}
	if resp.StatusCode != http.StatusOK {
		var said struct {
			Message string `json:"message"`
		}
		_ = json.Unmarshal(answer, &said) // "" where a proxy answers
		err := fmt.Errorf("%s%s: it answers %d %s", s.url, path, resp.StatusCode, ui.Clean(said.Message))
		if resp.StatusCode == http.StatusUnauthorized {
			return fmt.Errorf("%w: %w", keys.ErrRefused, err)
		}
		return err
	}
	if out != nil && json.Unmarshal(answer, out) != nil {
		return fmt.Errorf("%s%s: the answer is no JSON: is that Grafana?", s.url, path)
	}
	return nil
}
