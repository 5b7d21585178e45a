package upload

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/evictgate/evictgate/webhook/audit"
)

// readEvents reads the JSON array of an upload. Events that are no records are skipped, and what is not as
// it must be is an error that names the event and the byte.
func readEvents(body []byte) ([]audit.Record, *Answer, error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	open, err := decoder.Token()
	if err != nil || open != json.Delim('[') {
		return nil, nil, errors.New("the body must be a JSON array of events")
	}
	var records []audit.Record
	answer := &Answer{Skipped: []Skipped{}}
	for index := 0; decoder.More(); index++ {
		if index == maxEvents {
			return nil, nil, fmt.Errorf("more than %d events in an upload; send less at once", maxEvents)
		}
		var event json.RawMessage
		if err := decoder.Decode(&event); err != nil {
			return nil, nil, fmt.Errorf("event %d: byte %d: %w", index, brokenAt(body, decoder.InputOffset()), sentence(err))
		}
		r, why, err := readEvent(event)
		switch {
		case err != nil:
			start := decoder.InputOffset() - int64(len(event))
			return nil, nil, fmt.Errorf("event %d: byte %d: %w", index, start+wrongAt(err), err)
		case why != "":
			answer.skip(index, why)
		default:
			records = append(records, *r)
		}
	}
	if _, err := decoder.Token(); err != nil {
		return nil, nil, fmt.Errorf("the array does not end: byte %d: %w", len(body), sentence(err))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("something follows the array: byte %d", decoder.InputOffset())
	}
	return records, answer, nil
}

func (a *Answer) skip(index int, why string) {
	if a.SkippedCount++; len(a.Skipped) < maxTold {
		a.Skipped = append(a.Skipped, Skipped{index, why})
	}
}

// brokenAt is the byte at which what begins at start is no JSON; a Decoder's own errors count otherwise.
func brokenAt(body []byte, start int64) int64 {
	var syntax *json.SyntaxError
	var event json.RawMessage
	if before := bytes.TrimSpace(body[:start]); !bytes.HasSuffix(before, []byte(",")) && len(before) > 1 {
		return start // the comma is missing
	}
	if err := json.Unmarshal(body[start:], &event); errors.As(err, &syntax) && syntax.Offset > 0 {
		return start + syntax.Offset - 1
	}
	return start
}

// wrongAt is the last byte of the value that has another type than it should; the start when it is not
// known.
func wrongAt(err error) int64 {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) && kind.Offset > 0 {
		return kind.Offset - 1
	}
	return 0
}

// sentence says what the end of the body means.
func sentence(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the body ends too early")
	}
	return err
}

// readEvent reads one event; why is not empty when it is to be skipped.
func readEvent(event []byte) (r *audit.Record, why string, err error) {
	if event[0] != '{' {
		return nil, "", errors.New("an event must be a JSON object")
	}
	var version struct {
		RecordVersion json.RawMessage `json:"record_version"`
	}
	if err := json.Unmarshal(event, &version); err != nil {
		return nil, "", err
	}
	if version.RecordVersion == nil {
		return nil, "it has no record_version, so it is no record of Evictgate", nil
	}
	if own := fmt.Sprint(audit.RecordVersion); string(version.RecordVersion) != own {
		return nil, fmt.Sprintf("its record_version is %.20s; this Evictgate reads %s", version.RecordVersion, own), nil
	}
	r = &audit.Record{}
	if err := json.Unmarshal(event, r); err != nil {
		return nil, "", err
	}
	if r.Input, err = oneLine(r.Input); err != nil {
		return nil, "", err
	}
	return r, "", complete(r)
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
func complete(r *audit.Record) error {
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
