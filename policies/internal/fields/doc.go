// Package fields lists the JSON members of Go structs as encoding/json sees them. The schema and the projection of
// the Input are made from it, and so is what an EvictionPolicy may hold.
package fields
