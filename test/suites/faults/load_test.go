package faults

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	policyv1beta1 "k8s.io/api/policy/v1beta1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/evictgate/evictgate/test/harness/kube"
)

// policy denies and delays by label. The scenarios that reload it change what is not asked for here.
const policy = `package eviction.faults

deny contains {"reason": "this pod stays", "detail": {}} if input.pod.metadata.labels.answer == "denied"

delay contains {"reason": "this pod goes later", "detail": {}} if input.pod.metadata.labels.answer == "delayed"
`

const (
	// clients evict beside each other, each evictEvery; one more evicts burst pods at once, each burstEvery, as
	// a drain does: about 30 evictions a second in all.
	clients    = 4
	evictEvery = 180 * time.Millisecond
	burst      = 10
	burstEvery = time.Second
	// patience is a client's own: longer than an API server that is restarted, or waits for etcd.
	patience = 45 * time.Second
)

// scene are the pods that are evicted again and again, in a namespace of their own.
type scene struct {
	plane     *kube.ControlPlane
	namespace string
	clients   []*kubernetes.Clientset
	// stays are pods that no eviction may delete, by name.
	stays map[string]types.UID
	made  atomic.Int64
}

// newScene makes pods of every kind and the clients' users.
func newScene(t *testing.T, plane *kube.ControlPlane) *scene {
	t.Helper()
	namespace, err := plane.Namespace(t.Context(), "faults")
	must(t, err)
	s := &scene{plane: plane, namespace: namespace, stays: map[string]types.UID{}}
	s.allow(t)
	for i, user := range []string{"alice", "system:serviceaccount:kube-system:cluster-autoscaler", "system:serviceaccount:kube-system:descheduler", "bob"} {
		config, err := plane.UserConfig(user, "evictors", "client-"+fmt.Sprint(i))
		must(t, err)
		client, err := kubernetes.NewForConfig(config)
		must(t, err)
		s.clients = append(s.clients, client)
	}
	for _, label := range []string{"denied", "delayed", "budget", "doubled", "dry"} {
		pod := s.pod(label, map[string]string{"answer": label})
		pod, err := s.create(t.Context(), pod)
		must(t, err)
		s.stays[pod.Name] = pod.UID
	}
	for _, budget := range []string{"budget", "doubled", "doubled"} {
		_, err := plane.Client.PolicyV1().PodDisruptionBudgets(namespace).Create(t.Context(), &policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{GenerateName: budget + "-"},
			Spec: policyv1.PodDisruptionBudgetSpec{
				MinAvailable: new(intstr.FromInt32(1)),
				Selector:     &metav1.LabelSelector{MatchLabels: map[string]string{"answer": budget}},
			},
		}, metav1.CreateOptions{})
		must(t, err)
	}
	return s
}

// allow lets the clients evict, and nothing else: they are under the API server's fairness, as
// administrators are not.
func (s *scene) allow(t *testing.T) {
	t.Helper()
	rbac := s.plane.Client.RbacV1()
	_, err := rbac.ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: s.namespace},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods/eviction"}, Verbs: []string{"create"}}},
	}, metav1.CreateOptions{})
	must(t, err)
	_, err = rbac.ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: s.namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: s.namespace},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "evictors"}},
	}, metav1.CreateOptions{})
	must(t, err)
}

func (s *scene) pod(name string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name, Labels: labels},
		Spec: corev1.PodSpec{
			NodeName: fmt.Sprintf("node-%d", s.made.Add(1)%nodes+1), TerminationGracePeriodSeconds: new(int64(0)),
			Containers: []corev1.Container{{Name: "main", Image: "example.com/main:1"}},
		},
	}
}

// create makes a pod, and waits until it is ready.
func (s *scene) create(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, error) {
	pods := s.plane.Client.CoreV1().Pods(s.namespace)
	if _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	err := kube.Wait(ctx, "pod "+pod.Name+" to be ready", func(ctx context.Context) (bool, error) {
		time.Sleep(100 * time.Millisecond)
		var err error
		pod, err = pods.Get(ctx, pod.Name, metav1.GetOptions{})
		return err == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		}), err
	})
	return pod, err
}

// unharmed reports pods that should be there still and are not.
func (s *scene) unharmed(t *testing.T) {
	t.Helper()
	var gone []string
	err := kube.Wait(t.Context(), "the pods to be read", func(ctx context.Context) (bool, error) {
		gone = nil
		list, err := s.plane.Client.CoreV1().Pods(s.namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		there := map[types.UID]bool{}
		for _, p := range list.Items {
			there[p.UID] = p.DeletionTimestamp == nil
		}
		for name, uid := range s.stays {
			if !there[uid] {
				gone = append(gone, name)
			}
		}
		return true, nil
	})
	must(t, err)
	if len(gone) > 0 {
		t.Errorf("evictions deleted pods that must stay: %s", strings.Join(gone, ", "))
	}
}

// load evicts until it is ended.
type load struct {
	scene  *scene
	stop   context.CancelFunc
	makers sync.WaitGroup
	work   sync.WaitGroup
	ready  chan string

	mu       sync.Mutex
	answers  map[answer]int
	gone     int // pods that were really evicted
	examples map[answer]string
	wrong    []string
	longest  time.Duration
	times    []failure
	began    time.Time
}

// failure is when something else than a decision came, and what.
type failure struct {
	after, took time.Duration
	what        answer
}

// evictAll starts the clients.
func (s *scene) evictAll(t *testing.T) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &load{scene: s, stop: stop, ready: make(chan string, 16), answers: map[answer]int{}, examples: map[answer]string{}, began: time.Now()}
	for range 3 {
		l.makers.Go(func() { l.make(ctx) })
	}
	for i := range clients {
		l.work.Go(func() { l.evict(ctx, i) })
	}
	l.work.Go(func() { l.drain(ctx) })
	t.Cleanup(func() { l.end() })
	return l
}

