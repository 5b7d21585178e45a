package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/evictgate/evictgate/webhook/record"
)

// postgres is a database that many processes share. Records are partitioned by day.
type postgres struct {
	pool *pgxpool.Pool
}

func openPostgres(ctx context.Context, url string, readOnly bool) (*postgres, error) {
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	if c.ConnConfig.RuntimeParams["application_name"] == "" {
		c.ConnConfig.RuntimeParams["application_name"] = "evictgate"
	}
	if readOnly {
		c.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	}
	// What a filter asks for may be common or rare: each statement is planned for its values. Lists end after
	// a page, which a hash or merge join would make only when it has read all.
	c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "SET plan_cache_mode = force_custom_plan; SET jit = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off")
		return err
	}
	if c.ConnConfig.ConnectTimeout == 0 {
		c.ConnConfig.ConnectTimeout = 10 * time.Second
	}
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connect to the store: %w", err)
	}
	return &postgres{pool}, nil
}

// kinds compares texts byte by byte, as SQLite does.
func (d *postgres) kinds() *strings.Replacer {
	return strings.NewReplacer("{text}", `TEXT COLLATE "C" NOT NULL`, "{time}", "TIMESTAMPTZ NOT NULL", "{time or null}", "TIMESTAMPTZ", "{bool}", "BOOLEAN NOT NULL",
		"{count}", "BIGINT NOT NULL", "{json}", "JSONB", "{clustered}", "", "{by day}", "PARTITION BY RANGE (at)")
}

func (d *postgres) minuteOf(column string) string {
	return "date_trunc('minute', " + column + ", 'UTC')"
}

func (d *postgres) read(ctx context.Context, f func(reader) error) error {
	o := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, d.pool, o, func(t pgx.Tx) error { return f(&postgresTx{t}) })
}

// writing is the lock that a transaction holds which writes. It is of this database alone.
const writing = 0x65766963 // "evic"

func (d *postgres) write(ctx context.Context, f func(writer) error) error {
	return orRefused(pgx.BeginFunc(ctx, d.pool, func(t pgx.Tx) error {
		if _, err := t.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(writing)); err != nil {
			return err
		}
		return f(&postgresTx{t})
	}))
}

// orRefused tells data that a database will never take from one that is away: the classes 22, data, and 54, limits, of
// Appendix A of PostgreSQL's manual.
func orRefused(err error) error {
	var answer *pgconn.PgError
	if errors.As(err, &answer) && (strings.HasPrefix(answer.Code, "22") || strings.HasPrefix(answer.Code, "54")) {
		return fmt.Errorf("%w: %w", record.ErrRefused, err)
	}
	return err
}

func (d *postgres) size(ctx context.Context) (size int64, err error) {
	return size, d.pool.QueryRow(ctx, `SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
		FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace`).Scan(&size)
}

func (d *postgres) grain() time.Duration { return day }

// tidy leaves the room to PostgreSQL's own vacuum, which uses it again.
func (d *postgres) tidy(ctx context.Context) error {
	_, err := d.pool.Exec(ctx, "ANALYZE records, record_names, episodes, episode_names, decisions_by_day, decisions_by_hour, decisions_by_minute")
	return err
}

func (d *postgres) close() error {
	d.pool.Close()
	return nil
}

type postgresTx struct{ tx pgx.Tx }

// earliest is before all records, and a time that PostgreSQL has: its first year is 4713 BC.
var earliest = time.Date(-4000, 1, 1, 0, 0, 0, 0, time.UTC)

// postgresArgs leaves no time that PostgreSQL does not have.
func postgresArgs(args []any) []any {
	for i, a := range args {
		if at, ok := a.(time.Time); ok && at.Before(earliest) {
			args[i] = earliest
		}
	}
	return args
}

