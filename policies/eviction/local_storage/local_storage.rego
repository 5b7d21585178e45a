# METADATA
# title: Keep pods with data on their node
# description: |
#   Denies the eviction of a pod that keeps data on its node: an emptyDir that may hold much, which is
#   deleted with the pod; a hostPath, which the next node does not have; and a claim whose volume can be
#   used on one node only, so that the next pod would wait for that node. An emptyDir in memory is not such a
#   data. Volumes that the pod's annotation cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes
#   lists (names with commas and nothing else between them, as the cluster autoscaler reads it) are left
#   out, and so are all those of a pod with cluster-autoscaler.kubernetes.io/safe-to-evict=true. Pods of
#   DaemonSets and static pods come back to their node, and are left alone.
# related_resources:
#   - description: Which pods keep the cluster autoscaler from removing a node
#     ref: https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md
#   - description: emptyDir, hostPath and local volumes
#     ref: https://kubernetes.io/docs/concepts/storage/volumes/
# custom:
#   id: local_storage
#   enforcement: enforce
#   parameters:
#     empty_dir:
#       type: boolean
#       default: true
#       description: whether emptyDirs with a size limit of at least max_empty_dir hold the pod
#     max_empty_dir:
#       type: string
#       pattern: ^[0-9]{1,12}(\.[0-9]{1,3})?([kMGT]|[KMGT]i)?$
#       default: 1Gi
#       description: the size limit from which an emptyDir holds the pod, as a quantity of bytes
#     unlimited_empty_dir:
#       type: boolean
#       default: true
#       description: whether emptyDirs without a size limit hold the pod
#     host_path:
#       type: boolean
#       default: true
#       description: whether hostPath volumes hold the pod
#     node_local_claims:
#       type: boolean
#       default: true
#       description: whether claims whose volume can be used on one node only hold the pod
package eviction.local_storage

deny contains {"reason": reason, "detail": {"volumes": volumes}} if {
	not _left_alone
	volumes := [volume | some volume in _local; not volume.name in _given_up]
	count(volumes) > 0
	reason := $"{_subject} ({_shown(volumes)}), which an eviction deletes or leaves behind; name those that may be lost in annotation cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
}

_subject := $"the pods of {input.owner.kind} {input.request.namespace}/{input.owner.name} keep data on their node" if input.owner.name

_subject := "the pod keeps data on its node" if not input.owner.name

_left_alone if input.owner.kind in {"DaemonSet", "Node"}

_left_alone if input.pod.metadata.annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "true"

default _given_up := []

_given_up := split(input.pod.metadata.annotations["cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"], ",")

_local contains {"name": volume.name, "shown": $"emptyDir {volume.name} of {volume.emptyDir.sizeLimit}"} if {
	input.parameters.empty_dir
	some volume in input.pod.spec.volumes
	_bytes(volume.emptyDir) >= units.parse(input.parameters.max_empty_dir)
	not _in_memory(volume.emptyDir)
}

_local contains {"name": volume.name, "shown": $"emptyDir {volume.name} without limit"} if {
	input.parameters.unlimited_empty_dir
	some volume in input.pod.spec.volumes
	volume.emptyDir
	not _bytes(volume.emptyDir)
	not _in_memory(volume.emptyDir)
}

_local contains {"name": volume.name, "shown": $"hostPath {volume.name}"} if {
	input.parameters.host_path
	some volume in input.pod.spec.volumes
	volume.hostPath
}

_local contains {"name": volume.name, "shown": $"claim {volume.name}"} if {
	input.parameters.node_local_claims
	some volume in input.pod.spec.volumes
	some claim in input.claims
	claim.node_local
	_uses(volume, claim.name)
}

_uses(volume, claim) if volume.persistentVolumeClaim.claimName == claim

# The claim of an ephemeral volume is named after pod and volume.
_uses(volume, claim) if {
	volume.ephemeral
	claim == $"{input.request.name}-{volume.name}"
}

_in_memory(dir) if dir.medium == "Memory"

_in_memory(dir) if startswith(dir.medium, "HugePages")

# A size limit in bytes; for the kubelet, 0 means no limit.
_bytes(dir) := bytes if {
	regex.match(`^[0-9]{1,18}(\.[0-9]{1,9})?([eE][0-9]{1,2}|[mkMGTPE]|[KMGTPE]i)?$`, dir.sizeLimit)
	bytes := units.parse(dir.sizeLimit)
	bytes > 0
}

# The first three, so that a pod with many does not fill the message.
_shown(volumes) := concat(", ", array.concat([volume.shown | some volume in array.slice(volumes, 0, 3)], more)) if {
	more := [$"{rest} more" | rest := count(volumes) - 3; rest > 0]
}
