package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

const (
	// recheck is how often a held leaf is looked at without any event: time
	// alone can make it good.
	recheck = time.Second
	// tellAgain is how long a leaf is held before a log line says why, and the
	// time between two such lines. An ordinary rotation says nothing.
	tellAgain = 10 * time.Second
)

var (
	errStopped    = errors.New("source of certificates stopped")
	errSuperseded = errors.New("a newer certificate is there")
)

// threshold is what every new certificate waits at, whatever its source, until
// the API server trusts it.
type threshold struct {
	trust  *trust
	settle time.Duration
	log    logr.Logger

	last []*x509.Certificate // passed last; only pass's one caller touches it

	mu     sync.Mutex
	reason error     // why the last leaf was held
	toldAt time.Time // when that was logged, or the hold began
}

// interrupts end a wait.
type interrupts struct{ stopped, superseded <-chan struct{} }

// pass returns nil when a certificate, leaf first, may be served.
func (h *threshold) pass(until interrupts, chain ...*x509.Certificate) error {
	for {
		pause := recheck
		err := h.trust.check(chain[0], chain[1:]...)
		if err == nil {
			due := h.due(chain[0])
			if pause = time.Until(due); pause <= 0 {
				h.last = chain
				return nil
			}
			err = fmt.Errorf("certificate or caBundle are new: waiting until %s for every API server to trust them", due.UTC().Format(time.RFC3339Nano))
		}
		h.hold(err)
		if err := h.wait(until, pause); err != nil {
			return err
		}
	}
}

// due is when a trusted leaf may be served. The first one of a process need
// not grow old itself, for nobody calls a replica which was not ready yet. And
// there is nothing to wait for when the one before is trusted no more: some
// issuers replace the CA in the caBundle instead of adding to it.
func (h *threshold) due(leaf *x509.Certificate) time.Time {
	since := h.trust.since()
	if h.last != nil {
		if h.trust.check(h.last[0], h.last[1:]...) != nil {
			return time.Time{}
		}
		if leaf.NotBefore.After(since) {
			since = leaf.NotBefore
		}
	}
	return since.Add(h.settle)
}

// wait returns nil when it is worth looking again.
func (h *threshold) wait(until interrupts, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-until.stopped:
		return errStopped
	case <-until.superseded:
		return errSuperseded
	case <-h.trust.changed:
	case <-timer.C:
	}
	return nil
}

func (h *threshold) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.toldAt = time.Now()
}

// hold remembers why there is no new leaf, and says so if it takes long.
func (h *threshold) hold(reason error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reason = reason
	if time.Since(h.toldAt) < tellAgain {
		return
	}
	h.toldAt = time.Now()
	h.log.Info("holding back a new serving certificate", "reason", reason.Error())
}

// held is why the last certificate had to wait; nil if none had to yet.
func (h *threshold) held() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reason
}