func (t *postgresTx) query(ctx context.Context, each func(scan func(...any) error) error, sql string, args ...any) error {
	rows, err := t.tx.Query(ctx, sql, postgresArgs(args)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (t *postgresTx) in(column string, n int, list []string) (string, any) {
	return column + " = ANY(" + parameter(n) + ")", list
}

func (t *postgresTx) exec(ctx context.Context, sql string, args ...any) (int64, error) {
	tag, err := t.tx.Exec(ctx, sql, postgresArgs(args)...)
	return tag.RowsAffected(), err
}

func (t *postgresTx) insert(ctx context.Context, table string, columns []string, rows [][]any) error {
	if len(rows) == 0 {
		return nil
	}
	for _, row := range rows {
		postgresArgs(row)
	}
	_, err := t.tx.CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromRows(rows))
	return err
}

func (t *postgresTx) each(ctx context.Context, sql string, rows [][]any) error {
	if len(rows) == 0 {
		return nil
	}
	b := &pgx.Batch{}
	for _, row := range rows {
		b.Queue(sql, postgresArgs(row)...)
	}
	return t.tx.SendBatch(ctx, b).Close()
}

// partitioned are the tables that have a partition for each day.
var partitioned = []string{"records", "record_names"}

// partition is the name of that which begins at a time. The number of the day is unique for all times.
func partition(table string, at time.Time) string {
	days := floor(at, day).Unix() / int64(day/time.Second)
	return table + "_" + strings.ReplaceAll(strconv.FormatInt(days, 10), "-", "m")
}

// makeRoom makes the partitions of some times. They are attached, which lets others read meanwhile.
func (t *postgresTx) makeRoom(ctx context.Context, times []time.Time) error {
	days := map[time.Time]bool{}
	for _, at := range times {
		days[floor(at, day)] = true
	}
	for at := range days {
		for _, table := range partitioned {
			if err := t.makePartition(ctx, table, at); err != nil {
				return fmt.Errorf("make a partition of %s: %w", table, err)
			}
		}
	}
	return nil
}

func (t *postgresTx) makePartition(ctx context.Context, table string, at time.Time) error {
	name := partition(table, at)
	there := false
	if err := t.tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", name).Scan(&there); err != nil || there {
		return err
	}
	// Names and numbers of our own making, which no statement of this kind takes as parameters.
	for _, sql := range []string{
		fmt.Sprintf("CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS)", name, table),
		fmt.Sprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (to_timestamp(%d)) TO (to_timestamp(%d))", table, name, at.Unix(), at.Add(day).Unix()),
	} {
		if _, err := t.tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// dropBefore drops a day that is over as a whole, or else removes the rows of the day in which the time is.
func (t *postgresTx) dropBefore(ctx context.Context, before time.Time) (int, error) {
	days, err := t.days(ctx)
	if err != nil || len(days) == 0 {
		return 0, err
	}
	if oldest := slices.MinFunc(days, time.Time.Compare); !oldest.Add(day).After(before) {
		return t.dropDay(ctx, oldest)
	}
	return deleteBefore(ctx, t, before)
}

// days are the beginnings of the partitions.
func (t *postgresTx) days(ctx context.Context) ([]time.Time, error) {
	var days []time.Time
	err := t.query(ctx, func(scan func(...any) error) error {
		var name string
		if err := scan(&name); err != nil {
			return err
		}
		n, err := strconv.ParseInt(strings.ReplaceAll(strings.TrimPrefix(name, "records_"), "m", "-"), 10, 64)
		days = append(days, time.Unix(n*int64(day/time.Second), 0).UTC())
		return err
	}, "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'records'::regclass")
	return days, err
}

// dropDay gives back 1 at least: it has done something.
func (t *postgresTx) dropDay(ctx context.Context, at time.Time) (int, error) {
	records := partition("records", at)
	n, err := t.exec(ctx, "DELETE FROM decisions d USING "+records+" r WHERE r.id = d.id")
	if err != nil {
		return 0, err
	}
	for _, table := range partitioned {
		if _, err := t.exec(ctx, "DROP TABLE IF EXISTS "+partition(table, at)); err != nil {
			return 0, err
		}
	}
	return max(int(n), 1), nil
}
