package logs

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// buffer is written by timers, too.
type buffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *buffer) lines(containing string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for line := range strings.Lines(b.String()) {
		if strings.Contains(line, containing) {
			n++
		}
	}
	return n
}

func logger(b *buffer) *slog.Logger {
	return slog.New(Limit(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: Cut})))
}

func TestAFloodOfOneMessageLeavesTheOthersTheirLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b buffer
		log := logger(&b)
		for i := range 100_000 {
			log.With("i", i).Error("flooded")
		}
		log.WithGroup("g").Info("ordinary", "a", 1)
		if n := b.lines("flooded"); n != messageBurst {
			t.Errorf("%d lines of the flood, want %d", n, messageBurst)
		}
		if b.lines("ordinary") != 1 {
			t.Error("another message was left out")
		}
		time.Sleep(summaryAfter)
		synctest.Wait()
		want := fmt.Sprintf(`level=ERROR msg="log lines were left out, since there were too many" lines=%d of=flooded`, 100_000-messageBurst)
		if b.lines(want) != 1 {
			t.Errorf("what was left out is not told: %s", b.String()[max(0, b.Len()-400):])
		}
		log.Info("flooded")
		if n := b.lines("msg=flooded"); n != messageBurst+1 {
			t.Errorf("after a second there are %d lines of the flood, want one more", n)
		}
	})
}

// Words that change in each message get nobody past the limits, and take no memory.
func TestManyMessagesShareTheLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b buffer
		log := logger(&b)
		for i := range 50_000 {
			log.Warn(fmt.Sprintf("client %d went", i))
		}
		if n := b.lines("went"); n > messages+messageBurst {
			t.Errorf("%d lines, want at most %d", n, messages+messageBurst)
		}
		limits := log.Handler().(*limited).limits
		if len(limits.known) > messages {
			t.Errorf("%d messages are kept", len(limits.known))
		}
		time.Sleep(summaryAfter)
		synctest.Wait()
		if b.lines("other messages") != 1 {
			t.Error("what was left out is not told")
		}
	})
}

func TestAllLinesTogetherAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b buffer
		log := logger(&b)
		for i := range 100 * messageBurst {
			log.Info(fmt.Sprintf("message %d", i%100))
		}
		if n := b.lines("msg="); n != totalBurst {
			t.Errorf("%d lines, want %d", n, totalBurst)
		}
		time.Sleep(summaryAfter)
		synctest.Wait()
	})
}

func TestOrdinaryWorkLosesNoLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b buffer
		log := logger(&b)
		for range 1000 {
			log.Info("decided")
			time.Sleep(25 * time.Millisecond)
		}
		if n := b.lines("decided"); n != 1000 {
			t.Errorf("%d of 1000 lines", n)
		}
	})
}

type loud struct{ Text string }

func TestLongValuesAreCut(t *testing.T) {
	long := strings.Repeat("é", 1<<20)
	for name, value := range map[string]any{
		"a string": long, "an error": errors.New(long), "a struct": loud{long}, "a list": []string{long, long}, "a group": slog.GroupValue(slog.String("a", long)),
	} {
		t.Run(name, func(t *testing.T) {
			var b buffer
			log := slog.New(Limit(slog.NewJSONHandler(&b, &slog.HandlerOptions{ReplaceAttr: Cut})))
			log.With("first", value).Info(long, "second", value)
			if b.Len() > 4*maxValue || !regexp.MustCompile(`\d{6} bytes left out`).MatchString(b.String()) {
				t.Errorf("a line of %d bytes: %.200s", b.Len(), b.String())
			}
		})
	}
	var b buffer
	slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: Cut})).Info("short", "error", errors.New("as it is"), "list", []int{1, 2})
	if !strings.Contains(b.String(), `error="as it is" list="[1 2]"`) {
		t.Errorf("a short line was changed: %s", b.String())
	}
}
