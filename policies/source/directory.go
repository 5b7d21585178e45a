package source

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/evictgate/evictgate/policies"
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

// Directory is a source of policies that follows one directory, or one file.
type Directory struct {
	path string
	put  func([]policies.File, error)
}

// OpenDirectory reads a directory's policies and gives them to put, and so does Start at every change.
func OpenDirectory(path string, put func([]policies.File, error)) (*Directory, error) {
	files, err := Read(path)
	if err != nil {
		return nil, err
	}
	put(files, nil)
	return &Directory{path: path, put: put}, nil
}

// Read reads a directory, or one file, that has at least one policy source. Its error is of type
// Problems when there is none.
func Read(path string) ([]policies.File, error) {
	files, err := ReadDir(path)
	if err == nil && len(files) == 0 {
		err = NoPolicy(path)
	}
	return files, err
}

// NoPolicy says that there is no policy in a path.
func NoPolicy(path string) policies.Problems {
	return policies.Problems{{File: path, Message: "no policy found: expected *.rego with a package eviction.<id>, or *.yaml with an EvictionPolicy"}}
}

// NeedLeaderElection is false: every replica follows its directories.
func (*Directory) NeedLeaderElection() bool { return false }

// Start follows the directory until ctx is done.
func (d *Directory) Start(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch policies: %w", err)
	}
	defer func() { _ = watcher.Close() }()
	d.watch(watcher)
	quiet := time.NewTimer(settle) // what changed since OpenDirectory was not watched
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
			d.put(Read(d.path))
			touched = time.Time{}
			quiet.Reset(recheck)
		}
	}
}

// watch adds every directory below the path; what is watched already stays. A file is watched by its
// directory, since editors replace files.
func (d *Directory) watch(watcher *fsnotify.Watcher) {
	root := d.path
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
