package listen

import (
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// handshakeEvery is how often at most a failed TLS handshake is logged: whoever reaches the port can cause
// any number of them.
const handshakeEvery = 10 * time.Second

// Handshakes takes what net/http writes to the standard logger, and makes a count, and now and then a line,
// of the handshakes that failed.
type Handshakes struct {
	log    *slog.Logger
	failed func()

	mu       sync.Mutex
	limit    *rate.Limiter
	unlogged int
}

// NewHandshakes calls failed for each of them.
func NewHandshakes(log *slog.Logger, failed func()) *Handshakes {
	return &Handshakes{log: log, failed: failed, limit: rate.NewLimiter(rate.Every(handshakeEvery), 1)}
}

// Write takes one line.
func (h *Handshakes) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	rest, failed := strings.CutPrefix(text, "http: TLS handshake error from ")
	if !failed {
		h.log.Info(text)
		return len(line), nil
	}
	from, why, _ := strings.Cut(rest, ": ")
	if why != "EOF" { // somebody looked whether the port is open, as /readyz does
		h.note(from, why)
	}
	return len(line), nil
}

func (h *Handshakes) note(from, why string) {
	h.failed()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.limit.Allow() {
		h.unlogged++
		return
	}
	h.log.Warn("refused a connection: TLS handshake failed", "from", from, "why", why, "unlogged", h.unlogged)
	h.unlogged = 0
}
