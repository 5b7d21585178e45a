package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// size is how large a generated cluster is. Each Deployment has a budget that allows a disruption.
type size struct {
	namespaces  int
	deployments int // in each namespace
	pods        int // of each Deployment
	// idleBudgets is how many budgets more each namespace has, which select no pod.
	idleBudgets int
}

func (s size) total() int { return s.namespaces * s.deployments * s.pods }

const (
	// podsPerNode is a usual density: kubelets take 110 at most.
	podsPerNode = 50
	// namespacesPerFile keeps a file of a large snapshot small enough to be read at once.
	namespacesPerFile = 5
)

// snapshot is a generated cluster on disk.
type snapshot struct {
	files []string
	pods  []types.NamespacedName
	// podBytes is the size of a pod as JSON.
	podBytes int
}

// writeSnapshot writes the cluster as `kubectl get -A -o json` prints it, into several files when large.
func writeSnapshot(dir string, s size) (*snapshot, error) {
	out := &snapshot{}
	nodes := (s.total() + podsPerNode - 1) / podsPerNode
	var items []any
	for i := range nodes {
		items = append(items, node(i))
	}
	for n := range s.namespaces {
		items = append(items, out.namespace(s, n, nodes)...)
		if (n+1)%namespacesPerFile != 0 && n+1 < s.namespaces {
			continue
		}
		file := filepath.Join(dir, fmt.Sprintf("cluster-%03d.json", len(out.files)))
		if err := writeList(file, items); err != nil {
			return nil, err
		}
		out.files, items = append(out.files, file), nil
	}
	example, err := json.Marshal(pod("team-000", "app-0000", owner{kind: "ReplicaSet"}, 0, 1))
	out.podBytes = len(example)
	return out, err
}

func writeList(file string, items []any) error {
	raw, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
	if err != nil {
		return err
	}
	return os.WriteFile(file, raw, 0o600)
}

// namespace makes one namespace with all that is in it.
func (out *snapshot) namespace(s size, n, nodes int) []any {
	name := fmt.Sprintf("team-%03d", n)
	items := []any{&corev1.Namespace{
		TypeMeta: typed("v1", "Namespace"),
		ObjectMeta: metav1.ObjectMeta{
			Name: name, UID: uid("namespace", name), CreationTimestamp: created,
			Labels: map[string]string{corev1.LabelMetadataName: name, "pod-security.kubernetes.io/enforce": "baseline", "team": name},
		},
	}}
	for d := range s.deployments {
		app := fmt.Sprintf("app-%04d", d)
		top := owner{kind: "Deployment", name: app, uid: uid("deployment", name, app)}
		set := owner{kind: "ReplicaSet", name: app + "-6d4cf56db6", uid: uid("replicaset", name, app)}
		items = append(items, deployment(name, app, top, s.pods), replicaSet(name, app, set, top, s.pods), budget(name, app, s.pods))
		for i := range s.pods {
			p := pod(name, app, set, i, nodes)
			items = append(items, p)
			out.pods = append(out.pods, types.NamespacedName{Namespace: name, Name: p.Name})
		}
	}
	for i := range s.idleBudgets {
		items = append(items, budget(name, fmt.Sprintf("idle-%04d", i), s.pods))
	}
	return items
}

var created = metav1.NewTime(time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC))

func typed(version, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: version, Kind: kind}
}

// uid makes a UID of the usual form out of what identifies the object.
func uid(parts ...string) types.UID {
	h := fnv.New128a()
	_, _ = h.Write([]byte(strings.Join(parts, "/")))
	s := hex.EncodeToString(h.Sum(nil))
	return types.UID(s[:8] + "-" + s[8:12] + "-4" + s[13:16] + "-8" + s[17:20] + "-" + s[20:])
}

func number(parts ...string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(strings.Join(parts, "/")))
	return h.Sum64()
}

type owner struct {
	kind, name string
	uid        types.UID
}

