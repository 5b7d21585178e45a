package doctor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/evictgate/evictgate/certs"
	"github.com/evictgate/evictgate/policies/v1alpha1"
	"github.com/evictgate/evictgate/webhook/hooks"
)

// Reader reads an installation. Make it with NewReader.
type Reader struct {
	Target
	// Arguments reads those of a Deployment's replicas.
	Arguments func(*appsv1.Deployment) (*Arguments, error)
	// Needed lists what the replicas of a Deployment must be allowed.
	Needed func(context.Context, *appsv1.Deployment) ([]Access, error)

	config  *rest.Config
	client  kubernetes.Interface
	dynamic dynamic.Interface
	dates   *dates
}

// NewReader reads by config, which it copies.
func NewReader(config *rest.Config, target Target) (*Reader, error) {
	r := &Reader{Target: target, dates: new(dates)}
	config = rest.CopyConfig(config)
	config.QPS = -1
	config.WarningHandlerWithContext = hearing{}
	config.Wrap(r.dates.observe)
	r.config = config
	var err error
	if r.client, err = kubernetes.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	r.dynamic, err = dynamic.NewForConfig(config)
	return r, err
}

// Read gathers the Facts. It fails only when the API server cannot be asked at all, or ctx is cancelled; when its time
// is over, what was not read by then is unknown.
func (r *Reader) Read(ctx context.Context) (*Facts, error) {
	f := &Facts{Target: r.Target, Now: time.Now(), Logs: map[string]string{}}
	if err := r.reach(ctx, f); err != nil {
		return nil, err
	}
	r.readConfiguration(ctx, f)
	r.readWorkload(ctx, f)
	pause(ctx, unsettled(f.readyPods(), time.Now()))
	r.readService(ctx, f)
	r.readCertificate(ctx, f)
	r.readPolicies(ctx, f)
	r.readAccess(ctx, f)
	r.readGrants(ctx, f)
	r.probe(ctx, f)
	f.ServerAhead = r.dates.ahead()
	if f.Late = errors.Is(ctx.Err(), context.DeadlineExceeded); f.Late {
		return f, nil
	}
	return f, ctx.Err()
}

// settling is how long the endpoint of a pod that has become ready may take to reach Service and API server;
// whoever asks at the end of a rollout would be told of a lack that is none.
const settling = 4 * time.Second

// unsettled is how much of that is left for the pod that became ready last.
func unsettled(ready []corev1.Pod, now time.Time) time.Duration {
	var latest time.Time
	for i := range ready {
		if c := readiness(&ready[i]); c != nil && c.LastTransitionTime.After(latest) {
			latest = c.LastTransitionTime.Time
		}
	}
	return max(0, min(settling, latest.Add(settling).Sub(now)))
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// reach asks for what every user may see.
func (r *Reader) reach(ctx context.Context, f *Facts) error {
	raw, err := r.client.Discovery().RESTClient().Get().AbsPath("/version").DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("ask the API server: %w", err)
	}
	f.Server.Value = new(version.Info)
	if err := json.Unmarshal(raw, f.Server.Value); err != nil {
		return fmt.Errorf("ask the API server: what answers is none: %w", err)
	}
	return nil
}

func fact[T any](value T, err error) Fact[T] {
	if err != nil {
		return Fact[T]{Err: err}
	}
	return Fact[T]{Value: value}
}

func (r *Reader) readConfiguration(ctx context.Context, f *Facts) {
	hooks := r.client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	f.Configuration = fact(hooks.Get(ctx, r.Target.Configuration, metav1.GetOptions{}))
	all, err := hooks.List(ctx, metav1.ListOptions{})
	f.Configurations = fact(all.Items, err)
	r.readMutating(ctx, f)
	namespaces, err := r.client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	f.Namespaces = fact(namespaces.Items, err)
	f.Servers = r.slices(ctx, metav1.NamespaceDefault, "kubernetes")
	f.settle()
}

