package store

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("this is no store\n", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		url  string
		o    Options
		want string
	}{
		"another scheme":                {"mysql://u:secret@host/db", Options{}, `"mysql" is not a store; expected sqlite:FILE, sqlite::memory: or postgres://USER@HOST/DATABASE`},
		"no file":                       {"sqlite:", Options{}, "is not a store"},
		"no file that could be read":    {"sqlite:" + dir + "/none.db", Options{ReadOnly: true}, "there is no store " + dir + "/none.db yet: serve or import with --store sqlite:" + dir + "/none.db makes it"},
		"a directory that is not there": {"sqlite:" + dir + "/none/x.db", Options{}, "open " + dir + "/none/x.db: "},
		"a file of something else":      {"sqlite:" + text, Options{}, "file is not a database"},
		"a server that is not there":    {"postgres://u:secret@127.0.0.1:1/db", Options{}, "connect to the store: "},
	} {
		s, err := Open(t.Context(), c.url, c.o)
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v; want %s", name, err, c.want)
		}
	}
	if _, err := os.Stat(dir + "/none.db"); err == nil {
		t.Error("reading made a file")
	}
}

func TestAStoreForReading(t *testing.T) {
	for name, url := range map[string]string{"SQLite": "sqlite:" + filepath.Join(t.TempDir(), "a ?#%file.db"), "PostgreSQL": ""} {
		t.Run(name, func(t *testing.T) {
			if url == "" {
				url = newDatabase(t)
				if _, err := Open(t.Context(), url, Options{ReadOnly: true}); err == nil || !strings.Contains(err.Error(), "there is no store yet") {
					t.Errorf("an empty database: %v", err)
				}
			}
			s := opened(t, url, Options{})
			r := opened(t, url, Options{ReadOnly: true})
			add(t, s, made{id: "d1"}.record())
			equal(t, "what is read while another writes", []string{"d1"}, listed(t, r, Filter{}))
			if _, err := r.Add(t.Context(), records(made{})); err == nil || err.Error() != "the store is opened for reading only" {
				t.Errorf("Add: %v", err)
			}
		})
	}
}

func TestVersions(t *testing.T) {
	for name, url := range map[string]string{"SQLite": "sqlite:" + filepath.Join(t.TempDir(), "store.db"), "PostgreSQL": ""} {
		t.Run(name, func(t *testing.T) {
			if url == "" {
				url = newDatabase(t)
			}
			ctx := context.Background()
			s := opened(t, url, Options{})
			set := func(version string) {
				t.Helper()
				if err := s.write(ctx, func(w writer) error {
					return put(ctx, w, "meta", []string{"name", "value"}, 1, [][]any{{"version", version}})
				}); err != nil {
					t.Fatal(err)
				}
			}
			set("99")
			want := "the store has version 99, and this evictgate knows 2: use the evictgate that wrote it, or a newer one"
			for _, o := range []Options{{}, {ReadOnly: true}} {
				if _, err := Open(ctx, url, o); err == nil || err.Error() != want {
					t.Errorf("a newer store, %+v: %v", o, err)
				}
			}
			set("1")
			want = "the store has version 1, made before the first release, and this evictgate reads 2: give --store a new file or database; " +
				"`evictgate review import` fills it from the lines that serve printed"
			for _, o := range []Options{{}, {ReadOnly: true}} {
				if _, err := Open(ctx, url, o); err == nil || err.Error() != want {
					t.Errorf("an older store, %+v: %v", o, err)
				}
			}
			set("0")
			if _, err := Open(ctx, url, Options{ReadOnly: true}); err == nil || err.Error() != "there is no store yet: serve or import with this --store makes it" {
				t.Errorf("a store that was not made to its end, for reading: %v", err)
			}
			set("2")
			opened(t, url, Options{})
		})
	}
}