func (o owner) reference() []metav1.OwnerReference {
	yes := true
	return []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: o.kind, Name: o.name, UID: o.uid, Controller: &yes, BlockOwnerDeletion: &yes}}
}

func labelsOf(app string) map[string]string {
	return map[string]string{
		"app": app, "app.kubernetes.io/name": app, "app.kubernetes.io/part-of": "shop",
		"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/version": "1.27.3",
	}
}

func selectorOf(app string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": app, "app.kubernetes.io/part-of": "shop"}}
}

func node(i int) *corev1.Node {
	name := nodeName(i)
	return &corev1.Node{
		TypeMeta: typed("v1", "Node"),
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: uid("node", name), CreationTimestamp: created, Labels: map[string]string{
			corev1.LabelHostname: name, corev1.LabelTopologyZone: fmt.Sprintf("eu-west-1%c", 'a'+i%3),
			corev1.LabelTopologyRegion: "eu-west-1", corev1.LabelInstanceTypeStable: "m7g.4xlarge",
		}},
		Spec:   corev1.NodeSpec{ProviderID: "aws:///eu-west-1a/" + name},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastTransitionTime: created}}},
	}
}

func nodeName(i int) string { return fmt.Sprintf("node-%04d", i) }

func deployment(namespace, app string, o owner, replicas int) *appsv1.Deployment {
	n := int32(replicas)
	return &appsv1.Deployment{
		TypeMeta:   typed("apps/v1", "Deployment"),
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: o.name, UID: o.uid, CreationTimestamp: created, Labels: labelsOf(app)},
		Spec:       appsv1.DeploymentSpec{Replicas: &n, Selector: selectorOf(app), Template: template(app)},
		Status:     appsv1.DeploymentStatus{Replicas: n, ReadyReplicas: n, AvailableReplicas: n, UpdatedReplicas: n},
	}
}

func replicaSet(namespace, app string, o, top owner, replicas int) *appsv1.ReplicaSet {
	n := int32(replicas)
	return &appsv1.ReplicaSet{
		TypeMeta: typed("apps/v1", "ReplicaSet"),
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: o.name, UID: o.uid, CreationTimestamp: created, Labels: labelsOf(app), OwnerReferences: top.reference(),
		},
		Spec:   appsv1.ReplicaSetSpec{Replicas: &n, Selector: selectorOf(app), Template: template(app)},
		Status: appsv1.ReplicaSetStatus{Replicas: n, ReadyReplicas: n, AvailableReplicas: n},
	}
}

// budget allows one disruption. All budgets share the label part-of; app tells them apart.
func budget(namespace, app string, pods int) *policyv1.PodDisruptionBudget {
	least := intstr.FromInt32(int32(pods) - 1)
	return &policyv1.PodDisruptionBudget{
		TypeMeta: typed("policy/v1", "PodDisruptionBudget"),
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: app, UID: uid("budget", namespace, app), Generation: 1, CreationTimestamp: created, Labels: labelsOf(app),
		},
		Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &least, Selector: selectorOf(app)},
		Status: policyv1.PodDisruptionBudgetStatus{
			ObservedGeneration: 1, DisruptionsAllowed: 1, ExpectedPods: int32(pods), CurrentHealthy: int32(pods), DesiredHealthy: int32(pods) - 1,
			Conditions: []metav1.Condition{{
				Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionTrue, Reason: policyv1.SufficientPodsReason,
				LastTransitionTime: created, ObservedGeneration: 1,
			}},
		},
	}
}

// pod is a pod as it is found in real clusters: two containers, probes, volumes, the default tolerations.
func pod(namespace, app string, set owner, i, nodes int) *corev1.Pod {
	name := fmt.Sprintf("%s-%s", set.name, suffix(namespace, app, i))
	t := template(app)
	t.Labels["pod-template-hash"] = "6d4cf56db6"
	p := &corev1.Pod{
		TypeMeta: typed("v1", "Pod"),
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, GenerateName: set.name + "-", UID: uid("pod", namespace, name), CreationTimestamp: created,
			Labels: t.Labels, Annotations: t.Annotations, OwnerReferences: set.reference(),
		},
		Spec: t.Spec,
	}
	p.Spec.NodeName = nodeName(int(number(namespace, name) % uint64(nodes)))
	p.Status = status(p)
	return p
}

