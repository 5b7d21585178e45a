//go:build !race

package replay_test

const aWeekHas = 10_000
