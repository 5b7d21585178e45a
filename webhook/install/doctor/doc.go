// Package doctor looks at a running installation from outside, as its operator may: Read gathers Facts from
// the API server, Probe sends dry-run evictions through the gate, and Examine says what is wrong and how to fix
// it. Every check is a pure function of the Facts, so that what it says can be tested without a cluster; what
// cannot be read is not checked, and says so.
package doctor
