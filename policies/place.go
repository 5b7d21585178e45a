package policies

import (
	"strconv"

	"go.yaml.in/yaml/v3"
)

// places finds the fields of one YAML document. The zero value knows none.
type places struct {
	root *yaml.Node
	// row is that of the document's first line, from 1.
	row int
}

func newPlaces(doc yamlDoc) places {
	var root yaml.Node
	if yaml.Unmarshal([]byte(doc.text), &root) != nil || len(root.Content) == 0 {
		return places{}
	}
	return places{root: root.Content[0], row: doc.row}
}

// of is the row and column of a field, from 1, or of the nearest field above it that is there; 0, 0
// when even that is not known.
func (p places) of(path ...string) (row, col int) {
	if p.root == nil {
		return 0, 0
	}
	at, key := p.root, p.root
	for _, name := range path {
		k, v := lookUp(at, name)
		if k == nil {
			break
		}
		key, at = k, v
	}
	return p.row + key.Line - 1, key.Column
}

// lookUp finds a key of a mapping, and its value; of a list, the member of that number twice.
func lookUp(at *yaml.Node, name string) (key, value *yaml.Node) {
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
