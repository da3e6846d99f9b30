package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Session is a connection with nothing but standard types in its methods, so
// that others can name what they need of it as an interface of their own.
type Session struct{ conn *pgx.Conn }

// Open connects as Connect does.
func Open(ctx context.Context, t *Target, app string) (*Session, error) {
	conn, err := Connect(ctx, t, app)
	if err != nil {
		return nil, err
	}
	return &Session{conn}, nil
}

// Row runs a query of one row and reads it into dest.
func (s *Session) Row(ctx context.Context, query string, dest ...any) error {
	if err := s.conn.QueryRow(ctx, query).Scan(dest...); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}

// Close ends the session.
func (s *Session) Close(ctx context.Context) error { return s.conn.Close(ctx) }
