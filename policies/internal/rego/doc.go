// Package rego is what is known of Rego as it is written, before OPA compiles it: the tree of a module, the shape
// of a policy, and what is found wrong with one (Problem), with its place and in plain words.
package rego