// readMutating reads what changes objects before they are decided, and what holds the service account.
func (r *Reader) readMutating(ctx context.Context, f *Facts) {
	api := r.client.AdmissionregistrationV1()
	mutating, err := api.MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	f.Mutating = fact(mutating.Items, err)
	changing, err := api.MutatingAdmissionPolicies().List(ctx, metav1.ListOptions{})
	f.MutatingPolicies = fact(changing.Items, err)
	f.Guard = fact(api.ValidatingAdmissionPolicies().Get(ctx, standard, metav1.GetOptions{}))
	bindings, err := api.ValidatingAdmissionPolicyBindings().List(ctx, metav1.ListOptions{})
	f.Bindings = fact(bindings.Items, err)
}

// settle decides what the user left open.
func (f *Facts) settle() {
	hook := f.hook(hooks.Evictions)
	if f.Namespace == "" && hook != nil && hook.ClientConfig.Service != nil {
		f.Namespace = hook.ClientConfig.Service.Namespace
	}
	f.Namespace = cmp.Or(f.Namespace, standard)
	f.ProbeNamespace = cmp.Or(f.ProbeNamespace, f.decidedNamespace())
}

// decidedNamespace is one in which evictions are decided as far as selectors say, `default` before others.
func (f *Facts) decidedNamespace() string {
	hook := f.hook(hooks.Evictions)
	if hook == nil {
		return metav1.NamespaceDefault
	}
	exempt, _ := f.exempt(hook)
	if !slices.Contains(exempt, metav1.NamespaceDefault) {
		return metav1.NamespaceDefault
	}
	for _, n := range f.Namespaces.Value {
		if n.DeletionTimestamp == nil && n.Name != f.Namespace && !slices.Contains(exempt, n.Name) {
			return n.Name
		}
	}
	return metav1.NamespaceDefault
}

func (r *Reader) slices(ctx context.Context, namespace, service string) Fact[[]discoveryv1.EndpointSlice] {
	list, err := r.client.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{
		LabelSelector: labels.Set{discoveryv1.LabelServiceName: service}.String(),
	})
	return fact(list.Items, err)
}

func (r *Reader) readService(ctx context.Context, f *Facts) {
	hook := f.hook(hooks.Evictions)
	if hook == nil || hook.ClientConfig.Service == nil {
		return
	}
	to := hook.ClientConfig.Service
	f.Service = fact(r.client.CoreV1().Services(to.Namespace).Get(ctx, to.Name, metav1.GetOptions{}))
	f.Slices = r.slices(ctx, to.Namespace, to.Name)
}

// readCertificate follows the configuration's annotations, or else the replicas' arguments.
func (r *Reader) readCertificate(ctx context.Context, f *Facts) {
	if f.Configuration.Value == nil {
		return
	}
	by, from := f.injection()
	if from == "" {
		from = f.servedSecret()
	}
	namespace, name, err := cache.SplitMetaNamespaceKey(from)
	if from == "" || err != nil {
		return
	}
	if by == certs.FromCertificate {
		certificates := r.dynamic.Resource(cmapi.SchemeGroupVersion.WithResource("certificates")).Namespace(namespace)
		f.Certificate = fact(certificates.Get(ctx, name, metav1.GetOptions{}))
		if f.Certificate.Err != nil {
			f.Secret.Err = f.Certificate.Err
			return
		}
		name, _, _ = unstructured.NestedString(f.Certificate.Value.Object, "spec", "secretName")
	}
	f.Secret = fact(r.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{}))
}

func (r *Reader) readWorkload(ctx context.Context, f *Facts) {
	f.Deployment = fact(r.client.AppsV1().Deployments(f.Namespace).Get(ctx, r.Name, metav1.GetOptions{}))
	if f.Deployment.Value == nil {
		return
	}
	f.Arguments = fact(r.Arguments(f.Deployment.Value))
	selector := metav1.FormatLabelSelector(f.Deployment.Value.Spec.Selector)
	pods, err := r.client.CoreV1().Pods(f.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	f.Pods = fact(pods.Items, err)
	pdbs, err := r.client.PolicyV1().PodDisruptionBudgets(f.Namespace).List(ctx, metav1.ListOptions{})
	f.PDBs = fact(pdbs.Items, err)
	nodes, err := r.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{Limit: maxNodes})
	f.Nodes = fact(nodes.Items, err)
	r.readLogs(ctx, f)
}

