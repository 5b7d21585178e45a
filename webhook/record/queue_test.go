package record

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/evictgate/evictgate/policies"
)

// heap is what is in use after a collection, in bytes.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestAQueueThatNobodyEmptiesIsBoundedInBytes lets a standard output stand still, and decides 1,000 reviews with
// 200 KB of annotations each: 200 MB. The queue holds what it may, and what is lost is counted exactly.
func TestAQueueThatNobodyEmptiesIsBoundedInBytes(t *testing.T) {
	s := reader(t)
	g := &gate{open: make(chan struct{})}
	w := NewWriter(g, quiet)
	const total = 1000
	before := heap()
	for i := range total {
		in := &policies.Input{Now: metav1.NewTime(noon), Request: policies.Request{
			UID: fmt.Sprint(i), Namespace: "shop", Name: "web-0", Annotations: map[string]string{"note": strings.Repeat("x", 200<<10)},
		}}
		reading := s.Read(in)
		d := reading.Evaluate(t.Context(), policies.Options{})
		w.WriteSized(Recording{}.Size(in, reading), func() (Record, error) { return Recording{}.Record(in, reading, d, nil) })
	}
	// The sets remember some answers by what they read, which is large here as well.
	if grown := heap() - before; grown > 4*maxQueued {
		t.Errorf("the heap has grown by %d MiB; the queue may hold %d", grown>>20, maxQueued>>20)
	}
	lost := w.Lost()
	if lost < total/2 {
		t.Errorf("%d lost of %d", lost, total)
	}
	close(g.open)
	w.Close()
	if n := len(ids(t, g.out.Bytes(), 0)); int64(n)+w.Lost() != total || w.Lost() != lost || n < 10 {
		t.Errorf("%d written and %d lost (%d before the output went on) of %d", n, w.Lost(), lost, total)
	}
	if left := w.bytes.Load(); left != 0 {
		t.Errorf("%d bytes are still counted", left)
	}
}

// TestSmallRecordsFillTheQueueByTheirNumber: the bound by bytes does not make it shorter for honest evictions.
func TestSmallRecordsFillTheQueueByTheirNumber(t *testing.T) {
	if most := maxQueued / decisionSize; most < queueLength {
		t.Errorf("%d decisions fit into the queue by their size, %d by their number", most, queueLength)
	}
}

func TestPlaces(t *testing.T) {
	p := NewPlaces(2, 1, time.Minute)
	enter := func(ctx context.Context) func() {
		t.Helper()
		leave, err := p.Enter(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return leave
	}
	first := enter(t.Context())
	enter(t.Context())
	entered := make(chan func())
	go func() {
		leave, _ := p.Enter(context.Background())
		entered <- leave
	}()
	for p.waiting.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if _, err := p.Enter(t.Context()); !errors.Is(err, ErrBusy) {
		t.Errorf("one more than may wait: %v", err)
	}
	first()
	(<-entered)()
	enter(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Enter(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("one whose context is over: %v", err)
	}
	p.patient = time.Millisecond
	if _, err := p.Enter(t.Context()); !errors.Is(err, ErrBusy) {
		t.Errorf("one who waited long enough: %v", err)
	}
}

// membersOf reads an array.
func membersOf(r io.Reader, limit int) (list []string, e *Elements, err error) {
	e = NewElements(r, limit)
	for {
		member, _, err := e.Next()
		if errors.Is(err, io.EOF) {
			return list, e, e.Rest()
		}
		if err != nil {
			return list, e, err
		}
		list = append(list, string(member))
	}
}

func TestElementsAreThoseOfTheArray(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scalar := rapid.OneOf(rapid.Map(rapid.Int(), func(n int) any { return n }), rapid.Map(rapid.String(), func(s string) any { return s }), rapid.Just[any](nil), rapid.Just[any](true))
		value := rapid.OneOf(scalar, rapid.Map(rapid.SliceOfN(scalar, 0, 3), func(l []any) any { return l }), rapid.Map(rapid.MapOfN(rapid.String(), scalar, 0, 3), func(m map[string]any) any { return m }))
		list := rapid.SliceOfN(value, 0, 5).Draw(t, "list")
		indent := rapid.SampledFrom([]string{"", " ", "\n\t"}).Draw(t, "indent")
		raw, err := json.MarshalIndent(list, "", indent)
		if err != nil {
			t.Fatal(err)
		}
		got, e, err := membersOf(iotest.OneByteReader(bytes.NewReader(raw)), 1<<20)
		if err != nil || len(got) != len(list) || e.At() != int64(len(raw)) {
			t.Fatalf("%q: %q, %d bytes, %v", raw, got, e.At(), err)
		}
		for i, member := range got {
			want, err := json.MarshalIndent(list[i], indent, indent)
			if err != nil || !json.Valid([]byte(member)) {
				t.Fatalf("%q: %v", member, err)
			}
			var a, b any
			if json.Unmarshal(want, &a) != nil || json.Unmarshal([]byte(member), &b) != nil || fmt.Sprint(a) != fmt.Sprint(b) {
				t.Fatalf("member %d is %q, want %q", i, member, want)
			}
		}
	})
}

func TestElementsAreBounded(t *testing.T) {
	for text, want := range map[string]error{
		`[{}, "12345678"]`: nil, `[{}, "123456789"]`: ErrLargeElement, `[` + strings.Repeat("[", 11): ErrLargeElement,
		`{}`: ErrNoArray, ``: ErrNoArray, `[1 2]`: ErrNoComma, `[1`: io.ErrUnexpectedEOF, `[1,`: io.ErrUnexpectedEOF, `["`: io.ErrUnexpectedEOF,
	} {
		if _, _, err := membersOf(strings.NewReader(text), 10); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", text, err, want)
		}
	}
}

// FuzzElements: what encoding/json takes for an array has the same members here, and nothing else is taken for one
// whose members are all JSON.
func FuzzElements(f *testing.F) {
	for _, seed := range []string{`[]`, `[1,2]`, `[{"a":"]"},[","]]`, `[,]`, `[1,]`, `[] x`, `["\""]`, `[1}`, `[tru]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var want []json.RawMessage
		valid := json.Unmarshal(raw, &want) == nil && want != nil
		got, _, err := membersOf(bytes.NewReader(raw), 1<<20)
		ok := err == nil
		for _, member := range got {
			ok = ok && json.Valid([]byte(member))
		}
		if ok != valid || (valid && len(got) != len(want)) {
			t.Fatalf("%q: %q, %v; encoding/json: %q", raw, got, err, want)
		}
	})
}
