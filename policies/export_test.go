package policies

// For the tests that stand outside, since they import what imports this package.
var (
	HoldGenerated = holdGenerated
	Update        = update
)
