//go:build unix && !linux

package confined

// limitMemory does nothing here: the process heeds the limit itself.
func limitMemory(int64) {}
