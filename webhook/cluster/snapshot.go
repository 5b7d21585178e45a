package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/pager"

	"github.com/evictgate/evictgate/policies"
)

// Snapshot is a cluster as files describe it.
type Snapshot struct {
	*Store
	// Objects counts the objects that were taken; Skipped those of kinds that decisions do not read.
	Objects, Skipped int
}

// newSnapshot makes an empty store that is filled by add.
func newSnapshot() *Snapshot {
	s := &Store{budgets: newBudgetIndex()}
	for _, kind := range kinds() {
		if x := s.indexerOf(kind); x != nil {
			*x = cache.NewIndexer(cache.MetaNamespaceKeyFunc, indexersFor(kind))
		}
	}
	return &Snapshot{Store: s}
}

// SnapshotOf is a cluster of the objects, which it takes over.
func SnapshotOf(objs ...runtime.Object) (*Snapshot, error) {
	s := newSnapshot()
	for _, obj := range objs {
		if err := s.Put(obj); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// ReadSnapshot reads files as `kubectl get pods,pdb,nodes,deploy,rs,sts,ns -A -o yaml` prints them
// (YAML or JSON, lists or single objects); "-" is stdin.
func ReadSnapshot(files ...string) (*Snapshot, error) {
	s := newSnapshot()
	for _, name := range files {
		data, err := readFile(name)
		if err != nil {
			return nil, fmt.Errorf("read snapshot: %w", err)
		}
		if err := s.add(data); err != nil {
			return nil, fmt.Errorf("read snapshot %s: %w", name, err)
		}
	}
	if s.Objects == 0 {
		return nil, fmt.Errorf("read snapshot %s: no object that a decision reads; make one with: kubectl get pods,pdb,nodes,deploy,rs,sts,ds,ns -A -o yaml", strings.Join(files, ", "))
	}
	return s, nil
}

func readFile(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(name)
}

func (s *Snapshot) add(data []byte) error {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for i := 0; ; i++ {
		var raw runtime.RawExtension
		if err := decoder.Decode(&raw); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("document %d: %w", i+1, err)
		}
		if len(raw.Raw) == 0 || string(raw.Raw) == "null" {
			continue
		}
		if err := s.addObject(raw.Raw); err != nil {
			return fmt.Errorf("document %d: %w", i+1, err)
		}
	}
}

func (s *Snapshot) addObject(raw []byte) error {
	obj, _, err := scheme.Codecs.UniversalDeserializer().Decode(raw, nil, nil)
	if runtime.IsNotRegisteredError(err) {
		s.Skipped++
		return nil
	} else if err != nil {
		return err
	}
	if list, ok := obj.(*corev1.List); ok {
		return s.addList(list)
	}
	if apimeta.IsListType(obj) { // a PodList and the like, as the API server prints it
		return apimeta.EachListItem(obj, s.Put)
	}
	return s.Put(obj)
}

func (s *Snapshot) addList(list *corev1.List) error {
	for i := range list.Items {
		if err := s.addObject(list.Items[i].Raw); err != nil {
			return fmt.Errorf("items[%d]: %w", i, err)
		}
	}
	return nil
}

// Put adds an object or replaces it. It takes the object over; kinds that no decision reads are skipped.
func (s *Snapshot) Put(obj runtime.Object) error {
	if _, err := trim(obj); err != nil {
		return err
	}
	if pdb, ok := obj.(*policyv1.PodDisruptionBudget); ok {
		s.budgets.put(pdb)
		s.Objects++
		return nil
	}
	x := s.indexerOf(obj)
	if x == nil {
		s.Skipped++
		return nil
	}
	s.Objects++
	return (*x).Add(obj)
}

// Remove takes a pod away.
func (s *Snapshot) Remove(pod *corev1.Pod) error { return s.pods.Delete(pod) }

// ReadLive lists what decisions read from a cluster, once; needs says what the policies add to it.
func ReadLive(ctx context.Context, client kubernetes.Interface, needs *policies.Needs) (*Snapshot, error) {
	s := newSnapshot()
	core, apps, batch := client.CoreV1(), client.AppsV1(), client.BatchV1()
	err := errors.Join(
		list(ctx, s, "pods", core.Pods("").List),
		list(ctx, s, "nodes", core.Nodes().List),
		list(ctx, s, "namespaces", core.Namespaces().List),
		list(ctx, s, "replicationcontrollers", core.ReplicationControllers("").List),
		list(ctx, s, "replicasets", apps.ReplicaSets("").List),
		list(ctx, s, "deployments", apps.Deployments("").List),
		list(ctx, s, "statefulsets", apps.StatefulSets("").List),
		list(ctx, s, "daemonsets", apps.DaemonSets("").List),
		list(ctx, s, "jobs", batch.Jobs("").List),
		list(ctx, s, "cronjobs", batch.CronJobs("").List),
		list(ctx, s, "poddisruptionbudgets", client.PolicyV1().PodDisruptionBudgets("").List),
	)
	if needs.Reads("claims") {
		err = errors.Join(err,
			list(ctx, s, "persistentvolumeclaims", core.PersistentVolumeClaims("").List),
			list(ctx, s, "persistentvolumes", core.PersistentVolumes().List),
		)
	}
	return s, err
}

// list puts all objects of one kind into the snapshot, page by page.
func list[L runtime.Object](ctx context.Context, s *Snapshot, what string, page func(context.Context, metav1.ListOptions) (L, error)) error {
	pages := pager.New(func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return page(ctx, o) })
	if err := pages.EachListItem(ctx, metav1.ListOptions{}, s.Put); err != nil {
		return fmt.Errorf("list %s: %w", what, err)
	}
	return nil
}

// GatherSample makes the Input of a suite's case: it is a policies.GatherFunc.
func GatherSample(samples []string, c policies.Case, needs *policies.Needs) (*policies.Input, error) {
	snapshot, err := ReadSnapshot(samples...)
	if err != nil {
		return nil, err
	}
	namespace, name, _ := strings.Cut(c.Evict, "/")
	if _, ok := snapshot.Pod(namespace, name); !ok {
		return nil, fmt.Errorf("the samples have no pod %s", c.Evict)
	}
	user := c.User
	if user == "" {
		user = "admin"
	}
	request := policies.Request{
		UID: "suite", Namespace: namespace, Name: name,
		User:        policies.User{Username: user, Groups: c.Groups},
		Annotations: c.Annotations, DeleteOptions: c.DeleteOptions,
	}
	g := Gatherer{Store: snapshot.Store}
	in, _ := g.Gather(context.Background(), request, needs, c.Now.Time)
	in.History = c.History
	return in, nil
}
