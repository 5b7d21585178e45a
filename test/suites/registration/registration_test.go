// Package registration removes installations from a real control plane in each way, and looks at what stays
// behind: no webhook configuration may, since it would refuse every eviction.
package registration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/webhook/install/registration"
)

var (
	plane  *kube.ControlPlane
	binary string
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m, setUp)) }

func setUp(ctx context.Context, s *gate.Setup) (err error) {
	binary = s.Binary
	plane, err = s.ControlPlane(ctx, kube.Options{Controllers: true})
	return err
}

// space gives a test a namespace of its own, as an installation has one.
func space(t *testing.T) *corev1.Namespace {
	t.Helper()
	kube.Need(t)
	name, err := plane.Namespace(t.Context(), "installed")
	if err != nil {
		t.Fatal(err)
	}
	return namespaceOf(t, name)
}

func namespaceOf(t *testing.T, name string) *corev1.Namespace {
	t.Helper()
	namespace, err := plane.Client.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return namespace
}

// nobody is a configuration, as a manifest, whose webhook nobody serves.
func nobody(name, victim string) string {
	return `apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: ` + name + `}
webhooks:
- name: evictions.evictgate.dev
  clientConfig: {url: "https://localhost:1/validate-eviction"}
  rules:
  - {apiGroups: [""], apiVersions: [v1], resources: [pods/eviction], operations: [CREATE], scope: Namespaced}
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ` + victim + `}}
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
`
}

func apply(t *testing.T, yaml string, args ...string) {
	t.Helper()
	var out strings.Builder
	if err := plane.KubectlTo(t.Context(), strings.NewReader(yaml), &out, &out, append(args, "-f", "-")...); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
}

func configurationOf(t *testing.T, name string) *admissionregistrationv1.ValidatingWebhookConfiguration {
	t.Helper()
	c, err := plane.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func present(ctx context.Context, name string) (bool, error) {
	_, err := plane.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return true, err
}

func awaitGone(t *testing.T, name string) {
	t.Helper()
	err := kube.Wait(t.Context(), "configuration "+name+" to be removed", func(ctx context.Context) (bool, error) {
		there, err := present(ctx, name)
		return !there, err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// awaitOwner waits until the namespace as it is now is the configuration's only owner.
func awaitOwner(t *testing.T, name string, namespace *corev1.Namespace) {
	t.Helper()
	want := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Namespace", Name: namespace.Name, UID: namespace.UID}}
	err := kube.Wait(t.Context(), "namespace "+namespace.Name+" to own configuration "+name, func(ctx context.Context) (bool, error) {
		c, err := plane.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		diff := cmp.Diff(want, c.OwnerReferences)
		return diff == "", errors.New(diff)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// replica is an Owner that runs, and its log.
type replica struct {
	stop context.CancelFunc
	mu   sync.Mutex
	text strings.Builder
}

func (r *replica) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *replica) log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func run(t *testing.T, client kubernetes.Interface, namespace, configuration string) *replica {
	t.Helper()
	r := new(replica)
	owner := &registration.Owner{Client: client, Namespace: namespace, Configuration: configuration, Log: slog.New(slog.NewTextHandler(r, nil))}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- owner.Start(ctx) }()
	r.stop = cancel
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the owner ended with %v", err)
		}
		if t.Failed() {
			t.Logf("a replica logged:\n%s", r.log())
		}
	})
	return r
}

// evictor tries to evict a pod that does not exist, all the time, and notes how many tries the gate's absence
// blocked, and for how long.
type evictor struct {
	stop    context.CancelFunc
	done    chan struct{}
	tries   int
	blocked int
	first   time.Time
	last    time.Time
	odd     error
}

func evictAllTheTime(t *testing.T, namespace string) *evictor {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	e := &evictor{stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(e.done)
		for ctx.Err() == nil {
			e.try(ctx, namespace)
			time.Sleep(5 * time.Millisecond)
		}
	}()
	t.Cleanup(cancel)
	return e
}

func (e *evictor) try(ctx context.Context, namespace string) {
	err := plane.Client.PolicyV1().Evictions(namespace).Evict(ctx, &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: namespace, Name: "nobody"},
		DeleteOptions: &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}},
	})
	if ctx.Err() != nil {
		return
	}
	e.tries++
	switch {
	case apierrors.IsNotFound(err): // it passed
	case err != nil && strings.Contains(err.Error(), "failed calling webhook"):
		e.last = time.Now()
		if e.blocked++; e.blocked == 1 {
			e.first = e.last
		}
	default:
		e.odd = err
	}
}

