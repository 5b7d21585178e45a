package webhook

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/evictgate/evictgate/webhook/record"
)

// deaf takes no record.
type deaf struct{}

func (deaf) Send(context.Context, []record.Record) (int, error) { return 0, errors.New("away") }

func TestTheMetricsOfTheRecords(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	records := record.NewWriter(io.Discard, log, record.NewOutput(record.OutputOptions{
		Name: record.OutputStore, Target: deaf{}, Log: log, Queue: 2, Patience: time.Millisecond,
	}))
	registry := prometheus.NewRegistry()
	if _, err := NewMetrics(registry, records); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		records.Write(func() (record.Record, error) { return record.Record{}, nil })
	}
	for records.Counts()[0].Waiting > 0 || records.Counts()[1].Lost == 0 {
		time.Sleep(time.Millisecond)
	}
	want := func(when, text string) {
		t.Helper()
		if err := testutil.GatherAndCompare(registry, strings.NewReader(text), "evictgate_records_written_total", "evictgate_records_lost_total", "evictgate_records_waiting"); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	want("the store is away", `
# HELP evictgate_records_lost_total Decision records that an output will never have.
# TYPE evictgate_records_lost_total counter
evictgate_records_lost_total{output="stdout"} 0
evictgate_records_lost_total{output="store"} 1
# HELP evictgate_records_waiting Decision records that wait for an output.
# TYPE evictgate_records_waiting gauge
evictgate_records_waiting{output="stdout"} 0
evictgate_records_waiting{output="store"} 2
# HELP evictgate_records_written_total Decision records that an output has.
# TYPE evictgate_records_written_total counter
evictgate_records_written_total{output="stdout"} 3
evictgate_records_written_total{output="store"} 0
`)
	records.Close()
	want("the end", `
# HELP evictgate_records_lost_total Decision records that an output will never have.
# TYPE evictgate_records_lost_total counter
evictgate_records_lost_total{output="stdout"} 0
evictgate_records_lost_total{output="store"} 3
# HELP evictgate_records_waiting Decision records that wait for an output.
# TYPE evictgate_records_waiting gauge
evictgate_records_waiting{output="stdout"} 0
evictgate_records_waiting{output="store"} 0
# HELP evictgate_records_written_total Decision records that an output has.
# TYPE evictgate_records_written_total counter
evictgate_records_written_total{output="stdout"} 3
evictgate_records_written_total{output="store"} 0
`)
}
