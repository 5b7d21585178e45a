package rego

// File is one policy source: a Rego module or a YAML stream of EvictionPolicies.
type File struct {
	Name string
	Data []byte
}
