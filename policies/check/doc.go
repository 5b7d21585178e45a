// Package check finds what compiles, but hardly does what its author means: violations that can be lost,
// comparisons that never hold, parameters that nobody reads. It changes nothing: it reads what package source read
// and package policies compiled.
package check