const (
	// maxNodes is how many are looked at; two that can be used are surely among them.
	maxNodes = 500
	// logLines are read of a pod that is not ready, and logPatience is for all of them.
	logLines    = 40
	logPatience = 3 * time.Second
)

// readLogs reads what it can in a short time: logs only add to what is found.
func (r *Reader) readLogs(ctx context.Context, f *Facts) {
	ctx, cancel := context.WithTimeout(ctx, logPatience)
	defer cancel()
	pods := f.unreadyPods()
	logs := make([]string, len(pods))
	atOnce(len(pods), func(i int) { logs[i] = r.log(ctx, &pods[i]) })
	for i := range pods {
		f.Logs[pods[i].Name] = logs[i]
	}
}

// log is empty where it cannot be read.
func (r *Reader) log(ctx context.Context, p *corev1.Pod) string {
	raw, err := r.client.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{Container: r.Name, TailLines: new(int64(logLines))}).DoRaw(ctx)
	if err != nil {
		return ""
	}
	return string(raw)
}

func (r *Reader) readPolicies(ctx context.Context, f *Facts) {
	resource := schema.GroupVersionResource{Group: v1alpha1.Group, Version: v1alpha1.GroupVersion().Version, Resource: v1alpha1.Resource}
	list, err := r.dynamic.Resource(resource).List(ctx, metav1.ListOptions{})
	if err != nil {
		f.Policies.Err = err
		return
	}
	for i := range list.Items {
		f.Policies.Value = append(f.Policies.Value, policyOf(&list.Items[i]))
	}
}

// maxAtOnce bounds the questions in flight.
const maxAtOnce = 8

// atOnce does something n times, some of them at the same time.
func atOnce(n int, do func(i int)) {
	var doing sync.WaitGroup
	room := make(chan struct{}, maxAtOnce)
	for i := range n {
		doing.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			do(i)
		})
	}
	doing.Wait()
}

// readAccess asks for everything that serving needs whether the service account may.
func (r *Reader) readAccess(ctx context.Context, f *Facts) {
	if f.Deployment.Value == nil {
		return
	}
	if f.Access = fact(r.Needed(ctx, f.Deployment.Value)); f.Access.Err != nil {
		return
	}
	f.Access.Err = r.ask(ctx, f, f.Access.Value)
	f.Beyond.Value = beyond(f.Target.Configuration)
	f.Beyond.Err = r.ask(ctx, f, f.Beyond.Value)
}

// ask completes what is asked about the service account.
func (r *Reader) ask(ctx context.Context, f *Facts, list []Access) error {
	errs := make([]error, len(list))
	atOnce(len(list), func(i int) {
		list[i].Allowed, errs[i] = r.may(ctx, f, list[i].ResourceAttributes)
	})
	return cmp.Or(errs...)
}

// readGrants reads who may what, in the cluster and in the namespace.
func (r *Reader) readGrants(ctx context.Context, f *Facts) {
	rbac := r.client.RbacV1()
	clusterRoles, err1 := rbac.ClusterRoles().List(ctx, metav1.ListOptions{})
	clusterBindings, err2 := rbac.ClusterRoleBindings().List(ctx, metav1.ListOptions{})
	roles, err3 := rbac.Roles(f.Namespace).List(ctx, metav1.ListOptions{})
	bindings, err4 := rbac.RoleBindings(f.Namespace).List(ctx, metav1.ListOptions{})
	f.Grants = Fact[Grants]{
		Value: Grants{clusterRoles.Items, clusterBindings.Items, roles.Items, bindings.Items},
		Err:   cmp.Or(err1, err2, err3, err4),
	}
}

// may asks about the service account.
func (r *Reader) may(ctx context.Context, f *Facts, what authorizationv1.ResourceAttributes) (bool, error) {
	review, err := r.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User: "system:serviceaccount:" + f.Namespace + ":" + f.serviceAccount(), ResourceAttributes: &what,
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + f.Namespace, "system:authenticated"},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	return review.Status.Allowed, nil
}
