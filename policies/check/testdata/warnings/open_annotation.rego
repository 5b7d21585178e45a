# METADATA
# title: X
# description: Holds x
package eviction.x

deny contains {"reason": sprintf("held: %v", [input.pod.metadata.annotations["example.org/team"]])} if input.request.evictor == "user"
