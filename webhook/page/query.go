package page

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/audit"
	"github.com/evictgate/evictgate/webhook/audit/store"
)

// parameters are all that a URL may say; what one page does not use it hands on.
var parameters = []string{
	"since", "until", "namespace", "pod", "workload", "node", "evictor", "user", "policy", "budget",
	"outcome", "fate", "dry_runs", "episode", "tried", "after", "limit", "tz", "format",
}

const (
	// defaultSince is that of the command line, too.
	defaultSince = "24h"
	// defaultTried is how long ago the last try of a stuck pod may be, as for the command line.
	defaultTried = "15m"
	maxLimit     = 10_000
	pageLimit    = 100
	// maxParameter bounds what a URL says of one field, in bytes.
	maxParameter = 1000
)

// query is what the URL of a page says.
type query struct {
	values url.Values
	filter store.Filter
	page   store.Page
	// triedSince is from when on a blocked pod must have been tried to be stuck.
	triedSince time.Time
	zone       *time.Location
	format     string
}

// readQuery reads a URL's query; its error is a sentence for who wrote it.
func readQuery(raw string, now time.Time) (query, error) {
	q := query{zone: time.UTC}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, errors.New("the part of the URL after ? cannot be read")
	}
	q.values = values
	if err := checkParameters(values); err != nil {
		return q, err
	}
	if name := values.Get("tz"); name != "" {
		if q.zone, err = time.LoadLocation(name); err != nil {
			return q, fmt.Errorf("tz is %q, which is no time zone; expected a name such as Europe/Berlin or UTC", name)
		}
	}
	if q.format = values.Get("format"); !slices.Contains([]string{"", "html", "csv", "json"}, q.format) {
		return q, fmt.Errorf("format is %q; expected csv, json or html", q.format)
	}
	return q, cmp.Or(q.readFilter(now), q.readPage())
}

// checkParameters refuses what would be overlooked: a filter with a typing error would choose everything.
func checkParameters(values url.Values) error {
	for name, list := range values {
		switch {
		case !slices.Contains(parameters, name):
			return fmt.Errorf("%q is no parameter; expected some of %s", name, strings.Join(parameters, ", "))
		case len(list) > 1:
			return fmt.Errorf("%s is given %d times; give it once", name, len(list))
		case len(list[0]) > maxParameter:
			return fmt.Errorf("%s is longer than %d bytes", name, maxParameter)
		case !utf8.ValidString(list[0]):
			return fmt.Errorf("%s is not valid UTF-8", name)
		}
	}
	return nil
}

func (q *query) readFilter(now time.Time) error {
	get := func(name string) string { return strings.TrimSpace(q.values.Get(name)) }
	q.filter = store.Filter{
		Namespace: get("namespace"), Pod: get("pod"), Workload: get("workload"), Node: get("node"),
		Evictor: get("evictor"), User: get("user"), Policy: get("policy"), Budget: get("budget"),
		Outcome: policies.Outcome(get("outcome")), Fate: audit.Fate(get("fate")), Episode: get("episode"),
	}
	var errs [4]error
	q.filter.Since, errs[0] = q.time("since", cmp.Or(get("since"), defaultSince), now)
	q.filter.Until, errs[1] = q.time("until", cmp.Or(get("until"), "all"), now)
	q.triedSince, errs[2] = q.time("tried", cmp.Or(get("tried"), defaultTried), now)
	q.filter.DryRuns, errs[3] = readBool("dry_runs", get("dry_runs"))
	if err := cmp.Or(errs[:]...); err != nil {
		return err
	}
	f := q.filter
	switch {
	case !f.Until.IsZero() && !f.Since.Before(f.Until):
		return errors.New("until is not after since")
	case f.Outcome != "" && !slices.Contains(outcomes, f.Outcome):
		return fmt.Errorf("outcome is %q; expected one of %s", f.Outcome, list(outcomes))
	case f.Fate != "" && !slices.Contains(audit.Fates, f.Fate):
		return fmt.Errorf("fate is %q; expected one of %s", f.Fate, list(audit.Fates))
	}
	return nil
}

// outcomes in the order in which they are shown.
var outcomes = []policies.Outcome{policies.Admitted, policies.Delayed, policies.Denied, policies.Undecided}

func (q *query) readPage() error {
	q.page = store.Page{Limit: pageLimit, After: q.values.Get("after")}
	if q.format == "csv" || q.format == "json" {
		q.page.Limit = maxLimit
	}
	text := q.values.Get("limit")
	if text == "" {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxLimit {
		return fmt.Errorf("limit is %q; expected a number from 1 to %d", text, maxLimit)
	}
	q.page.Limit = n
	return nil
}

func readBool(name, text string) (bool, error) {
	switch text {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, fmt.Errorf("%s is %q; expected true or false", name, text)
}

// time reads a time as people write it, in the zone of the page; all is no bound.
func (q *query) time(name, text string, now time.Time) (time.Time, error) {
	if text == "all" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(layout, text, q.zone); err == nil {
			return at.UTC(), nil
		}
	}
	age, err := readAge(text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s is %q, which is no time; expected an age such as 90m or 7d, a time such as 2006-01-02T15:04:05Z, a date, or all", name, text)
	}
	return now.Add(-age).UTC(), nil
}

// maxAge keeps a time of long ago in what a database can hold.
const maxAge = 100 * 365 * 24 * time.Hour

// readAge reads a duration, days included.
func readAge(text string) (time.Duration, error) {
	var age time.Duration
	days, isDays := strings.CutSuffix(text, "d")
	if isDays {
		n, err := strconv.ParseFloat(days, 64)
		if err != nil || !(n >= 0 && n <= maxAge.Hours()/24) {
			return 0, fmt.Errorf("%q is no number of days", text)
		}
		return time.Duration(n * 24 * float64(time.Hour)), nil
	}
	age, err := time.ParseDuration(text)
	if err == nil && (age < 0 || age > maxAge) {
		err = fmt.Errorf("%q is out of range", text)
	}
	return age, err
}

func list[T ~string](values []T) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = string(v)
	}
	return strings.Join(texts, ", ")
}

// carried are the parameters that links from one page to another keep.
var carried = []string{"since", "until", "tz"}

// to is the address of another page over the same time, with the parameters given as name, value, …
func (q query) to(path string, pairs ...string) string {
	values := url.Values{}
	for _, name := range carried {
		if v := q.values.Get(name); v != "" {
			values.Set(name, v)
		}
	}
	return address(path, values, pairs)
}

// with is the address of the same page with some parameters changed; an empty value takes one away. A
// list begins at its first page again.
func (q query) with(path string, pairs ...string) string {
	values := url.Values{}
	for name, v := range q.values {
		if name != "after" && name != "format" && v[0] != "" {
			values.Set(name, v[0])
		}
	}
	return address(path, values, pairs)
}

func address(path string, values url.Values, pairs []string) string {
	for i := 0; i+1 < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
		if pairs[i+1] == "" {
			values.Del(pairs[i])
		}
	}
	if len(values) == 0 {
		return path
	}
	return path + "?" + values.Encode()
}

// decisionPath and episodePath are the stable addresses of one decision and one episode. The id of an
// episode may be namespace/name, whose slash stays readable.
func decisionPath(id string) string { return "/decisions/" + url.PathEscape(id) }

func episodePath(id string) string {
	parts := strings.Split(id, "/")
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	return "/episodes/" + strings.Join(parts, "/")
}
