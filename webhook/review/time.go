package review

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// layouts are those of a time with a date; without a zone it is read in the zone in which times are shown.
var layouts = []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly}

// TimeForms says what ReadTime takes.
const TimeForms = "an age such as 90m or 7d, a time such as 2006-01-02T15:04:05Z or 2006-01-02 15:04:05, a date, or all"

// Clock is what times of people are read by.
type Clock struct {
	// Now is what ages count from.
	Now time.Time
	// Zone is where times are that name none.
	Zone *time.Location
}

// ReadTime reads a time as people write it, as TimeForms says; the zero time for all, and for an empty text. The error is
// a sentence without the name of what was read.
func (c Clock) ReadTime(text string) (time.Time, error) {
	if text == "" || text == "all" {
		return time.Time{}, nil
	}
	for _, layout := range layouts {
		if at, err := time.ParseInLocation(layout, text, c.Zone); err == nil {
			return at.UTC(), nil
		}
	}
	age, err := ReadAge(text)
	if err != nil {
		return time.Time{}, fmt.Errorf("invalid time %q: expected %s", text, TimeForms)
	}
	return c.Now.Add(-age).UTC(), nil
}

// maxAge keeps a time of long ago in what a database can hold.
const maxAge = 100 * 365 * day

const day = 24 * time.Hour

// ReadAge reads how long ago something is: a duration as Go writes it, or a number of days such as 7d.
func ReadAge(text string) (age time.Duration, err error) {
	if days, isDays := strings.CutSuffix(text, "d"); isDays {
		var n float64
		if n, err = strconv.ParseFloat(days, 64); err == nil && n <= maxAge.Hours()/24 {
			age = time.Duration(n * float64(day))
		} else {
			age = -1
		}
	} else {
		age, err = time.ParseDuration(text)
	}
	if err != nil || age < 0 || age > maxAge {
		return 0, fmt.Errorf("invalid age %q: expected a duration such as 90m or 7d, at most %d days", text, maxAge/day)
	}
	return age, nil
}