func (e *evictor) end(t *testing.T) time.Duration {
	t.Helper()
	e.stop()
	<-e.done
	if e.odd != nil || e.tries == 0 {
		t.Errorf("%d tries, one was answered: %v", e.tries, e.odd)
	}
	return e.last.Sub(e.first)
}

// passes waits until an eviction is answered by the API server itself.
func passes(t *testing.T, namespace string) {
	t.Helper()
	err := kube.Wait(t.Context(), "evictions to pass again", func(ctx context.Context) (bool, error) {
		var e evictor
		e.try(ctx, namespace)
		return e.blocked == 0 && e.odd == nil, e.odd
	})
	if err != nil {
		t.Fatal(err)
	}
}

func victim(t *testing.T) string {
	t.Helper()
	name, err := plane.Namespace(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// The program itself: it stops when its pod would, after the namespace is deleted, and no eviction is blocked.
func TestRemovingTheNamespaceOfARunningInstallationBlocksNoEviction(t *testing.T) {
	namespace, shop := space(t), victim(t)
	g, err := gate.Start(t.Context(), gate.Options{
		Plane: plane, Binary: binary, Name: namespace.Name, CertNamespace: namespace.Name, Namespaces: []string{shop},
		Args: []string{"--own-configuration=true", "--shutdown-delay=1s"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Stop(); err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of evictgate:\n%s", g.Log())
		}
	})
	awaitOwner(t, namespace.Name, namespace)
	// What lies in the namespace may hold its removal up for as long as it likes.
	hold(t, namespace.Name)
	e := evictAllTheTime(t, shop)
	if _, stderr, err := plane.Kubectl(t.Context(), "delete", "namespace", namespace.Name, "--wait=false"); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	if err := g.Terminate(); err != nil {
		t.Errorf("evictgate ended with %v", err)
	}
	time.Sleep(2 * time.Second) // the pods are gone, the namespace is not
	if there, err := present(t.Context(), namespace.Name); !there || err != nil {
		t.Fatalf("the configuration went before the namespace (%v)", err)
	}
	release(t, namespace.Name)
	began := time.Now()
	awaitGone(t, namespace.Name)
	t.Logf("the configuration went %s after the last object in the namespace", time.Since(began).Round(10*time.Millisecond))
	passes(t, shop)
	if e.end(t); e.blocked > 0 {
		t.Errorf("%d of %d evictions were blocked, over %s", e.blocked, e.tries, e.last.Sub(e.first))
	}
	t.Logf("%d evictions, %d of them blocked", e.tries, e.blocked)
}

// hold keeps a namespace from going.
func hold(t *testing.T, namespace string) {
	t.Helper()
	_, err := plane.Client.CoreV1().ConfigMaps(namespace).Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "held", Finalizers: []string{"example.com/held"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func release(t *testing.T, namespace string) {
	t.Helper()
	if _, stderr, err := plane.Kubectl(t.Context(), "-n", namespace, "patch", "configmap", "held", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
}

// All replicas are dead when the namespace is deleted: what they wrote before is enough.
func TestTheGarbageCollectorAloneEndsTheBlockade(t *testing.T) {
	namespace, shop := space(t), victim(t)
	apply(t, nobody(namespace.Name, shop), "apply")
	r := run(t, plane.Client, namespace.Name, namespace.Name)
	awaitOwner(t, namespace.Name, namespace)
	r.stop()
	e := evictAllTheTime(t, shop)
	time.Sleep(100 * time.Millisecond)
	began := time.Now()
	if _, stderr, err := plane.Kubectl(t.Context(), "delete", "namespace", namespace.Name); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	removed := time.Now()
	awaitGone(t, namespace.Name)
	t.Logf("the namespace went %s after the command, the configuration %s later", removed.Sub(began).Round(10*time.Millisecond), time.Since(removed).Round(10*time.Millisecond))
	passes(t, shop)
	if span := e.end(t); e.blocked == 0 || e.last.After(began.Add(30*time.Second)) {
		t.Errorf("%d of %d evictions were blocked, over %s", e.blocked, e.tries, span)
	}
	t.Logf("evictions were blocked until %s after the command", e.last.Sub(began).Round(10*time.Millisecond))
}

func TestReplicasAgreeAndTheOwnerSurvivesWhatIsApplied(t *testing.T) {
	namespace, shop := space(t), victim(t)
	name := namespace.Name
	manifest := nobody(name, shop)
	apply(t, manifest, "apply")
	t.Cleanup(func() {
		_, _, _ = plane.Kubectl(context.Background(), "delete", "validatingwebhookconfiguration", name)
	})
	for range 3 {
		run(t, plane.Client, name, name)
	}
	awaitOwner(t, name, namespace)
	settled := configurationOf(t, name)
	time.Sleep(1500 * time.Millisecond) // longer than the pause after a conflict
	if again := configurationOf(t, name); again.ResourceVersion != settled.ResourceVersion {
		t.Errorf("the replicas go on writing: %+v", again.ManagedFields)
	}
	changed := strings.Replace(manifest, "sideEffects: None", "sideEffects: None\n  timeoutSeconds: 4", 1)
	for how, args := range map[string][]string{
		"on the client's side": {"apply"},
		"on the server's side": {"apply", "--server-side", "--force-conflicts"},
	} {
		apply(t, changed, args...)
		c := configurationOf(t, name)
		if len(c.OwnerReferences) != 1 || c.OwnerReferences[0].UID != namespace.UID || *c.Webhooks[0].TimeoutSeconds != 4 {
			t.Errorf("applied %s: %+v", how, c)
		}
	}
	// What replaces the object drops the owner; it is put back.
	apply(t, manifest, "replace")
	awaitOwner(t, name, namespace)
	// So it is when the object is another one.
	apply(t, manifest, "replace", "--force")
	awaitOwner(t, name, namespace)
	// Owners of others stay, though they were named later.
	other := space(t)
	patch := fmt.Sprintf(`[{"op":"add","path":"/metadata/ownerReferences/-","value":{"apiVersion":"v1","kind":"Namespace","name":%q,"uid":%q}}]`, other.Name, other.UID)
	if _, stderr, err := plane.Kubectl(t.Context(), "patch", "validatingwebhookconfiguration", name, "--type=json", "-p", patch); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	time.Sleep(500 * time.Millisecond)
	if c := configurationOf(t, name); len(c.OwnerReferences) != 2 {
		t.Errorf("owners are %+v", c.OwnerReferences)
	}
}

// Argo CD deletes an Application's objects but for those that have an owner.
func TestWhatArgoCDAppliedHasNoOwner(t *testing.T) {
	namespace, shop := space(t), victim(t)
	name := namespace.Name
	apply(t, nobody(name, shop), "apply")
	t.Cleanup(func() {
		_, _, _ = plane.Kubectl(context.Background(), "delete", "validatingwebhookconfiguration", name)
	})
	r := run(t, plane.Client, name, name)
	awaitOwner(t, name, namespace)
	// As when it takes over what was applied by hand.
	apply(t, nobody(name, shop), "apply", "--server-side", "--force-conflicts", "--field-manager=argocd-controller")
	err := kube.Wait(t.Context(), "the owner to be gone", func(context.Context) (bool, error) {
		owners := configurationOf(t, name).OwnerReferences
		return len(owners) == 0, fmt.Errorf("owners are %+v", owners)
	})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond)
	if c := configurationOf(t, name); len(c.OwnerReferences) > 0 || strings.Count(r.log(), "goes with the namespace no more") != 1 {
		t.Errorf("owners are %+v:\n%s", c.OwnerReferences, r.log())
	}
}

// The garbage collector removes what is owned only by a namespace that is gone, whatever its name. A replica
// that names the new one before it looks saves the configuration.
func TestANamespaceMadeAnewKeepsItsConfiguration(t *testing.T) {
	namespace, shop := space(t), victim(t)
	stale := func(name string) string {
		return strings.Replace(nobody(name, shop), "metadata: {name: "+name+"}",
			"metadata: {name: "+name+", ownerReferences: [{apiVersion: v1, kind: Namespace, name: "+namespace.Name+", uid: 11111111-1111-1111-1111-111111111111}]}", 1)
	}
	if err := plane.Pause(kube.ControllerManager); err != nil {
		t.Fatal(err)
	}
	resume := sync.OnceFunc(func() { _ = plane.Resume(kube.ControllerManager) })
	t.Cleanup(resume)
	kept, lost := namespace.Name, namespace.Name+"-lost"
	apply(t, stale(kept), "apply")
	apply(t, stale(lost), "apply")
	t.Cleanup(func() {
		_, _, _ = plane.Kubectl(context.Background(), "delete", "validatingwebhookconfiguration", kept)
	})
	run(t, plane.Client, namespace.Name, kept)
	awaitOwner(t, kept, namespace)
	resume()
	awaitGone(t, lost) // so the garbage collector has looked
	time.Sleep(time.Second)
	awaitOwner(t, kept, namespace)
}

func TestAnInstallationMadeAnewIsTiedAgain(t *testing.T) {
	namespace, shop := space(t), victim(t)
	manifest := nobody(namespace.Name, shop)
	apply(t, manifest, "apply")
	r := run(t, plane.Client, namespace.Name, namespace.Name) // as an old replica that hangs on
	awaitOwner(t, namespace.Name, namespace)
	if _, stderr, err := plane.Kubectl(t.Context(), "delete", "namespace", namespace.Name); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	awaitGone(t, namespace.Name)
	err := kube.Wait(t.Context(), "the replica to say that it has no configuration", func(context.Context) (bool, error) {
		return strings.Contains(r.log(), "it does not exist, so that no eviction is decided: apply it"), errors.New(r.log())
	})
	if err != nil {
		t.Error(err)
	}
	if _, stderr, err := plane.Kubectl(t.Context(), "create", "namespace", namespace.Name); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	apply(t, manifest, "apply")
	awaitOwner(t, namespace.Name, namespaceOf(t, namespace.Name))
	if n := strings.Count(r.log(), "it does not exist"); n != 1 {
		t.Errorf("told %d times:\n%s", n, r.log())
	}
	if _, _, err := plane.Kubectl(t.Context(), "delete", "namespace", namespace.Name); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, namespace.Name)
}

// asServiceAccount is a client with the rules of an Owner, and further ones.
func asServiceAccount(t *testing.T, plane *kube.ControlPlane, namespace string, rules []rbacv1.PolicyRule) kubernetes.Interface {
	t.Helper()
	user := "system:serviceaccount:" + namespace + ":evictgate"
	meta := metav1.ObjectMeta{GenerateName: "owner-"}
	role, err := plane.Client.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = plane.Client.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: role.Name},
		Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: "rbac.authorization.k8s.io", Name: user}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config := rest.CopyConfig(plane.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:serviceaccounts", "system:authenticated"}}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestTheRulesSuffice(t *testing.T) {
	namespace, shop := space(t), victim(t)
	client := asServiceAccount(t, plane, namespace.Name, registration.Rules(namespace.Name, namespace.Name))
	run(t, client, namespace.Name, namespace.Name)
	apply(t, nobody(namespace.Name, shop), "apply") // later: it is seen by the watch
	awaitOwner(t, namespace.Name, namespace)
	hold(t, namespace.Name)
	if _, stderr, err := plane.Kubectl(t.Context(), "delete", "namespace", namespace.Name, "--wait=false"); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	passes(t, shop)
	release(t, namespace.Name)
	awaitGone(t, namespace.Name)
}

func TestWhereOwnersNeedPermissionToDelete(t *testing.T) {
	kube.Need(t)
	strict, err := kube.Start(t.Context(), kube.Options{Controllers: true, APIServerArgs: []string{"--enable-admission-plugins=OwnerReferencesPermissionEnforcement"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = strict.Stop() })
	shared := plane
	plane = strict
	t.Cleanup(func() { plane = shared })
	namespace := space(t)
	apply(t, nobody(namespace.Name, "shop"), "apply")
	rules := registration.Rules(namespace.Name, namespace.Name)
	r := run(t, asServiceAccount(t, strict, namespace.Name, rules), namespace.Name, namespace.Name)
	err = kube.Wait(t.Context(), "the cure to be logged", func(context.Context) (bool, error) {
		return strings.Contains(r.log(), "and delete where the API server's admission plugin OwnerReferencesPermissionEnforcement is on"), errors.New(r.log())
	})
	if err != nil {
		t.Fatal(err)
	}
	asServiceAccount(t, strict, namespace.Name, []rbacv1.PolicyRule{{
		APIGroups: []string{"admissionregistration.k8s.io"}, Resources: []string{"validatingwebhookconfigurations"},
		ResourceNames: []string{namespace.Name}, Verbs: []string{"delete"},
	}})
	awaitOwner(t, namespace.Name, namespace)
}
