//go:build linux

package node

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/evictgate/evictgate/test/harness/node/container"
)

// refusal says what of a pod this stand-in cannot do; it is empty when it can do all.
func refusal(pod *corev1.Pod) string {
	s := pod.Spec
	switch {
	case len(s.InitContainers) > 0 || len(s.EphemeralContainers) > 0:
		return "init and ephemeral containers are not supported"
	case s.HostNetwork || s.HostPID || s.HostIPC || s.ShareProcessNamespace != nil && *s.ShareProcessNamespace:
		return "the host's namespaces are not supported, nor a shared process namespace"
	case len(s.ReadinessGates) > 0:
		return "readiness gates are not supported"
	}
	for _, v := range s.Volumes {
		if !supported(v.VolumeSource) {
			return "volume " + v.Name + ": only projected, secret, configMap, downwardAPI and emptyDir are supported"
		}
	}
	for _, c := range s.Containers {
		if what := containerRefusal(&c); what != "" {
			return "container " + c.Name + ": " + what
		}
	}
	return ""
}

func supported(v corev1.VolumeSource) bool {
	if v.Projected != nil {
		return !slices.ContainsFunc(v.Projected.Sources, func(p corev1.VolumeProjection) bool {
			return p.Secret == nil && p.ConfigMap == nil && p.DownwardAPI == nil && p.ServiceAccountToken == nil
		})
	}
	return v.Secret != nil || v.ConfigMap != nil || v.EmptyDir != nil || v.DownwardAPI != nil
}

func containerRefusal(c *corev1.Container) string {
	if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.SubPath != "" || m.SubPathExpr != "" }) {
		return "subPath is not supported"
	}
	if len(c.EnvFrom) > 0 {
		return "envFrom is not supported"
	}
	for _, p := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
		if p != nil && p.HTTPGet == nil && p.TCPSocket == nil {
			return "only HTTP and TCP probes are supported"
		}
	}
	if l := c.Lifecycle; l != nil && (l.PostStart != nil || l.PreStop != nil && l.PreStop.Sleep == nil) {
		return "of the lifecycle hooks only preStop sleep is supported"
	}
	if s := c.SecurityContext; s != nil {
		if s.Privileged != nil && *s.Privileged || s.Capabilities != nil && len(s.Capabilities.Add) > 0 {
			return "privileges beyond the default are not supported"
		}
	}
	return ""
}

// identity is whom a container runs as.
type identity struct {
	uid, gid int64
	groups   []int64
}

// whom finds the identity by the container's security context, the pod's, and the image's user, in this
// order, and refuses what runAsNonRoot forbids in a kubelet's words.
func whom(pod *corev1.Pod, c *corev1.Container, img *image) (identity, error) {
	security := c.SecurityContext
	if security == nil {
		security = &corev1.SecurityContext{}
	}
	whole := pod.Spec.SecurityContext
	if whole == nil {
		whole = &corev1.PodSecurityContext{}
	}
	uid, gid, named := img.user()
	asked := first(security.RunAsUser, whole.RunAsUser)
	if asked != nil {
		uid, gid = *asked, 0
	}
	if group := first(security.RunAsGroup, whole.RunAsGroup); group != nil {
		gid = *group
	}
	who := identity{uid: uid, gid: gid, groups: slices.Clone(whole.SupplementalGroups)}
	if whole.FSGroup != nil {
		who.groups = append(who.groups, *whole.FSGroup)
	}
	nonRoot := first(security.RunAsNonRoot, whole.RunAsNonRoot)
	switch {
	case asked == nil && named:
		return who, fmt.Errorf("image has a user that is not a number (%s), which is not supported", img.config.User)
	case nonRoot != nil && *nonRoot && uid == 0 && asked == nil:
		return who, errors.New("container has runAsNonRoot and image will run as root")
	case nonRoot != nil && *nonRoot && uid == 0:
		return who, errors.New("container's runAsUser breaks non-root policy")
	}
	return who, nil
}

func first[T any](pointers ...*T) *T {
	for _, p := range pointers {
		if p != nil {
			return p
		}
	}
	return nil
}

// values looks up what an environment refers to outside the pod.
type values interface {
	secret(namespace, name string) (*corev1.Secret, error)
	configMap(namespace, name string) (*corev1.ConfigMap, error)
}

// environment is what a container sees: the image's, what every kubelet adds, and the pod's own, in which
// $(NAME) stands for what came before.
func environment(pod *corev1.Pod, c *corev1.Container, img *image, api map[string]string, from values) (map[string]string, error) {
	env := map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME": pod.Name}
	for _, variable := range img.config.Env {
		name, value, _ := strings.Cut(variable, "=")
		env[name] = value
	}
	maps.Copy(env, api)
	for _, e := range c.Env {
		value, found := expand(e.Value, env), true
		if e.ValueFrom != nil {
			var err error
			if value, found, err = lookUp(pod, c, e.ValueFrom, from); err != nil {
				return nil, err
			}
		}
		if found {
			env[e.Name] = value
		}
	}
	return env, nil
}

// expand replaces $(NAME) by what env has; one it does not have stays as it is, and $$ is a dollar.
func expand(text string, env map[string]string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '$' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		end := strings.IndexByte(text[i:], ')')
		switch {
		case text[i+1] == '$':
			b.WriteByte('$')
			i++
		case text[i+1] == '(' && end > 0:
			reference := text[i : i+end+1]
			if value, ok := env[reference[2:len(reference)-1]]; ok {
				reference = value
			}
			b.WriteString(reference)
			i += end
		default:
			b.WriteByte('$')
		}
	}
	return b.String()
}

