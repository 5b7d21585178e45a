package policies

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settle is how long a directory must be quiet before it is read again: an editor or a
	// ConfigMap update touches several files.
	settle = 200 * time.Millisecond
	// recheck reads the directories anyway, for file systems that send no events.
	recheck = 30 * time.Second
	// patience is how long a reload waits for quiet: a busy neighbour must not put it off for ever.
	patience = 5 * time.Second
)

// Directories is a source of policies that follows directories. A reload that fails keeps the last
// good revision.
type Directories struct {
	paths []string
	// OnReload is told of every new revision, of every failed reload, and when a failure is over; it
	// may be nil.
	OnReload func(*Set, error)

	current atomic.Pointer[Set]
	// failed is the text of the last failure, so that the same one is told once.
	failed string
}

// OpenDirectories compiles the policies of all paths as one set. The error is of type Problems when
// they were read but cannot be used.
func OpenDirectories(paths ...string) (*Directories, error) {
	set, err := Load(paths...)
	if err != nil {
		return nil, err
	}
	d := &Directories{paths: paths}
	d.current.Store(set)
	return d, nil
}

// Current is the revision that serves; never nil.
func (d *Directories) Current() *Set { return d.current.Load() }

// NeedLeaderElection is false: every replica follows its directories.
func (*Directories) NeedLeaderElection() bool { return false }

// Start follows the directories until ctx is done.
func (d *Directories) Start(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch policies: %w", err)
	}
	defer func() { _ = watcher.Close() }()
	d.watch(watcher)
	quiet := time.NewTimer(settle) // what changed since OpenDirectories was not watched
	defer quiet.Stop()
	var touched time.Time // when the first change since the last reload was seen
	changed := func() {
		if touched.IsZero() {
			touched = time.Now()
		}
		if time.Since(touched) < patience {
			quiet.Reset(settle)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-watcher.Events:
			changed()
		case err := <-watcher.Errors:
			if err != nil { // events were lost: read everything again
				changed()
			}
		case <-quiet.C:
			d.watch(watcher)
			d.reload()
			touched = time.Time{}
			quiet.Reset(recheck)
		}
	}
}

// watch adds every directory below the paths; what is watched already stays. A file is watched by its
// directory, since editors replace files.
func (d *Directories) watch(watcher *fsnotify.Watcher) {
	for _, root := range d.paths {
		_ = watcher.Add(filepath.Dir(filepath.Clean(root)))
		if resolved, err := filepath.EvalSymlinks(root); err == nil {
			root = resolved // WalkDir does not follow a link
		}
		_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				_ = watcher.Add(path) // recheck covers what cannot be watched
			}
			return nil
		})
	}
}

func (d *Directories) reload() {
	set, err := Load(d.paths...)
	switch {
	case err != nil:
		if err.Error() == d.failed {
			return
		}
		d.failed = err.Error()
	case set.Revision() == d.Current().Revision():
		if d.failed == "" {
			return
		}
		d.failed = ""
	default:
		d.failed = ""
		d.current.Store(set)
	}
	if d.OnReload != nil {
		d.OnReload(set, err)
	}
}
