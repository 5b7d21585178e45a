package evictionpolicy

import (
	"context"
	"net/http"
	"time"

	"k8s.io/client-go/rest"

	"github.com/evictgate/evictgate/policies/check"
	"github.com/evictgate/evictgate/policies/source"
)

// Followed are the cluster's EvictionPolicies: followed as a source, checked before they are stored, told of in their status.
type Followed struct {
	Watch  *Watch
	Status *Status
	// Validator checks them before they are stored.
	Validator http.Handler
}

// Follow makes them a source, and has their status told of what becomes of it, beside the teller. Watch and Status have to
// run; try says what is wrong with a set as it would be with one of them.
func Follow(config *rest.Config, s *source.Sources, try func(context.Context, source.Trial) (check.Findings, error), tell Teller) (*Followed, error) {
	watch, err := NewWatch(config, tell.Log, func(ctx context.Context, units []source.Unit) {
		s.Put(Source, units, nil)
		s.Settle(ctx)
	})
	if err != nil {
		return nil, err
	}
	status := NewStatus(watch, tell.Log)
	s.OnChange = func(c source.Change) {
		tell.Change(c)
		if c.Set != nil {
			status.Verdicts(c.Verdicts[Source], c.Set.Revision())
		}
	}
	validator := Validator{Log: tell.Log, Check: func(ctx context.Context, u source.Unit) (check.Findings, error) {
		trial, err := s.Trial(Source, u)
		if err != nil {
			return check.Findings{}, err
		}
		found, err := try(ctx, trial)
		if err == nil && len(found.Problems) == 0 { // it is stored next, and offered as it was tried
			s.Passed(trial)
		}
		return found, err
	}}
	return &Followed{Watch: watch, Status: status, Validator: validator.Handler()}, nil
}

// lastStatus is how long the status may take when the server ends.
const lastStatus = 5 * time.Second

// Flush writes the status for what was decided while the server shut down. It is for nil, too.
func (f *Followed) Flush(ctx context.Context) {
	if f == nil {
		return
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastStatus)
	defer cancel()
	f.Status.Flush(last)
}
