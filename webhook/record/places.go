package record

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// ErrBusy says that there is no place, and none to wait at; or that none became free in time.
var ErrBusy = errors.New("too many at once")

// Places bounds how many do something at a time, and how many wait for their turn: one more is told at once.
type Places struct {
	free    chan struct{}
	waiting atomic.Int64
	most    int64
	patient time.Duration
}

// NewPlaces makes n places, for which up to waiting others wait, each as long as patient.
func NewPlaces(n, waiting int, patient time.Duration) *Places {
	return &Places{free: make(chan struct{}, n), most: int64(waiting), patient: patient}
}

// Enter takes a place, which leave gives back. Its error is ErrBusy, or that of the context.
func (p *Places) Enter(ctx context.Context) (leave func(), err error) {
	leave = func() { <-p.free }
	select {
	case p.free <- struct{}{}:
		return leave, nil
	default:
	}
	defer p.waiting.Add(-1)
	if p.waiting.Add(1) > p.most {
		return nil, ErrBusy
	}
	timer := time.NewTimer(p.patient)
	defer timer.Stop()
	select {
	case p.free <- struct{}{}:
		return leave, nil
	case <-timer.C:
		return nil, ErrBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
