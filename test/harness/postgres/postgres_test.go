package postgres

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestWhatIsCommittedOutlivesTheServer(t *testing.T) {
	s := ForTest(t)
	ctx := t.Context()
	url, err := s.CreateDatabase(ctx, `a "name"`)
	if err != nil {
		t.Fatal(err)
	}
	rows := func() (n int) {
		t.Helper()
		c, err := pgx.Connect(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close(ctx) }()
		if err := c.QueryRow(ctx, "SELECT count(*) FROM kept").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(ctx, "CREATE TABLE kept AS SELECT 1"); err != nil {
		t.Fatal(err)
	}
	_ = c.Close(ctx)
	for name, again := range map[string]func(context.Context) error{
		"restarted": s.Restart,
		"killed": func(ctx context.Context) error {
			if err := s.Kill(); err != nil {
				return err
			}
			return s.Restart(ctx)
		},
	} {
		if err := again(ctx); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if n := rows(); n != 1 {
			t.Errorf("%s: %d rows", name, n)
		}
	}
}
