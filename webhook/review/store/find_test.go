package store

import (
	"testing"
	"time"
)

func TestFind(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
		s := open(t, Options{})
		add(t, s, records(
			made{id: "03fd39c3", pod: "web-0", uid: "0a11"},
			made{id: "03fe0000", pod: "web-1", uid: "0a12", at: time.Second},
			made{id: "7%_1", pod: "web-2", uid: "7777", at: 2 * time.Second},
			made{id: "7\U0010FFFE", pod: "web-2", uid: "7777", at: 3 * time.Second},
		)...)
		for prefix, want := range map[string][2][]string{
			"03fd":     {{"03fd39c3"}, nil},
			"03f":      {{"03fd39c3", "03fe0000"}, nil},
			"0":        {{"03fd39c3", "03fe0000"}, {"0a11", "0a12"}},
			"03fd39c3": {{"03fd39c3"}, nil},
			"0a12":     {nil, {"0a12"}},
			"7":        {{"7%_1", "7\U0010FFFE"}, {"7777"}},
			"%":        {nil, nil},
			"03FD":     {nil, nil},
		} {
			decisions, episodes, err := s.Find(t.Context(), prefix, 10)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, prefix, want, [2][]string{decisions, episodes})
		}
		decisions, _, err := s.Find(t.Context(), "0", 1)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "the first of more", []string{"03fd39c3"}, decisions)
	})
}
