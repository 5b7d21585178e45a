package store

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// dictionary is the text of typical records, made up: what a body has in common with it takes no room. A
// dictionary that was released never changes; a new one is a new form.
//
//go:embed dictionary.txt
var dictionary []byte

// zstdForm is the first byte of a body: JSON, compressed by zstd with the dictionary.
const zstdForm = 1

const dictionaryID = 1

// codec makes bodies and reads them.
type codec struct {
	compress   *zstd.Encoder
	decompress *zstd.Decoder
}

func newCodec() (codec, error) {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderDictRaw(dictionaryID, dictionary), zstd.WithEncoderCRC(false),
		zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return codec{}, err
	}
	r, err := zstd.NewReader(nil, zstd.WithDecoderDictRaw(dictionaryID, dictionary), zstd.WithDecoderConcurrency(0))
	return codec{compress: w, decompress: r}, err
}

func (c codec) close() {
	if c.decompress != nil {
		c.decompress.Close()
	}
}

func (c codec) encode(v any) ([]byte, error) {
	text, err := marshal(v)
	if err != nil {
		return nil, err
	}
	return c.pack(text), nil
}

func (c codec) pack(text []byte) []byte {
	return c.compress.EncodeAll(text, append(make([]byte, 0, 64+len(text)/2), zstdForm))
}

func (c codec) decode(body []byte, v any) error {
	_, err := c.measure(body, v)
	return err
}

// measure is decode, and says how many bytes of JSON there were.
func (c codec) measure(body []byte, v any) (int, error) {
	if len(body) == 0 || body[0] != zstdForm {
		return 0, errors.New("a body of the store has a form that is not known")
	}
	text, err := c.decompress.DecodeAll(body[1:], make([]byte, 0, 4*len(body)))
	if err != nil {
		return 0, fmt.Errorf("decompress a body of the store: %w", err)
	}
	return len(text), json.Unmarshal(text, v)
}

// marshal is JSON without the escapes that only HTML needs.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}

// maxText bounds, in bytes, what texts are found by: an index of PostgreSQL takes no long ones.
const maxText = 300

// clean makes a text that both databases take as a key: PostgreSQL has neither NUL nor invalid UTF-8. A long
// one is cut, and ends in a sum of the whole.
func clean(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) <= maxText {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return strings.ToValidUTF8(s[:maxText-20], "") + "…" + hex.EncodeToString(sum[:8])
}
