package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/util/retry"
)

const (
	// pollEvery is how often Wait asks.
	pollEvery = 25 * time.Millisecond
	// waitAtMost bounds a Wait whose context has no deadline.
	waitAtMost = 60 * time.Second
)

// Wait asks cond until it says true, or until the context ends, or for a minute when the
// context has no deadline. An error of cond does not end the wait, since a control plane is
// allowed to be away for a while; the last one becomes part of Wait's own error, which says
// what was waited for, and how long.
func Wait(ctx context.Context, what string, cond func(context.Context) (bool, error)) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, waitAtMost)
		defer cancel()
	}
	started := time.Now()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var last error
	for {
		done, err := cond(ctx)
		if done {
			return nil
		}
		if err == nil || ctx.Err() == nil { // an error of the end itself says nothing new
			last = err
		}
		select {
		case <-ctx.Done():
			return waitError(what, started, context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}

func waitError(what string, started time.Time, cause, last error) error {
	err := fmt.Errorf("waited %s for %s: %w", since(started), what, cause)
	if last != nil {
		err = fmt.Errorf("%w (last error: %w)", err, last)
	}
	return err
}

// Kubectl runs kubectl as the administrator and returns what it printed.
func (c *ControlPlane) Kubectl(ctx context.Context, args ...string) (stdout, stderr string, err error) {
	var out, errOut bytes.Buffer
	err = c.KubectlTo(ctx, nil, &out, &errOut, args...)
	return out.String(), errOut.String(), err
}

// KubectlTo runs kubectl as the administrator on the given streams, for what is to be seen
// while it runs. The environment is not the caller's; the context's end kills it.
func (c *ControlPlane) KubectlTo(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, kubectl), args...)
	cmd.Env = append(environment(c.Dir), "KUBECONFIG="+c.Kubeconfig)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	err := c.spawner.start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("kubectl %s: %w", strings.Join(args, " "), errors.Join(err, context.Cause(ctx)))
	}
	return nil
}

// Apply runs kubectl apply on YAML.
func (c *ControlPlane) Apply(ctx context.Context, yaml string) error {
	var stderr bytes.Buffer
	err := c.KubectlTo(ctx, strings.NewReader(yaml), io.Discard, &stderr, "apply", "-f", "-")
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

// InstallCRDs applies config/crd, as somebody who installs Evictgate does, and waits until the API server
// serves what it defines.
func (c *ControlPlane) InstallCRDs(ctx context.Context) error {
	dir := filepath.Join(Root(), "config", "crd")
	for _, args := range [][]string{
		{"apply", "--server-side", "-f", dir},
		{"wait", "--for=condition=Established", "--timeout=30s", "-f", dir},
	} {
		if _, stderr, err := c.Kubectl(ctx, args...); err != nil {
			return fmt.Errorf("install the CRDs: %w: %s", err, strings.TrimSpace(stderr))
		}
	}
	return nil
}

// CreateNodes creates nodes, spread over the zones zone-a, zone-b and zone-c in the order of
// their names' arrival, and with kwok waits until pods can be placed on them. They carry no
// taint of their own, so any manifest can be scheduled.
func (c *ControlPlane) CreateNodes(ctx context.Context, names ...string) error {
	for i, name := range names {
		node := node(name, "zone-"+string(rune('a'+i%3)))
		if _, err := c.Client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create node %s: %w", name, err)
		}
	}
	if !c.options.Kwok {
		return nil
	}
	for _, name := range names {
		if err := Wait(ctx, "node "+name+" to be ready", c.nodeReady(name)); err != nil {
			return err
		}
	}
	return nil
}

func node(name, zone string) *corev1.Node {
	resources := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("64"),
		corev1.ResourceMemory: resource.MustParse("256Gi"),
		corev1.ResourcePods:   resource.MustParse("1000"),
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			Labels: map[string]string{
				corev1.LabelHostname:     name,
				corev1.LabelTopologyZone: zone,
				corev1.LabelOSStable:     "linux",
				corev1.LabelArchStable:   "amd64",
			},
			Annotations: map[string]string{kwokNode: "fake"},
		},
		Status: corev1.NodeStatus{Capacity: resources, Allocatable: resources},
	}
}

