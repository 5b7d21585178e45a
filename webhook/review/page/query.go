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

	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// parameters are all that a URL may say; what one page does not use it hands on.
var parameters = func() []string {
	var names []string
	for _, f := range review.Fields {
		names = append(names, f.Parameter())
	}
	return append(names, "tried", "after", "limit", "tz", "format")
}()

const (
	maxLimit  = 10_000
	pageLimit = 100
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
			return q, fmt.Errorf("tz: invalid time zone %q: expected a name such as Europe/Berlin or UTC", name)
		}
	}
	if q.format = values.Get("format"); !slices.Contains([]string{"", "html", "csv", "json"}, q.format) {
		return q, fmt.Errorf("invalid format %q: expected csv, json or html", q.format)
	}
	return q, cmp.Or(q.readFilter(now), q.readPage())
}

// checkParameters refuses what would be overlooked: a filter with a typing error would choose everything.
func checkParameters(values url.Values) error {
	for name, list := range values {
		switch {
		case !slices.Contains(parameters, name):
			return fmt.Errorf("unknown parameter %q: expected some of %s", name, strings.Join(parameters, ", "))
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

func (q *query) readFilter(now time.Time) (err error) {
	clock, asked := review.Clock{Now: now, Zone: q.zone}, review.Asked{}
	for _, f := range review.Fields {
		asked[f.Name] = cmp.Or(strings.TrimSpace(q.values.Get(f.Parameter())), f.Default)
	}
	if q.filter, err = asked.Filter(clock, parameterOf); err != nil {
		return err
	}
	if q.triedSince, err = clock.ReadTime(cmp.Or(strings.TrimSpace(q.values.Get("tried")), review.DefaultTried)); err != nil {
		return fmt.Errorf("tried: %w", err)
	}
	return nil
}

func parameterOf(name string) string { return strings.ReplaceAll(name, "-", "_") }

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
		return fmt.Errorf("invalid limit %q: expected a number from 1 to %d", text, maxLimit)
	}
	q.page.Limit = n
	return nil
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
