package store

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// modes are those of the files in a directory.
func modes(t *testing.T, dir string) map[string]fs.FileMode {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]fs.FileMode{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		m[e.Name()] = info.Mode().Perm()
	}
	return m
}

// TestTheFilesAreForTheirOwnerOnly: a new file is, with those that SQLite puts beside it; one that everybody could
// read is again; one that a group was given stays.
func TestTheFilesAreForTheirOwnerOnly(t *testing.T) {
	for name, c := range map[string]struct{ before, want fs.FileMode }{
		"new": {0, 0o600}, "of an earlier version": {0o644, 0o600}, "open to all": {0o666, 0o600}, "given to a group": {0o640, 0o640},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "store.db")
			if c.before != 0 {
				s := opened(t, "sqlite:"+file, Options{})
				add(t, s, made{id: "d0"}.record())
				for one := range modes(t, filepath.Dir(file)) { // the -wal and -shm of a process that was killed
					if err := os.Chmod(filepath.Join(filepath.Dir(file), one), c.before); err != nil {
						t.Fatal(err)
					}
				}
			}
			s := opened(t, "sqlite:"+file, Options{})
			add(t, s, made{id: "d1"}.record())
			want := map[string]fs.FileMode{"store.db": c.want, "store.db-wal": c.want, "store.db-shm": c.want}
			if diff := gocmp.Diff(want, modes(t, filepath.Dir(file))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
