// Package source makes a set of policies from where they stand: files and directories, EvictionPolicies, bundles
// and the embedded library. Sources merges several of them, keeps what turned bad in its last good version, and
// says what became of each.
package source
