package listen

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// state orders connections by how soon they are given up.
type state int32

const (
	arriving state = iota // neither the handshake nor a whole header was seen
	idle
	asking // a request was begun
)

// connection is one that a listener holds.
type connection struct {
	net.Conn
	of    *connections
	from  netip.Addr
	state atomic.Int32
	// answers counts the requests that have arrived whole and are being answered.
	answers atomic.Int32
	// takenBack counts the requests that the client took back, less those that were answered.
	takenBack atomic.Int32
	// since is when the state began, in nanoseconds of the listener's clock.
	since  atomic.Int64
	closed sync.Once
}

func (c *connection) Close() error {
	c.closed.Do(func() { c.of.remove(c) })
	return c.Conn.Close()
}

// enter puts the connection into a state.
func (c *connection) enter(s state) {
	c.state.Store(int32(s))
	c.since.Store(int64(time.Since(c.of.began)))
}

// connections is a listener that holds a bounded number of connections.
type connections struct {
	net.Listener
	most int
	// refused is told of every connection that was given up or not taken.
	refused func()
	began   time.Time

	mu   sync.Mutex
	open map[*connection]struct{}
	held map[netip.Addr]int
}

func bound(l net.Listener, most int, refused func()) *connections {
	return &connections{
		Listener: l, most: most, refused: refused, began: time.Now(),
		open: map[*connection]struct{}{}, held: map[netip.Addr]int{},
	}
}

// Accept waits for a connection that has a place.
func (l *connections) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &connection{Conn: raw, of: l, from: source(raw.RemoteAddr())}
		c.enter(arriving)
		victim := l.admit(c)
		if victim == nil {
			return c, nil
		}
		l.refused()
		_ = victim.Close()
		if victim != c {
			return c, nil
		}
	}
}

// admit gives a connection its place. It returns the one that must be closed for that, which is c itself when
// no other can be.
func (l *connections) admit(c *connection) (victim *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[c.from]++
	if len(l.open) >= l.most {
		victim = l.victim(c)
	}
	l.open[c] = struct{}{}
	return victim
}

// victim chooses among those whose address holds at least as many as the newcomer's, or is the newcomer's own.
func (l *connections) victim(newcomer *connection) *connection {
	var worst *connection
	for c := range l.open {
		mayGo := c.answers.Load() == 0 && (c.from == newcomer.from || l.held[c.from] > l.held[newcomer.from])
		if mayGo && (worst == nil || l.worse(c, worst)) {
			worst = c
		}
	}
	if worst == nil {
		return newcomer
	}
	return worst
}

// worse compares what the addresses hold, then the states, then how long these have lasted.
func (l *connections) worse(a, b *connection) bool {
	if held, other := l.held[a.from], l.held[b.from]; held != other {
		return held > other
	}
	if s, other := a.state.Load(), b.state.Load(); s != other {
		return s < other
	}
	return a.since.Load() < b.since.Load()
}

func (l *connections) remove(c *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
	if l.held[c.from]--; l.held[c.from] <= 0 {
		delete(l.held, c.from)
	}
}

// number is how many connections are open.
func (l *connections) number() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

// source is the address that a connection counts for. One machine has as many addresses of a /64 as it likes.
func source(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	ip := tcp.AddrPort().Addr().Unmap()
	if ip.Is6() {
		if prefix, err := ip.WithZone("").Prefix(64); err == nil {
			return prefix.Addr()
		}
	}
	return ip
}

// watch follows the states that net/http tells.
func watch(c net.Conn, s http.ConnState) {
	held := tracked(c)
	if held == nil {
		return
	}
	switch s {
	case http.StateIdle:
		held.enter(idle)
	case http.StateActive:
		held.enter(asking)
	}
}

// tracked is the connection below TLS.
func tracked(c net.Conn) *connection {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	held, _ := c.(*connection)
	return held
}

type contextKey struct{}

func withConnection(ctx context.Context, c net.Conn) context.Context {
	if held := tracked(c); held != nil {
		return context.WithValue(ctx, contextKey{}, held)
	}
	return ctx
}

// Answering says that a request has arrived whole: its connection is not given up for others until done is
// called. It does nothing for a request that another server took.
func Answering(ctx context.Context) (done func()) {
	held, ok := ctx.Value(contextKey{}).(*connection)
	if !ok {
		return func() {}
	}
	held.answers.Add(1)
	return func() { held.answers.Add(-1) }
}

// mostTakenBack is how many requests of a connection may be taken back beyond those that are answered. A client whose
// requests all run out of time may connect again; one that resets streams to keep the server busy must.
const mostTakenBack = 20

// patient hangs up on clients of HTTP/2 that take back most of what they ask. One of HTTP/1.1 ends its connection so.
func (s *Server) patient(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor < 2 {
			next.ServeHTTP(w, r)
			return
		}
		if r.Context().Err() == nil {
			next.ServeHTTP(w, r)
		}
		held, ok := r.Context().Value(contextKey{}).(*connection)
		switch {
		case !ok:
		case r.Context().Err() == nil:
			if held.takenBack.Add(-1) < 0 {
				held.takenBack.Store(0)
			}
		case held.takenBack.Add(1) == mostTakenBack:
			s.options.Refused()
			_ = held.Close()
		}
	})
}