// nodeReady: the admission of a node taints it as not ready, and it is a controller that
// takes the taint off.
func (c *ControlPlane) nodeReady(name string) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		node, err := c.Client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		ready := slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		})
		tainted := slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
			return t.Key == corev1.TaintNodeNotReady
		})
		return ready && !tainted, nil
	}
}

// Namespace creates a namespace with a unique name that begins with the prefix, ready for
// pods, and returns its name.
func (c *ControlPlane) Namespace(ctx context.Context, prefix string) (string, error) {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: prefix + "-"}}
	namespace, err := c.Client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("create namespace %s-…: %w", prefix, err)
	}
	if !c.options.Controllers {
		return namespace.Name, nil
	}
	what := "the default service account of namespace " + namespace.Name
	return namespace.Name, Wait(ctx, what, c.serviceAccountReady(namespace.Name))
}

// Deployment builds a Deployment whose pods carry the label app=<name>. The result is the
// caller's to change.
func Deployment(namespace, name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					Containers: []corev1.Container{{Name: "main", Image: "example.com/" + name + ":1"}},
				},
			},
		},
	}
}

// Budget builds a PodDisruptionBudget over the pods with the label app=<name>.
func Budget(namespace, name string, minAvailable intstr.IntOrString) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: &minAvailable,
			Selector:     &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
		},
	}
}

// WaitReady waits until all replicas of a Deployment are ready and no pod of an older
// template is left, and returns its pods, sorted by name.
func (c *ControlPlane) WaitReady(ctx context.Context, namespace, deployment string) ([]corev1.Pod, error) {
	what := fmt.Sprintf("deployment %s/%s to be ready", namespace, deployment)
	err := Wait(ctx, what, func(ctx context.Context) (bool, error) {
		d, err := c.Client.AppsV1().Deployments(namespace).Get(ctx, deployment, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		s := d.Status
		if s.ObservedGeneration < d.Generation || s.Replicas != *d.Spec.Replicas ||
			s.UpdatedReplicas != s.Replicas || s.ReadyReplicas != s.Replicas {
			return false, fmt.Errorf("%d of %d replicas are ready", s.ReadyReplicas, *d.Spec.Replicas)
		}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return c.Pods(ctx, namespace, deployment)
}

// Pods lists the pods with the label app=<app>, sorted by name, the terminating ones too.
func (c *ControlPlane) Pods(ctx context.Context, namespace, app string) ([]corev1.Pod, error) {
	list, err := c.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		return nil, fmt.Errorf("list pods of %s/%s: %w", namespace, app, err)
	}
	return list.Items, nil // the API server lists in the order of the keys
}

// WaitBudget waits until the controller has seen the budget as it is and allows that many
// disruptions.
func (c *ControlPlane) WaitBudget(ctx context.Context, namespace, name string, allowed int32) error {
	what := fmt.Sprintf("budget %s/%s to allow %d disruptions", namespace, name, allowed)
	return Wait(ctx, what, func(ctx context.Context) (bool, error) {
		b, err := c.Client.PolicyV1().PodDisruptionBudgets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		if b.Status.ObservedGeneration < b.Generation || b.Status.DisruptionsAllowed != allowed {
			return false, fmt.Errorf("it allows %d, with %d healthy of %d",
				b.Status.DisruptionsAllowed, b.Status.CurrentHealthy, b.Status.ExpectedPods)
		}
		return true, nil
	})
}

// SetPodReady writes a pod's Ready condition, as a kubelet whose probe passes or fails would.
// kwok makes a Pending pod ready and leaves a Running one alone, so the answer stays.
func (c *ControlPlane) SetPodReady(ctx context.Context, namespace, name string, ready bool) error {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		pod, err := c.Client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		pod.Status.Phase = corev1.PodRunning
		setCondition(pod, corev1.PodReady, status)
		setCondition(pod, corev1.ContainersReady, status)
		for i := range pod.Status.ContainerStatuses {
			pod.Status.ContainerStatuses[i].Ready = ready
		}
		_, err = c.Client.CoreV1().Pods(namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("set pod %s/%s ready=%t: %w", namespace, name, ready, err)
	}
	return nil
}

func setCondition(pod *corev1.Pod, kind corev1.PodConditionType, status corev1.ConditionStatus) {
	condition := corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: metav1.Now()}
	i := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == kind })
	if i < 0 {
		pod.Status.Conditions = append(pod.Status.Conditions, condition)
		return
	}
	pod.Status.Conditions[i] = condition
}
