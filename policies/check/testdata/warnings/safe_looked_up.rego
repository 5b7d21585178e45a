# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": reason} if {
	some key in ["a", "app"]
	value := input.pod.metadata.labels[key]
	reason := sprintf("%s=%s", [key, value])
}
