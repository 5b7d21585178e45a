// Package confined compiles policies where that can be ended: in a child process of the same program.
//
// A compilation cannot be broken off, and what it allocates cannot be taken back: OPA looks at no context
// while it parses, resolves and checks, and a few hundred bytes of Rego can keep it busy for ever or ask for
// more memory than there is. So nothing that a caller or a source brings is compiled here before a child has
// compiled exactly that and ended. The child has a limit of CPU time and one of memory, which it heeds
// itself, and the kernel beside it where it can; its parent has a clock for the rest. CPU time comes first:
// a busy machine must not refuse what is honest.
//
// A program that uses this package calls Main before anything else.
package confined
