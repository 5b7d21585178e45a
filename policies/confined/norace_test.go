//go:build !race

package confined

const raceDetector = false
