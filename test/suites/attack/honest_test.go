package attack

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// honestRate is how many ordinary reviews are sent a second.
const honestRate = 40

// honest asks as the API server does, whatever else goes on: at a steady rate, also while earlier reviews wait.
type honest struct {
	subject *subject
	client  *http.Client
	asked   []question
	serial  atomic.Int64

	mu       sync.Mutex
	answered []string // ids
	wrong    []string
}

// question is a review and the answer that it must have.
type question struct {
	review
	want answer
}

// sampleQuestions are about pods of the sample cluster, whose answers are the same each time.
func sampleQuestions() (list []question) {
	for pod, want := range map[string]answer{
		"mail-cleanup":         {Allowed: true},
		"no-such-pod":          {Allowed: true},
		"cart-7d4b9c6f5-5hj2n": {Code: http.StatusTooManyRequests},
		"api-7d4b9c6f5-4c8tr":  {Code: http.StatusTooManyRequests},
		"web-7d4b9c6f5-2xkqv":  {Allowed: true},
	} {
		list = append(list, question{review{Namespace: "shop", Pod: pod, User: "admin", Groups: []string{"system:masters"}}, want})
	}
	return list
}

// befriend begins honest reviews of a subject, and wants a right answer to each question before any attack.
func befriend(s *subject, asked []question) *honest {
	s.Helper()
	h := &honest{subject: s, client: s.client(), asked: asked}
	for range 2 * len(asked) {
		h.ask(s.Context())
	}
	if len(h.wrong) > 0 {
		s.Fatalf("wrong answers before any attack: %s", h.wrong[0])
	}
	return h
}

// ask sends the next review and returns how long its answer took.
func (h *honest) ask(ctx context.Context) time.Duration {
	n := h.serial.Add(1)
	q := h.asked[int(n)%len(h.asked)]
	q.UID = fmt.Sprintf("honest-%p-%d", h, n)
	began := time.Now()
	a, err := post(ctx, h.client, h.subject.url(), q.review)
	took := time.Since(began)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err != nil:
		h.wrong = append(h.wrong, fmt.Sprintf("%s: %v after %s", q.Pod, err, took.Round(time.Millisecond)))
	case a.Undecided || a.Allowed != q.want.Allowed || !a.Allowed && a.Code != q.want.Code:
		h.wrong = append(h.wrong, fmt.Sprintf("%s: %s, expected %s", q.Pod, a, q.want))
		h.answered = append(h.answered, q.UID)
	default:
		h.answered = append(h.answered, q.UID)
	}
	return took
}

// post sends a review, and reads the answer.
func post(ctx context.Context, client *http.Client, url string, r review) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(r.body()))
	if err != nil {
		return answer{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	if response.StatusCode != http.StatusOK {
		return answer{}, fmt.Errorf("answered %s: %.200q", response.Status, raw)
	}
	return readAnswer(r.UID, raw)
}

// during asks for a while, and returns how long answers took, counted from when each review was due.
func (h *honest) during(window time.Duration) []time.Duration {
	var asking sync.WaitGroup
	tick := time.NewTicker(time.Second / honestRate)
	defer tick.Stop()
	end := time.After(window)
	var mu sync.Mutex
	var took []time.Duration
	for {
		select {
		case <-end:
			asking.Wait()
			return took
		case due := <-tick.C:
			asking.Go(func() {
				late := time.Since(due)
				d := late + h.ask(context.Background())
				mu.Lock()
				defer mu.Unlock()
				took = append(took, d)
			})
		}
	}
}

// right reports answers that were none, or not the pod's own, and holds the records to all of them.
func (h *honest) right(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.wrong) > 0 {
		t.Errorf("%d of %d honest reviews were answered wrongly, such as %s", len(h.wrong), h.serial.Load(), h.wrong[0])
	}
}

// quantile is the smallest figure that at least the share q of all does not exceed.
func quantile(figures []time.Duration, q float64) time.Duration {
	if len(figures) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(figures))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// median of figures that are more than none.
func median(figures []time.Duration) time.Duration { return quantile(figures, 0.5) }
