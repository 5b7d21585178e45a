package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// sqlite is a file, with one connection that writes and some that read beside it.
type sqlite struct {
	writer, readers *sql.DB
}

// memory is a store that ends with its process. It has one connection, since each has a memory of its own.
const memory = ":memory:"

func openSQLite(ctx context.Context, file string, readOnly bool, log *slog.Logger) (*sqlite, error) {
	if file == memory {
		db, err := sql.Open("sqlite", "file::memory:?_txlock=immediate")
		if err != nil {
			return nil, err
		}
		db.SetMaxOpenConns(1)
		return &sqlite{writer: db, readers: db}, nil
	}
	if readOnly {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no store %s yet: serve or import with --store sqlite:%s makes it", file, file)
		}
	}
	d := &sqlite{}
	var err error
	if !readOnly {
		if err := keepPrivate(file, log); err != nil {
			return nil, err
		}
		if d.writer, err = sql.Open("sqlite", dataSource(file, "rwc")); err != nil {
			return nil, err
		}
		d.writer.SetMaxOpenConns(1)
		if _, err := d.writer.ExecContext(ctx, newFile); err != nil { // before one reads
			return nil, errors.Join(fmt.Errorf("open %s: %w", file, err), d.close())
		}
	}
	if d.readers, err = sql.Open("sqlite", dataSource(file, "ro")); err != nil {
		return nil, errors.Join(err, d.close())
	}
	d.readers.SetMaxOpenConns(4)
	d.readers.SetMaxIdleConns(4)
	if err := d.readers.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", file, err), d.close())
	}
	return d, nil
}

// private is the mode of the files: they say who evicts what, and why it is refused. SQLite gives those beside the
// database the mode of the database.
const private = 0o600

// keepPrivate makes the file, so that nobody else can read it from the beginning on, and takes from everybody else what
// an earlier version, or a backup, has given them. What a group may do is left: somebody gave it that.
func keepPrivate(file string, log *slog.Logger) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, private)
	if err != nil {
		return fmt.Errorf("open %s: %w", file, err)
	}
	if err := f.Close(); err != nil {
		return err
	}
	for _, name := range []string{file, file + "-wal", file + "-shm"} {
		info, err := os.Stat(name)
		if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o007 == 0 {
			continue
		}
		if err := os.Chmod(name, private); err != nil {
			log.Warn("the store's file can be read by everybody on this machine; give it the mode 0600", "file", name, "mode", info.Mode().Perm().String(), "error", err.Error())
		}
	}
	return nil
}

// newFile is what a file gets before all else, and keeps: pages that hold some records each, and that it gives room back.
// The driver would sort these settings among those of dataSource.
const newFile = "PRAGMA page_size = 8192; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL"

// dataSource names the file and the connection's settings. A commit in the WAL outlives the end of the process without a
// sync.
func dataSource(file, mode string) string {
	pragmas := []string{"busy_timeout(20000)", "cache_size(-65536)", "temp_store(MEMORY)"}
	if mode != "ro" {
		pragmas = append(pragmas, "synchronous(NORMAL)", "wal_autocheckpoint(4096)", "journal_size_limit(67108864)")
	}
	v := url.Values{"_pragma": pragmas, "mode": {mode}}
	if mode != "ro" {
		v.Set("_txlock", "immediate")
	}
	return "file:" + (&url.URL{Path: file}).EscapedPath() + "?" + v.Encode()
}

func (d *sqlite) kinds() *strings.Replacer {
	return strings.NewReplacer("{text}", "TEXT NOT NULL", "{time}", "TEXT NOT NULL", "{time or null}", "TEXT", "{bool}", "BOOLEAN NOT NULL",
		"{count}", "INTEGER NOT NULL", "{json}", "TEXT", "{clustered}", "WITHOUT ROWID", "{by day}", "")
}

func (d *sqlite) minuteOf(column string) string {
	return fmt.Sprintf("substr(%s, 1, %d)", column, len(minuteForm))
}

func (d *sqlite) read(ctx context.Context, f func(reader) error) error {
	return d.transact(ctx, d.readers, true, func(t *sqliteTx) error { return f(t) })
}

