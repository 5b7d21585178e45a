package report

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/evictgate/evictgate/webhook/review"
)

// clock writes times for people.
type clock struct{ review.Clock }

// at is a time in short: the date stands there when it is not today, and the year when it is not this one.
func (c clock) at(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	layout := "01-02 15:04:05"
	now := c.Now.In(c.Zone)
	switch t = t.In(c.Zone); {
	case t.Year() != now.Year():
		layout = "2006-01-02 15:04:05"
	case t.YearDay() == now.YearDay():
		layout = "15:04:05"
	}
	if c.Zone == time.UTC {
		layout += "Z"
	}
	return t.Format(layout)
}

// age is how long ago a time is.
func (c clock) age(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return duration.HumanDuration(max(0, c.Now.Sub(t)))
}

// length is how long something takes; whole minutes and hours without what is zero.
func length(d time.Duration) string {
	switch {
	case d > 0 && d%time.Hour == 0:
		return strings.TrimSuffix(d.String(), "0m0s")
	case d > 0 && d%time.Minute == 0:
		return strings.TrimSuffix(d.String(), "0s")
	}
	return duration.HumanDuration(d)
}

// ago is a time, and its age.
func (c clock) ago(t time.Time) string { return fmt.Sprintf("%s (%s ago)", c.at(t), c.age(t)) }

// between is a span of time.
func (c clock) between(first, last time.Time) string {
	if c.at(first) == c.at(last) {
		return "at " + c.at(first)
	}
	return fmt.Sprintf("from %s to %s", c.at(first), c.at(last))
}