// lookUp finds the value of a variable that refers to something; found is false for what is optional and
// not there.
func lookUp(pod *corev1.Pod, c *corev1.Container, source *corev1.EnvVarSource, from values) (value string, found bool, err error) {
	switch {
	case source.FieldRef != nil:
		value, err = field(pod, source.FieldRef.FieldPath)
		return value, true, err
	case source.ResourceFieldRef != nil:
		return resourceField(c, source.ResourceFieldRef), true, nil
	case source.SecretKeyRef != nil:
		ref := source.SecretKeyRef
		s, err := from.secret(pod.Namespace, ref.Name)
		if err == nil {
			if raw, ok := s.Data[ref.Key]; ok {
				return string(raw), true, nil
			}
			err = fmt.Errorf("couldn't find key %s in Secret %s/%s", ref.Key, pod.Namespace, ref.Name)
		}
		return "", false, unlessOptional(err, ref.Optional)
	case source.ConfigMapKeyRef != nil:
		ref := source.ConfigMapKeyRef
		m, err := from.configMap(pod.Namespace, ref.Name)
		if err == nil {
			if text, ok := m.Data[ref.Key]; ok {
				return text, true, nil
			}
			err = fmt.Errorf("couldn't find key %s in ConfigMap %s/%s", ref.Key, pod.Namespace, ref.Name)
		}
		return "", false, unlessOptional(err, ref.Optional)
	}
	return "", false, errors.New("this kind of valueFrom is not supported")
}

func unlessOptional(err error, optional *bool) error {
	if optional != nil && *optional {
		return nil
	}
	return err
}

// field is the downward API's.
func field(pod *corev1.Pod, path string) (string, error) {
	if name, ok := subscript(path, "metadata.labels"); ok {
		return pod.Labels[name], nil
	}
	if name, ok := subscript(path, "metadata.annotations"); ok {
		return pod.Annotations[name], nil
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.podIP", "status.podIPs":
		return pod.Status.PodIP, nil
	case "status.hostIP", "status.hostIPs":
		return pod.Status.HostIP, nil
	}
	return "", fmt.Errorf("field %s is not supported", path)
}

func subscript(path, prefix string) (string, bool) {
	rest, ok := strings.CutPrefix(path, prefix+"['")
	return strings.TrimSuffix(rest, "']"), ok
}

// resourceField is a request or a limit of the container; one that is not set counts as this machine's, for
// which a kubelet would take the node's.
func resourceField(c *corev1.Container, ref *corev1.ResourceFieldSelector) string {
	kind, name, _ := strings.Cut(ref.Resource, ".")
	list := c.Resources.Limits
	if kind == "requests" {
		list = c.Resources.Requests
	}
	quantity, ok := list[corev1.ResourceName(name)]
	if !ok {
		quantity = nodeResources()[corev1.ResourceName(name)]
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if name == "cpu" {
		return strconv.FormatInt(ceilDiv(quantity.MilliValue(), divisor.MilliValue()), 10)
	}
	return strconv.FormatInt(ceilDiv(quantity.Value(), divisor.Value()), 10)
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }

// boxed describes the container's process. dirs are the volumes' directories by name, scratch is an empty
// one for this start.
func boxed(pod *corev1.Pod, c *corev1.Container, img *image, who identity, env, dirs map[string]string, scratch string) container.Spec {
	spec := container.Spec{
		Hostname: pod.Name, Image: img.dir, Scratch: scratch,
		UID: int(who.uid), GID: int(who.gid),
		WorkingDir: path.Join("/", img.config.WorkingDir, c.WorkingDir),
		Args:       commandLine(c, img, env),
	}
	for _, g := range who.groups {
		spec.Groups = append(spec.Groups, int(g))
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		spec.Env = append(spec.Env, name+"="+env[name])
	}
	// What is mounted below another comes after it.
	mounts := slices.SortedFunc(slices.Values(c.VolumeMounts), func(a, b corev1.VolumeMount) int { return strings.Compare(a.MountPath, b.MountPath) })
	for _, m := range mounts {
		spec.Mounts = append(spec.Mounts, container.Mount{From: dirs[m.Name], To: m.MountPath, ReadOnly: m.ReadOnly || readOnly(pod, m.Name)})
	}
	if s := c.SecurityContext; s != nil {
		spec.ReadOnly = s.ReadOnlyRootFilesystem != nil && *s.ReadOnlyRootFilesystem
		spec.NoNewPrivs = s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation
		spec.DropAll = s.Capabilities != nil && slices.Contains(s.Capabilities.Drop, "ALL")
	}
	return spec
}

// readOnly: all volumes but emptyDir are, whatever the mount says.
func readOnly(pod *corev1.Pod, volume string) bool {
	i := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == volume })
	return i >= 0 && pod.Spec.Volumes[i].EmptyDir == nil
}

func commandLine(c *corev1.Container, img *image, env map[string]string) []string {
	command, args := c.Command, c.Args
	if len(command) == 0 {
		command = img.config.Entrypoint
		if len(args) == 0 {
			args = img.config.Cmd
		}
	}
	var line []string
	for _, word := range slices.Concat(command, args) {
		line = append(line, expand(word, env))
	}
	return line
}