// make keeps pods ready to be evicted; when the API server is away, it tries again.
func (l *load) make(ctx context.Context) {
	for ctx.Err() == nil {
		name := fmt.Sprintf("free-%d", l.scene.made.Add(1))
		pod, err := l.scene.create(ctx, l.scene.pod(name, map[string]string{"answer": "admitted"}))
		if err != nil {
			time.Sleep(200 * time.Millisecond)
			continue
		}
		select {
		case l.ready <- pod.Name:
		case <-ctx.Done():
		}
	}
}

// step is one eviction and what may come of it when it is decided.
type step struct {
	pod       string
	dry, beta bool
	want      []answer
}

// steps are taken in turn; the pod "" is one that may go.
var steps = []step{
	{pod: "", want: []answer{admitted}},
	{pod: "denied", want: []answer{denied}},
	{pod: "budget", want: []answer{delayed}},
	{pod: "dry", dry: true, want: []answer{admitted}},
	{pod: "denied", beta: true, want: []answer{denied}},
	{pod: "", beta: true, want: []answer{admitted}},
	{pod: "delayed", want: []answer{delayed}},
	{pod: "doubled", want: []answer{misconfigured}},
	{pod: "budget", dry: true, beta: true, want: []answer{delayed}},
	{pod: "delayed", dry: true, want: []answer{delayed}},
}

// evict is what one client does. An eviction that has begun is always waited for.
func (l *load) evict(ctx context.Context, client int) {
	tick := time.NewTicker(evictEvery)
	defer tick.Stop()
	for i := client * 3; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l.take(ctx, client, i)
	}
}

// drain evicts many at once.
func (l *load) drain(ctx context.Context) {
	tick := time.NewTicker(burstEvery)
	defer tick.Stop()
	for i := 0; ; i += burst {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var all sync.WaitGroup
		for j := range burst {
			all.Go(func() { l.take(ctx, j%clients, i+j) })
		}
		all.Wait()
	}
}

// take does one step.
func (l *load) take(ctx context.Context, client, i int) {
	s := steps[i%len(steps)]
	if s.pod == "" {
		select {
		case s.pod = <-l.ready:
		default: // the makers are behind
			return
		}
	}
	began := time.Now()
	l.note(s, began, time.Since(l.began), l.scene.one(context.WithoutCancel(ctx), client, s))
}

func (s *scene) one(ctx context.Context, client int, what step) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	meta := metav1.ObjectMeta{Namespace: s.namespace, Name: what.pod}
	var options *metav1.DeleteOptions
	if what.dry {
		options = &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}
	}
	if what.beta {
		return s.clients[client].PolicyV1beta1().Evictions(s.namespace).Evict(ctx, &policyv1beta1.Eviction{ObjectMeta: meta, DeleteOptions: options})
	}
	return s.clients[client].PolicyV1().Evictions(s.namespace).Evict(ctx, &policyv1.Eviction{ObjectMeta: meta, DeleteOptions: options})
}

func (l *load) note(s step, began time.Time, after time.Duration, err error) {
	took := time.Since(began)
	got := classify(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers[got]++
	if got == admitted && !s.dry {
		l.gone++
	}
	l.longest = max(l.longest, took)
	if !slices.Contains(decisions, got) {
		l.times = append(l.times, failure{after: after, took: took, what: got})
		if l.examples[got] == "" {
			l.examples[got] = err.Error()
		}
		return
	}
	if !slices.Contains(s.want, got) {
		l.wrong = append(l.wrong, fmt.Sprintf("%s (dry run %t): %s: %v", s.pod, s.dry, got, err))
	}
}

// end ends the load.
func (l *load) end() {
	l.stop()
	l.makers.Wait()
	l.work.Wait()
}

// counts are what came so far: all evictions, and what was not a decision.
func (l *load) counts() (all int, others map[answer]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	others = maps.Clone(l.answers)
	for _, n := range others {
		all += n
	}
	maps.DeleteFunc(others, func(a answer, _ int) bool { return slices.Contains(decisions, a) })
	return all, others
}

// decided is how many decisions the gate has answered.
func (l *load) decided() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answers[admitted] + l.answers[delayed] + l.answers[denied] + l.answers[misconfigured]
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
