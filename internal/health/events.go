package health

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// EventAge returns a function for IndexerOptions that asks the database for the
// age of the newest row of table, by its time in column. The table may be given
// with its schema.
func EventAge(connect func(ctx context.Context) (Session, error), table, column string) func(ctx context.Context) (time.Duration, bool, error) {
	query := fmt.Sprintf("SELECT extract(epoch FROM clock_timestamp() - max(%s))::float8 FROM %s", quoted(column), quoted(table))
	return func(ctx context.Context) (time.Duration, bool, error) {
		s, err := connect(ctx)
		if err != nil {
			return 0, false, err
		}
		defer goodbye(ctx, s)
		var age *float64
		if err := s.Row(ctx, query, &age); err != nil {
			return 0, false, fmt.Errorf("%s of %s: %w", column, table, err)
		}
		if age == nil {
			return 0, false, nil
		}
		return seconds(*age), true, nil
	}
}

// quoted is a name, with its schema or not, for a statement.
func quoted(name string) string {
	parts := strings.Split(name, ".")
	for i, part := range parts {
		parts[i] = `"` + strings.ReplaceAll(part, `"`, `""`) + `"`
	}
	return strings.Join(parts, ".")
}

// goodbye ends a session, also when ctx is over, so that the server is rid of it.
func goodbye(ctx context.Context, s Session) {
	const limit = 100 * time.Millisecond
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	_ = s.Close(ctx)
}
