// Package memory keeps a process within the memory it is given: it finds the limit of the container, tells Go's
// garbage collector of it, and says when so little is left that no more work should be taken.
package memory
