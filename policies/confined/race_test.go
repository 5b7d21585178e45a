//go:build race

package confined

// raceDetector says that the children are built with it, too: its own allocator then meets the limit of memory before
// Go's does, and ends the process in its own words.
const raceDetector = true
