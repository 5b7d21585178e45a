// Package opa parses, compiles and queries Rego by OPA, with the settings of the server, and says what OPA finds
// wrong in words that an author understands.
package opa
