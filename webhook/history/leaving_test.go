package history

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/evictgate/evictgate/policies"
)

func TestAPodLeavesOnceItsEvictionIsAdmitted(t *testing.T) {
	for name, tt := range map[string]struct {
		needs  *policies.Needs
		code   int32
		dryRun bool
		after  time.Duration
		want   bool
	}{
		"admitted":                       {everything, 200, false, time.Second, true},
		"admitted, without a history":    {policies.None().Needs(), 200, false, time.Second, true},
		"refused":                        {everything, 429, false, time.Second, false},
		"a dry run":                      {everything, 200, true, time.Second, false},
		"a dry run, without a history":   {policies.None().Needs(), 200, true, time.Second, false},
		"long ago, so something held it": {everything, 200, false, leavingFor, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := New()
			in := input("web-1", "n1", "east", 0)
			in.Request.DryRun = tt.dryRun
			l.Decide(in, tt.needs, answer(tt.code))
			if got := l.Leaving("uid-web-1", noon.Add(tt.after)); got != tt.want {
				t.Errorf("leaving is %t, want %t", got, tt.want)
			}
			if l.Leaving("uid-web-2", noon) {
				t.Error("another pod leaves, too")
			}
		})
	}
	var none *Ledger
	if none.Leaving("uid", noon) {
		t.Error("nobody remembers")
	}
}

func TestTurns(t *testing.T) {
	l := New()
	done, err := l.Turn(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := l.Turn(ctx, "web"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second turn at once: %v", err)
	}
	if free, err := l.Turn(ctx, ""); err != nil {
		t.Errorf("a pod of no workload waits: %v", err)
	} else {
		free()
	}
	done()
	if done, err = l.Turn(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	done()
}
