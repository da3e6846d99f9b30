package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// ReadOnly asks over a connection what cannot change anything: each question is a
// transaction of its own, read only and rolled back.
type ReadOnly struct{ conn *pgx.Conn }

// NewReadOnly asks over conn, which stays the caller's.
func NewReadOnly(conn *pgx.Conn) *ReadOnly { return &ReadOnly{conn} }

// JSON returns the one document that a query gives.
func (s *ReadOnly) JSON(ctx context.Context, query string, args ...any) ([]byte, error) {
	var doc []byte
	err := s.do(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, query, append([]any{pgx.QueryExecModeExec}, args...)...).Scan(&doc)
	})
	return doc, err
}

// Rows runs statements and returns the first column of the last one's rows.
func (s *ReadOnly) Rows(ctx context.Context, statements ...string) ([]string, error) {
	var rows []string
	err := s.do(ctx, func(pgx.Tx) error {
		for _, sql := range statements {
			// The extended protocol takes one statement only: a second one that a text
			// brings along, a COMMIT say, is a syntax error.
			r := s.conn.PgConn().ExecParams(ctx, sql, nil, nil, nil, nil).Read()
			if r.Err != nil {
				return r.Err
			}
			rows = rows[:0]
			for _, row := range r.Rows {
				rows = append(rows, string(row[0]))
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

func (s *ReadOnly) do(ctx context.Context, ask func(pgx.Tx) error) error {
	tx, err := s.conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	return ask(tx)
}
