// Package attack attacks the real program as somebody without rights would, and holds it to what must remain: it
// lives in the memory that config/ gives it, others' reviews are answered rightly and in time, and every decision
// is recorded. Each attack is one that ended a replica, or hurt others, before; docs/security-figures.md has the
// figures of a run, which -update writes.
//
// Those who attack run as processes of their own with a lower priority, and talk to 127.0.0.1 only. The same load
// on a server that does nothing with it is what they are compared with: what the attackers themselves take
// from the machine is not a fault of the program's.
package attack
