// Package suite is what an author does with policies: begin one, lay it out, run its tests and its cases, see which
// lines they evaluated, ask why a rule did not hold, and describe what a policy does. Cases and explanations go
// through the same decision as the server's.
package suite
