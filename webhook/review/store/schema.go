package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// unreleased is the last version before the first release. Its stores were compressed, and are not read any more.
const unreleased = 1

// steps make the tables, each a version from unreleased on. A step that was released never changes, and what is
// new is a step of its own. docs/store.md tells the tables to who asks them.
var steps = []string{`
-- One row a decision: its id, and when it was, which finds the record.
CREATE TABLE decisions (
  id {text}, at {time},
  PRIMARY KEY (id)
) {clustered};

-- What records are found by, and the record itself.
CREATE TABLE records (
  at {time}, id {text},
  episode {text}, pod {text},
  namespace {text}, workload_kind {text}, workload_name {text}, node {text}, username {text}, evictor {text},
  outcome {text}, dry_run {bool}, refused {bool}, policies {text}, budgets {text},
  record {json} NOT NULL
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
  name {text}, at {time}, id {text},
  PRIMARY KEY (name, at, id)
) {clustered} {by day};

-- base is the episode without its loose answers; NULL when there are none. blocked_by is what refused last, a
-- line each: its kind and its name.
CREATE TABLE episodes (
  id {text},
  namespace {text}, pod {text}, pod_uid {text}, node {text}, workload_kind {text}, workload_name {text},
  fate {text}, first {time}, last {time}, first_refused {time or null}, blocked_by {text},
  episode {json} NOT NULL, base {json},
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
  id {text}, at {time},
  verb {text}, passage {text}, namespace {text}, pod {text}, review_uid {text}, loose {bool},
  answer {json} NOT NULL,
  PRIMARY KEY (id)
);
CREATE INDEX answers_at ON answers (at);
CREATE INDEX answers_review ON answers (review_uid) WHERE review_uid <> '';
CREATE INDEX answers_loose ON answers (pod) WHERE loose;

-- How many records there are of each minute, hour and day: no more rows than records. key is a digest of the columns
-- from namespace to budgets, which are too long for an index.
CREATE TABLE decisions_by_minute (
  minute {time}, hour {time}, outcome {text}, dry_run {bool}, n {count},
  PRIMARY KEY (minute, outcome, dry_run)
) {clustered};
CREATE TABLE decisions_by_hour (
  hour {time}, key {text},
  namespace {text}, workload_kind {text}, workload_name {text}, node {text}, username {text}, evictor {text},
  outcome {text}, dry_run {bool}, refused {bool}, policies {text}, budgets {text}, n {count},
  PRIMARY KEY (hour, key)
) {clustered};
CREATE INDEX decisions_by_hour_namespace ON decisions_by_hour (namespace, hour);
CREATE TABLE decisions_by_day (
  day {time}, key {text},
  namespace {text}, workload_kind {text}, workload_name {text}, node {text}, username {text}, evictor {text},
  outcome {text}, dry_run {bool}, refused {bool}, policies {text}, budgets {text}, n {count},
  PRIMARY KEY (day, key)
) {clustered};
CREATE INDEX decisions_by_day_namespace ON decisions_by_day (namespace, day);
`}

// makeMeta holds the version, at first of all.
const makeMeta = `CREATE TABLE IF NOT EXISTS meta (name {text}, value {text}, PRIMARY KEY (name))`

var errNoStore = errors.New("there is no store yet: serve or import with this --store makes it")

// latest is the version that this evictgate writes.
func latest() int { return unreleased + len(steps) }

func (s *Store) migrate(ctx context.Context) error {
	if s.readOnly {
		return s.db.read(ctx, func(r reader) error {
			version, err := readVersion(ctx, r)
			switch {
			case err != nil:
				return fmt.Errorf("%w (%w)", errNoStore, err)
			case version == 0:
				return errNoStore
			case version > unreleased && version < latest():
				return fmt.Errorf("the store has version %d, this evictgate reads %d: serve or import with this evictgate brings it up", version, latest())
			}
			return unknown(version)
		})
	}
	return s.db.write(ctx, func(w writer) error {
		if _, err := w.exec(ctx, s.db.kinds().Replace(makeMeta)); err != nil {
			return err
		}
		version, err := readVersion(ctx, w)
		if err := errors.Join(err, unknown(version)); err != nil || version == latest() {
			return err
		}
		done := max(version-unreleased, 0)
		for i, step := range steps[done:] {
			if err := s.step(ctx, w, step); err != nil {
				return fmt.Errorf("bring the store to version %d: %w", unreleased+done+i+1, err)
			}
		}
		return put(ctx, w, "meta", []string{"name", "value"}, 1, [][]any{{"version", strconv.Itoa(latest())}})
	})
}

// unknown is the error for a version that this evictgate cannot read; a new store has version 0.
func unknown(version int) error {
	switch {
	case version > latest():
		return fmt.Errorf("the store has version %d, and this evictgate knows %d: use the evictgate that wrote it, or a newer one", version, latest())
	case version > 0 && version <= unreleased:
		return fmt.Errorf("the store has version %d, made before the first release, and this evictgate reads %d: give --store a new file or database; "+
			"`evictgate review import` fills it from the lines that serve printed", version, latest())
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