func (d *sqlite) write(ctx context.Context, f func(writer) error) error {
	return d.transact(ctx, d.writer, false, func(t *sqliteTx) error { return f(t) })
}

func (d *sqlite) transact(ctx context.Context, db *sql.DB, readOnly bool, f func(*sqliteTx) error) error {
	t, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: readOnly})
	if err != nil {
		return err
	}
	if err := f(&sqliteTx{t}); err != nil {
		return errors.Join(err, rolledBack(t.Rollback()))
	}
	return t.Commit()
}

// rolledBack leaves out that the end of the context was quicker.
func rolledBack(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

func (d *sqlite) size(ctx context.Context) (int64, error) {
	var pages, free, bytes int64
	for pragma, to := range map[string]*int64{"page_count": &pages, "freelist_count": &free, "page_size": &bytes} {
		if err := d.readers.QueryRowContext(ctx, "PRAGMA "+pragma).Scan(to); err != nil {
			return 0, err
		}
	}
	return (pages - free) * bytes, nil
}

func (d *sqlite) grain() time.Duration { return time.Minute }

// freedAtOnce bounds the pages that are given back before another writer has its turn.
const freedAtOnce = 1000

func (d *sqlite) tidy(ctx context.Context) error {
	for {
		var free int64
		if err := d.writer.QueryRowContext(ctx, "PRAGMA freelist_count").Scan(&free); err != nil {
			return err
		}
		if free == 0 {
			break
		}
		if err := d.vacuum(ctx); err != nil {
			return err
		}
		var left int64
		if err := d.writer.QueryRowContext(ctx, "PRAGMA freelist_count").Scan(&left); err != nil || left >= free {
			return err // a file made without auto_vacuum keeps its room, and uses it again
		}
	}
	_, err := d.writer.ExecContext(ctx, "PRAGMA analysis_limit = 1000; PRAGMA optimize")
	return err
}

// vacuum frees a page a row: all rows must be asked for.
func (d *sqlite) vacuum(ctx context.Context) (err error) {
	rows, err := d.writer.QueryContext(ctx, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", freedAtOnce))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() { //nolint:revive // there is nothing in them
	}
	return rows.Err()
}

func (d *sqlite) close() error {
	var errs []error
	if d.readers != nil {
		errs = append(errs, d.readers.Close())
	}
	if d.writer != nil && d.writer != d.readers {
		errs = append(errs, d.writer.Close())
	}
	return errors.Join(errs...)
}

type sqliteTx struct{ tx *sql.Tx }

// sqliteArgs makes texts of times.
func sqliteArgs(args []any) []any {
	for i, a := range args {
		if at, ok := a.(time.Time); ok {
			args[i] = at.UTC().Format(timeForm)
		}
	}
	return args
}

func (t *sqliteTx) query(ctx context.Context, each func(scan func(...any) error) error, sql string, args ...any) (err error) {
	rows, err := t.tx.QueryContext(ctx, sql, sqliteArgs(args)...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (t *sqliteTx) in(column string, n int, list []string) (string, any) {
	text, err := json.Marshal(list)
	if err != nil {
		panic(err) // strings are always JSON
	}
	return column + " IN (SELECT value FROM json_each(" + parameter(n) + "))", string(text)
}

func (t *sqliteTx) exec(ctx context.Context, sql string, args ...any) (int64, error) {
	r, err := t.tx.ExecContext(ctx, sql, sqliteArgs(args)...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (t *sqliteTx) insert(ctx context.Context, table string, columns []string, rows [][]any) error {
	return t.each(ctx, insertStatement(table, columns), rows)
}

func (t *sqliteTx) each(ctx context.Context, sql string, rows [][]any) (err error) {
	if len(rows) == 0 {
		return nil
	}
	s, err := t.tx.PrepareContext(ctx, sql)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for _, row := range rows {
		if _, err := s.ExecContext(ctx, sqliteArgs(row)...); err != nil {
			return err
		}
	}
	return nil
}

func (t *sqliteTx) makeRoom(context.Context, []time.Time) error { return nil }

func (t *sqliteTx) dropBefore(ctx context.Context, before time.Time) (int, error) {
	return deleteBefore(ctx, t, before)
}
