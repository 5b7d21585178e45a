package store

import (
	"context"
	"strconv"
	"time"

	"github.com/evictgate/evictgate/webhook/record"
)

// maxShown bounds the lists of Completeness.
const maxShown = 100

// twin is the condition that an answer a is not the first one to name its decision: then one of them is no
// answer to it.
const twin = `EXISTS (SELECT 1 FROM answers b WHERE b.review_uid = a.review_uid AND b.review_uid <> '' AND b.verb = 'evict'
  AND (b.at < a.at OR (b.at = a.at AND b.id < a.id)))`

// Completeness compares the decisions of a time, dry runs included, with the API server's answers. A
// decision and its answer need not both be in the time: they differ by a few milliseconds.
func (s *Store) Completeness(ctx context.Context, since, until time.Time) (Completeness, error) {
	c := Completeness{Since: since, Until: until, WithoutAnswer: []Row{}, WithoutDecision: []record.Answer{}, Passages: map[record.Passage]int{}, NotSeen: []record.Answer{}}
	err := s.db.read(ctx, func(q reader) error {
		if err := s.compareDecisions(ctx, q, &c); err != nil {
			return err
		}
		if err := s.compareAnswers(ctx, q, &c); err != nil {
			return err
		}
		return s.passages(ctx, q, &c)
	})
	return c, err
}

func (s *Store) compareDecisions(ctx context.Context, q reader, c *Completeness) error {
	const unanswered = "NOT EXISTS (SELECT 1 FROM answers a WHERE a.review_uid = r.id AND a.review_uid <> '' AND a.verb = 'evict')"
	in := &condition{}
	in.between("r.at", c.Since, c.Until)
	if err := one(ctx, q, &c.Decisions, "SELECT count(*) FROM records r"+in.sql(), in.args); err != nil {
		return err
	}
	in.and(unanswered)
	if err := one(ctx, q, &c.MissingAnswers, "SELECT count(*) FROM records r"+in.sql(), in.args); err != nil {
		return err
	}
	c.Matched = c.Decisions - c.MissingAnswers
	return q.query(ctx, func(scan func(...any) error) error {
		_, r, err := scanRecord(scan)
		c.WithoutAnswer = append(c.WithoutAnswer, rowOf(&r))
		return err
	}, "SELECT r.at, r.id, r.record FROM records r"+in.sql()+" ORDER BY r.at DESC, r.id DESC LIMIT "+strconv.Itoa(maxShown), in.args...)
}

func (s *Store) compareAnswers(ctx context.Context, q reader, c *Completeness) error {
	in := &condition{}
	in.between("a.at", c.Since, c.Until)
	in.and("a.verb = 'evict' AND a.review_uid <> ''")
	if err := one(ctx, q, &c.Answers, "SELECT count(*) FROM answers a"+in.sql(), in.args); err != nil {
		return err
	}
	in.and("(NOT EXISTS (SELECT 1 FROM decisions d WHERE d.id = a.review_uid) OR " + twin + ")")
	if err := one(ctx, q, &c.MissingDecisions, "SELECT count(*) FROM answers a"+in.sql(), in.args); err != nil {
		return err
	}
	return s.someAnswers(ctx, q, &c.WithoutDecision, in)
}

func (s *Store) passages(ctx context.Context, q reader, c *Completeness) error {
	in := &condition{}
	in.between("a.at", c.Since, c.Until)
	in.and("a.verb = 'evict'")
	err := q.query(ctx, func(scan func(...any) error) error {
		var passage string
		var n int
		err := scan(&passage, &n)
		c.Passages[record.Passage(passage)] = n
		return err
	}, "SELECT a.passage, count(*) FROM answers a"+in.sql()+" GROUP BY a.passage", in.args...)
	if err != nil {
		return err
	}
	in.and("a.passage IN (?, ?)", string(record.FailedOpen), string(record.Unseen))
	return s.someAnswers(ctx, q, &c.NotSeen, in)
}

// one reads a number.
func one(ctx context.Context, q reader, n *int, sql string, args []any) error {
	return q.query(ctx, func(scan func(...any) error) error { return scan(n) }, sql, args...)
}

func (s *Store) someAnswers(ctx context.Context, q reader, to *[]record.Answer, in *condition) error {
	return s.eachAnswer(ctx, q, func(a record.Answer) error {
		*to = append(*to, a)
		return nil
	}, "SELECT a.answer FROM answers a"+in.sql()+" ORDER BY a.at DESC, a.id DESC LIMIT "+strconv.Itoa(maxShown), in.args...)
}
