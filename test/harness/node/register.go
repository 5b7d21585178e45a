//go:build linux

package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// beat is how often a node renews its lease, and leaseLife for how long it is good, as a kubelet's.
	beat      = 10 * time.Second
	leaseLife = 40
	// leases is the namespace of the nodes' leases.
	leases = "kube-node-lease"
)

func nodeResources() corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("8"),
		corev1.ResourceMemory:           resource.MustParse("16Gi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
		corev1.ResourcePods:             resource.MustParse("110"),
	}
}

func (a *Agent) register(ctx context.Context, name, zone string) error {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
		corev1.LabelHostname: name, corev1.LabelTopologyZone: zone, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
	}}}
	if _, err := a.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("register node %s: %w", name, err)
	}
	return a.sayReady(ctx, name)
}

// sayReady writes the whole status of a node.
func (a *Agent) sayReady(ctx context.Context, name string) error {
	_, port, err := net.SplitHostPort(a.server.address())
	if err != nil {
		return err
	}
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		return err
	}
	now := metav1.Now()
	condition := func(kind corev1.NodeConditionType, status corev1.ConditionStatus, reason string) corev1.NodeCondition {
		return corev1.NodeCondition{Type: kind, Status: status, Reason: reason, LastHeartbeatTime: now, LastTransitionTime: now}
	}
	status := corev1.NodeStatus{
		Capacity: nodeResources(), Allocatable: nodeResources(),
		// No host name: the API server would prefer it, and nobody could resolve it.
		Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: a.options.Network.Gateway()}},
		Conditions: []corev1.NodeCondition{
			condition(corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory"),
			condition(corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure"),
			condition(corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID"),
			condition(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady"),
		},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: int32(number)}},
		NodeInfo:        corev1.NodeSystemInfo{OperatingSystem: "linux", Architecture: "amd64", KubeletVersion: "evictgate-test", ContainerRuntimeVersion: "evictgate-test"},
	}
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	if _, err := a.client.CoreV1().Nodes().Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		return fmt.Errorf("write the status of node %s: %w", name, err)
	}
	return nil
}

// heartbeat renews the lease of a node until the agent stops, and says that the node is ready when the
// node lifecycle controller doubted it. While the API server is away it goes on trying.
func (a *Agent) heartbeat(name string) {
	for {
		err := a.renew(a.ctx, name)
		if err == nil && !a.ready(a.ctx, name) {
			err = a.sayReady(a.ctx, name)
		}
		pause := beat
		if err != nil {
			pause = time.Second
		}
		select {
		case <-a.ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (a *Agent) renew(ctx context.Context, name string) error {
	client := a.client.CoordinationV1().Leases(leases)
	lease, err := client.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}}
		lease.Spec = coordinationv1.LeaseSpec{HolderIdentity: &name, LeaseDurationSeconds: new(int32(leaseLife)), RenewTime: new(metav1.NowMicro())}
		_, err = client.Create(ctx, lease, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	lease.Spec.RenewTime = new(metav1.NowMicro())
	_, err = client.Update(ctx, lease, metav1.UpdateOptions{})
	return err
}

func (a *Agent) ready(ctx context.Context, name string) bool {
	node, err := a.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	return err == nil && slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// waitReady waits until pods can be scheduled to all nodes: a node is created with a taint, which a
// controller takes off when it sees the status.
func (a *Agent) waitReady(ctx context.Context) error {
	for _, name := range a.nodes {
		for {
			node, err := a.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
			if err == nil && !slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeNotReady }) {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("wait for node %s: %w", name, context.Cause(ctx))
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}
