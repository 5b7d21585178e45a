package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// steps make the tables. A store has done as many as its version says; a step that was released never
// changes, and what is new is a step of its own.
var steps = []string{`
-- One row a decision: its id, and when it was, which finds the record.
CREATE TABLE decisions (
  id {text}, at {int},
  PRIMARY KEY (id)
) {clustered};

-- What records are found by, and the record as JSON, compressed. Times are microseconds since 1970.
CREATE TABLE records (
  at {int}, id {text},
  episode {text}, namespace {text}, pod {text}, node {text}, workload {text}, workload_name {text},
  username {text}, evictor {text}, outcome {text}, dry_run {int},
  body {bytes}
) {by day};
CREATE INDEX records_at ON records (at);
CREATE INDEX records_episode ON records (episode, at);
CREATE INDEX records_namespace ON records (namespace, at);
CREATE INDEX records_pod ON records (pod, at);
CREATE INDEX records_node ON records (node, at);
CREATE INDEX records_workload ON records (workload_name, at);
CREATE INDEX records_username ON records (username, at);
CREATE INDEX records_evictor ON records (evictor, at);
CREATE INDEX records_outcome ON records (outcome, at);

-- The policies and budgets of a record: policy/NAME, budget/NAME.
CREATE TABLE record_names (
  name {text}, at {int}, id {text},
  PRIMARY KEY (name, at, id)
) {clustered} {by day};

-- body is the episode as JSON, compressed. base is the same without its loose answers; NULL when there are
-- none. blocked_by is what refused last, a line each.
CREATE TABLE episodes (
  id {text},
  namespace {text}, pod {text}, pod_uid {text}, node {text}, workload {text}, workload_name {text},
  fate {text}, first {int}, last {int}, first_refused {int}, blocked_by {text},
  body {bytes}, base {bytes},
  PRIMARY KEY (id)
);
CREATE INDEX episodes_last ON episodes (last);
CREATE INDEX episodes_fate ON episodes (fate, last);
CREATE INDEX episodes_sums ON episodes (fate, blocked_by, last, first, id);
CREATE INDEX episodes_namespace ON episodes (namespace, last);
CREATE INDEX episodes_pod ON episodes (pod);
CREATE INDEX episodes_node ON episodes (node);
CREATE INDEX episodes_workload ON episodes (workload_name);

-- What any attempt of an episode had: evictor/…, user/…, policy/…, budget/…, outcome/….
CREATE TABLE episode_names (
  name {text}, episode {text},
  PRIMARY KEY (name, episode)
) {clustered};
CREATE INDEX episode_names_episode ON episode_names (episode);

-- Answers of the API server. A loose one does not say which episode it belongs to.
CREATE TABLE answers (
  id {text}, at {int},
  verb {text}, passage {text}, namespace {text}, pod {text}, review_uid {text}, loose {int},
  body {bytes},
  PRIMARY KEY (id)
);
CREATE INDEX answers_at ON answers (at);
CREATE INDEX answers_review ON answers (review_uid) WHERE review_uid <> '';
CREATE INDEX answers_loose ON answers (pod) WHERE loose = 1;

-- Decisions counted by hour: see hours.go.
CREATE TABLE hours (
  at {int}, part {int}, body {bytes},
  PRIMARY KEY (at, part)
);
`}

// makeMeta holds the version, at first of all.
const makeMeta = `CREATE TABLE IF NOT EXISTS meta (name {text}, value {text}, PRIMARY KEY (name))`

var errNoStore = errors.New("there is no store yet: serve or import with this --store makes it")

func (s *Store) migrate(ctx context.Context) error {
	if s.readOnly {
		return s.db.read(ctx, func(r reader) error {
			version, err := readVersion(ctx, r)
			switch {
			case err != nil:
				return fmt.Errorf("%w (%w)", errNoStore, err)
			case version < len(steps):
				return fmt.Errorf("the store has version %d, this evictgate reads %d: serve or import with this evictgate brings it up", version, len(steps))
			}
			return newer(version)
		})
	}
	return s.db.write(ctx, func(w writer) error {
		if _, err := w.exec(ctx, s.db.kinds().Replace(makeMeta)); err != nil {
			return err
		}
		version, err := readVersion(ctx, w)
		if err := errors.Join(err, newer(version)); err != nil || version == len(steps) {
			return err
		}
		for i, step := range steps[version:] {
			if err := s.step(ctx, w, step); err != nil {
				return fmt.Errorf("bring the store to version %d: %w", version+i+1, err)
			}
		}
		return w.put(ctx, "meta", []string{"name", "value"}, 1, [][]any{{"version", strconv.Itoa(len(steps))}})
	})
}

func newer(version int) error {
	if version > len(steps) {
		return fmt.Errorf("the store has version %d, and this evictgate knows %d: use the evictgate that wrote it, or a newer one", version, len(steps))
	}
	return nil
}

func readVersion(ctx context.Context, r reader) (int, error) {
	version := 0
	err := r.query(ctx, func(scan func(...any) error) error {
		var text string
		if err := scan(&text); err != nil {
			return err
		}
		var err error
		version, err = strconv.Atoi(text)
		return err
	}, "SELECT value FROM meta WHERE name = 'version'")
	return version, err
}

func (s *Store) step(ctx context.Context, w writer, step string) error {
	for statement := range strings.SplitSeq(s.db.kinds().Replace(step), ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := w.exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}
