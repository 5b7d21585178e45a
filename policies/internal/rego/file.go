package rego

import "path"

// File is one policy source: a Rego module or a YAML stream of EvictionPolicies.
type File struct {
	Name string
	Data []byte
	// Object says that it is an EvictionPolicy of a cluster, and Name what it is called, whatever that ends in. Its lines
	// are not those of its author, so its problems are told by field.
	Object bool
}

// Ext is the extension by which the kind of a source is known.
func (f File) Ext() string {
	if f.Object {
		return ".yaml"
	}
	return path.Ext(f.Name)
}
