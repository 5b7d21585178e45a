// Package logs bounds what a log takes: lines per second, and bytes of a line. Whoever reaches a port can cause
// lines, and a log without a bound fills a disk, and holds up what waits for it.
package logs

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"
)

const (
	// messageRate and messageBurst bound the lines of one message, each second and at once.
	messageRate, messageBurst = 50, 500
	// totalRate and totalBurst bound all lines together.
	totalRate, totalBurst = 200, 2000
	// summaryAfter is how long lines are left out before it is told how many.
	summaryAfter = time.Second
	// messages is how many messages have a count of their own. Further ones share one: libraries put changing
	// words into their messages.
	messages = 256
	// maxValue bounds a message and each of its values in bytes.
	maxValue = 4 << 10
)

// Limit passes lines on to a handler, as many as are allowed; how many were left out is told by a line of its
// own, a second later. It is safe for concurrent use.
func Limit(next slog.Handler) slog.Handler {
	return &limited{next: next, limits: &limits{
		plain: next, total: rate.NewLimiter(totalRate, totalBurst), others: newMessage(), known: map[string]*message{},
	}}
}

// limited is a handler; those that come of its With methods share the limits.
type limited struct {
	next   slog.Handler
	limits *limits
}

func (h *limited) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

func (h *limited) Handle(ctx context.Context, r slog.Record) error {
	if !h.limits.allow(r.Message, r.Level) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

func (h *limited) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &limited{next: h.next.WithAttrs(attrs), limits: h.limits}
}

func (h *limited) WithGroup(name string) slog.Handler {
	return &limited{next: h.next.WithGroup(name), limits: h.limits}
}

// limits count lines.
type limits struct {
	// plain writes the lines about what was left out.
	plain slog.Handler
	total *rate.Limiter

	mu     sync.Mutex
	known  map[string]*message
	others *message
}

// message is the count of one message.
type message struct {
	rate *rate.Limiter
	left int
	// worst is the highest level among what was left out.
	worst slog.Level
}

func newMessage() *message { return &message{rate: rate.NewLimiter(messageRate, messageBurst)} }

// allow asks the message's own limit first, so that a flood of one does not use up what all may have.
func (l *limits) allow(text string, level slog.Level) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	m, name := l.message(text)
	if m.rate.Allow() && l.total.Allow() {
		return true
	}
	if m.left++; m.left == 1 {
		m.worst = level
		time.AfterFunc(summaryAfter, func() { l.tell(m, name) })
	}
	m.worst = max(m.worst, level)
	return false
}

func (l *limits) message(text string) (m *message, name string) {
	if m = l.known[text]; m != nil {
		return m, text
	}
	if len(l.known) >= messages {
		return l.others, "other messages"
	}
	m = newMessage()
	l.known[text] = m
	return m, text
}

// tell writes how many lines were left out. There are at most as many of these lines each second as messages are
// known.
func (l *limits) tell(m *message, name string) {
	l.mu.Lock()
	left, worst := m.left, m.worst
	m.left = 0
	l.mu.Unlock()
	if !l.plain.Enabled(context.Background(), worst) {
		return
	}
	r := slog.NewRecord(time.Now(), worst, "log lines were left out, since there were too many", 0)
	r.Add("lines", left, "of", name)
	_ = l.plain.Handle(context.Background(), r)
}

// Cut is a ReplaceAttr for the handlers of slog: it bounds the message, and each value, to 4 KiB.
func Cut(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindString:
		if text := a.Value.String(); len(text) > maxValue {
			a.Value = slog.StringValue(cut(text))
		}
	case slog.KindAny:
		switch v := a.Value.Any().(type) {
		case *slog.Source, nil:
		case error:
			if text := v.Error(); len(text) > maxValue {
				a.Value = slog.StringValue(cut(text))
			}
		default:
			if text := fmt.Sprintf("%+v", v); len(text) > maxValue {
				a.Value = slog.StringValue(cut(text))
			}
		}
	}
	return a
}

func cut(text string) string {
	end := maxValue
	for end > maxValue-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return fmt.Sprintf("%s… (%d bytes left out)", text[:end], len(text)-end)
}
