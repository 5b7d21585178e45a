// Package node stands in for the kubelet and the container runtime, so that a Deployment that is applied to
// a control plane of package kube really runs: its containers are processes, its pods have addresses of
// their own, and the API server calls them through Service and EndpointSlice. It needs Linux, root and the
// program ip.
//
// What is real: the image's files and configuration (an OCI layout), the user, groups, capabilities and
// no_new_privs of the security context, the read-only root, the environment, service account tokens
// (TokenRequest, renewed), Secrets, ConfigMaps and emptyDirs as volumes that are swapped atomically, HTTP and
// TCP probes, restarts with back-off, preStop sleep, SIGTERM, the grace period, SIGKILL, the pod's status,
// node leases, and /containerLogs for `kubectl logs`.
//
// What is not: there are no cgroups, so requests and limits hold nobody; no seccomp, AppArmor or SELinux; no
// kube-proxy, so a Service's address leads nowhere and KUBERNETES_SERVICE_HOST is the API server's own
// address; no DNS; no NetworkPolicy; no image registry, images come from a table; nodes are labels only, all
// pods share this machine and one bridge; Secrets and ConfigMaps reach a volume within about a second, where
// a kubelet takes up to a minute or more. The agents act as system:masters, not as their node. Init and
// ephemeral containers, readiness gates, exec probes, envFrom, subPath, hostNetwork and all other volumes are
// refused in the pod's status instead of being ignored. Nodes cannot be added or taken away later, and an agent
// does not adopt pods that another one ran.
//
// A Network is made first, since the API server must listen at its gateway; then the control plane with
// kube.Options{Address: network.Gateway(), OtherNodes: true}; then Start.
package node
