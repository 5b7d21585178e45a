package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"strings"
	"time"

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
	for _, k := range kinds {
		if k.indexer != nil {
			*k.indexer(s) = cache.NewIndexer(cache.MetaNamespaceKeyFunc, maps.Clone(k.indexes))
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
	k := kindOf[reflect.TypeOf(obj)]
	if k == nil {
		s.Skipped++
		return nil
	}
	s.Objects++
	return (*k.indexer(s.Store)).Add(obj)
}

// Remove takes a pod away.
func (s *Snapshot) Remove(pod *corev1.Pod) error { return s.pods.Delete(pod) }

// ReadLive lists what decisions read from a cluster, once; needs says what the policies add to it.
func ReadLive(ctx context.Context, client kubernetes.Interface, needs *policies.Needs) (*Snapshot, error) {
	s := newSnapshot()
	var errs []error
	for _, k := range kinds {
		if !k.wanted(needs) {
			continue
		}
		if err := pager.New(pager.ListPageFunc(k.listWatch(client).ListWithContextFunc)).EachListItem(ctx, metav1.ListOptions{}, s.Put); err != nil {
			errs = append(errs, fmt.Errorf("list %s: %w", k.resource, err))
		}
	}
	return s, errors.Join(errs...)
}

// GatherSample makes the Input of an eviction from sample files: it is a suite.GatherFunc.
func GatherSample(samples []string, r policies.Request, at time.Time, needs *policies.Needs) (*policies.Input, error) {
	snapshot, err := ReadSnapshot(samples...)
	if err != nil {
		return nil, err
	}
	if _, ok := snapshot.Pod(r.Namespace, r.Name); !ok {
		return nil, fmt.Errorf("the samples have no pod %s/%s", r.Namespace, r.Name)
	}
	g := Gatherer{Store: snapshot.Store}
	in, _ := g.Gather(context.Background(), r, needs, at)
	return in, nil
}