// suffix is like the five random letters that end a pod's name.
func suffix(namespace, app string, i int) string {
	const letters = "bcdfghjklmnpqrstvwxz2456789"
	h := number(namespace, app, fmt.Sprint(i))
	var s [5]byte
	for j := range s {
		s[j], h = letters[h%uint64(len(letters))], h/uint64(len(letters))
	}
	return string(s[:])
}

func template(app string) corev1.PodTemplateSpec {
	grace, zero, seconds := int64(30), int32(0), int64(300)
	tolerated := func(key string) corev1.Toleration {
		return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds}
	}
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labelsOf(app), Annotations: map[string]string{
			"prometheus.io/scrape": "true", "prometheus.io/port": "9102", "checksum/config": "3b1e5cb3a6b1d8d1b0f0e7a2c7b9f2d4",
		}},
		Spec: corev1.PodSpec{
			Containers:    []corev1.Container{container(app, 8080, true), container("metrics", 9102, false)},
			RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: &grace, DNSPolicy: corev1.DNSClusterFirst,
			ServiceAccountName: app, DeprecatedServiceAccount: app, SchedulerName: corev1.DefaultSchedulerName,
			SecurityContext: &corev1.PodSecurityContext{}, Priority: &zero,
			Tolerations: []corev1.Toleration{tolerated(corev1.TaintNodeNotReady), tolerated(corev1.TaintNodeUnreachable)},
			Volumes: []corev1.Volume{
				{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: app}}}},
				{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			},
		},
	}
}

func container(name string, port int32, probed bool) corev1.Container {
	c := corev1.Container{
		Name: name, Image: "registry.example.com/shop/" + name + ":1.27.3", ImagePullPolicy: corev1.PullIfNotPresent,
		Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: port, Protocol: corev1.ProtocolTCP}},
		Env: []corev1.EnvVar{
			{Name: "LOG_LEVEL", Value: "info"},
			{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"}}},
			{Name: "DATABASE_URL", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: "url"}}},
		},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
		},
		VolumeMounts:             []corev1.VolumeMount{{Name: "config", MountPath: "/etc/app", ReadOnly: true}, {Name: "tmp", MountPath: "/tmp"}},
		TerminationMessagePath:   corev1.TerminationMessagePathDefault,
		TerminationMessagePolicy: corev1.TerminationMessageReadFile,
	}
	if probed {
		c.ReadinessProbe, c.LivenessProbe = probe("/readyz"), probe("/healthz")
	}
	return c
}

func probe(path string) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:   corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("http"), Scheme: corev1.URISchemeHTTP}},
		TimeoutSeconds: 1, PeriodSeconds: 10, SuccessThreshold: 1, FailureThreshold: 3,
	}
}

func status(p *corev1.Pod) corev1.PodStatus {
	s := corev1.PodStatus{
		Phase: corev1.PodRunning, StartTime: &created, QOSClass: corev1.PodQOSBurstable,
		HostIP: "10.0.12.7", HostIPs: []corev1.HostIP{{IP: "10.0.12.7"}}, PodIP: "10.244.3.17", PodIPs: []corev1.PodIP{{IP: "10.244.3.17"}},
	}
	for _, t := range []corev1.PodConditionType{corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		s.Conditions = append(s.Conditions, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: created})
	}
	started := true
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		s.ContainerStatuses = append(s.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, Ready: true, Started: &started,
			ImageID:     "registry.example.com/shop/" + c.Name + "@sha256:0c7c1d3dfbd3e8b5b0f3a1dc9c4fb3be2a2b9ff3c0a1f2f0a1b2c3d4e5f60718",
			ContainerID: "containerd://" + string(uid(p.Namespace, p.Name, c.Name)),
			State:       corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: created}},
		})
	}
	return s
}
