package upload

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/evictgate/evictgate/webhook/record"
)

const (
	// maxEvent bounds an event in bytes: the input of a record may have 8 MiB.
	maxEvent = 10 << 20
	// keptBytes is up to how many bytes of events are kept while the rest is read; and how many are a part, which is
	// read or stored before another upload has its turn.
	keptBytes = 2 << 20
)

// reading is one way through the array of an upload. It never holds more than keptBytes of events, and one more.
type reading struct {
	// add is given the records; nil only finds out whether all of them can be read.
	add func([]record.Record) error
	// pause is called between two parts. Its error ends the reading.
	pause   func() error
	answer  Answer
	records []record.Record
	bytes   int
	// whole says that records are all there are: then they need not be read again.
	whole bool
}

// read reads the events. Those that are not records are skipped, and what is not as it must be is an error that
// names the event and the byte.
func (r *reading) read(body io.Reader) error {
	r.answer.Skipped, r.whole = []Skipped{}, true
	events := record.NewElements(body, maxEvent)
	for index := 0; ; index++ {
		event, start, err := events.Next()
		switch {
		case errors.Is(err, io.EOF):
			if err := events.Rest(); err != nil {
				return err
			}
			return r.store()
		case err != nil:
			return misread(index, event, start, events.At(), err)
		case index == maxEvents:
			return fmt.Errorf("more than %d events in an upload; send less at once", maxEvents)
		}
		if err := r.take(index, event, start); err != nil {
			return err
		}
		if r.bytes += len(event); r.bytes < keptBytes {
			continue
		}
		events.Free()
		if err := r.endPart(); err != nil {
			return err
		}
	}
}

// endPart stores the records of a part, or forgets them, and lets others go first.
func (r *reading) endPart() error {
	if r.add == nil {
		r.whole, r.records = false, nil
	}
	if err := r.store(); err != nil {
		return err
	}
	r.bytes = 0
	return r.pause()
}

// misread says where the array could not be read.
func misread(index int, event []byte, start, at int64, err error) error {
	switch {
	case errors.Is(err, record.ErrNoArray):
		return errors.New("the body must be a JSON array of events")
	case errors.Is(err, io.ErrUnexpectedEOF) && len(event) == 0:
		return fmt.Errorf("the array does not end: byte %d: the body ends too early", at)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("event %d: byte %d: the body ends too early", index, at-1)
	}
	return fmt.Errorf("event %d: byte %d: %w", index, start, err)
}

func (r *reading) take(index int, event []byte, start int64) error {
	record, why, err := readEvent(event)
	switch {
	case err != nil:
		return fmt.Errorf("event %d: byte %d: %w", index, start+wrongAt(err), err)
	case why != "":
		r.answer.skip(index, why)
		return nil
	}
	if r.add != nil || r.whole {
		r.records = append(r.records, *record)
	}
	return nil
}

// store hands the records on.
func (r *reading) store() error {
	if r.add == nil || len(r.records) == 0 {
		return nil
	}
	records := r.records
	r.records = nil
	return r.add(records)
}

func (a *Answer) skip(index int, why string) {
	if a.SkippedCount++; len(a.Skipped) < maxTold {
		a.Skipped = append(a.Skipped, Skipped{index, why})
	}
}

// wrongAt is where in an event it is not JSON, or the last byte of the value that has another type than it should;
// 0 when it is not known.
func wrongAt(err error) int64 {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax) && syntax.Offset > 0:
		return syntax.Offset - 1
	case errors.As(err, &kind) && kind.Offset > 0:
		return kind.Offset - 1
	}
	return 0
}

// readEvent reads one event; why is not empty when it is to be skipped.
func readEvent(event []byte) (r *record.Record, why string, err error) {
	if event[0] != '{' {
		return nil, "", errors.New("an event must be a JSON object")
	}
	r = &record.Record{}
	err = json.Unmarshal(event, r)
	if err != nil || r.Version != record.Version {
		why, versionErr := foreign(event)
		return nil, why, cmp.Or(versionErr, err)
	}
	if r.Input, err = oneLine(r.Input); err != nil {
		return nil, "", err
	}
	return r, "", complete(r)
}

// foreign is why an event is skipped: another program, or another version, may name its fields as a record does and
// mean something else. It is empty for a record of ours.
func foreign(event []byte) (why string, err error) {
	var version struct {
		RecordVersion json.RawMessage `json:"record_version"`
	}
	if err := json.Unmarshal(event, &version); err != nil {
		return "", err
	}
	if version.RecordVersion == nil {
		return "it has no record_version, so it is not a record of Evictgate", nil
	}
	if own := fmt.Sprint(record.Version); string(version.RecordVersion) != own {
		return fmt.Sprintf("its record_version is %.20s; this Evictgate reads %s", version.RecordVersion, own), nil
	}
	return "", nil
}

// oneLine is the JSON on one line and in valid UTF-8, as our own is.
func oneLine(raw []byte) ([]byte, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	if !utf8.Valid(raw) {
		raw = bytes.ToValidUTF8(raw, []byte("\uFFFD"))
	}
	var compact bytes.Buffer
	err := json.Compact(&compact, raw)
	return compact.Bytes(), err
}

// maxID bounds a decision's id, which is a UID of the API server's.
const maxID = 256

// complete reports what a record lacks that every decision has.
func complete(r *record.Record) error {
	switch {
	case r.DecisionID == "" || len(r.DecisionID) > maxID:
		return fmt.Errorf("its decision_id has %d bytes; expected 1 to %d", len(r.DecisionID), maxID)
	case r.Timestamp.IsZero():
		return errors.New("it has no timestamp")
	case r.Result == nil:
		return errors.New("it has no result")
	}
	return nil
}
