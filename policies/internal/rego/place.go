package rego

import (
	"strconv"

	"go.yaml.in/yaml/v3"
)

// Places finds the fields of one YAML document. The zero value knows none.
type Places struct {
	// Root is the document as it was parsed; nil when it could not be.
	Root *yaml.Node
	// Row is that of the document's first line, from 1.
	Row int
}

// NewPlaces reads a document that begins in a row.
func NewPlaces(text string, row int) Places {
	var root yaml.Node
	if yaml.Unmarshal([]byte(text), &root) != nil || len(root.Content) == 0 {
		return Places{}
	}
	return Places{Root: root.Content[0], Row: row}
}

// At is the row and column of a field, from 1, or of the nearest field above it that is there; 0, 0
// when even that is not known.
func (p Places) At(path ...string) (row, col int) {
	if p.Root == nil {
		return 0, 0
	}
	at, key := p.Root, p.Root
	for _, name := range path {
		k, v := LookUp(at, name)
		if k == nil {
			break
		}
		key, at = k, v
	}
	return p.Row + key.Line - 1, key.Column
}

// LookUp finds a key of a mapping, and its value; of a list, the member of that number twice.
func LookUp(at *yaml.Node, name string) (key, value *yaml.Node) {
	if at == nil {
		return nil, nil
	}
	if i, err := strconv.Atoi(name); err == nil && at.Kind == yaml.SequenceNode && i < len(at.Content) {
		return at.Content[i], at.Content[i]
	}
	if at.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(at.Content); i += 2 {
		if at.Content[i].Value == name {
			return at.Content[i], at.Content[i+1]
		}
	}
	return nil, nil
}
