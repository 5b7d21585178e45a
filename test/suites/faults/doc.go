// Package faults evicts pods from several clients all the time while parts of the installation are
// restarted, killed, stopped and rotated: the real program in three replicas behind one address, on a real
// control plane. Every answer is counted: a decision, or anything else and why. docs/faults.md is written
// from it.
package faults
