package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/v1alpha1"
	"github.com/evictgate/evictgate/webhook"
	"github.com/evictgate/evictgate/webhook/hooks"
)

var noon = time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)

func notFound(what string) error {
	return apierrors.NewNotFound(schema.GroupResource{Resource: what}, "evictgate")
}

func forbidden(what string) error {
	return apierrors.NewForbidden(schema.GroupResource{Resource: what}, "evictgate", errors.New("not you"))
}

// issue makes a certificate, self-signed unless a parent signs it.
func issue(t *testing.T, from, until time.Time, parent *x509.Certificate, key *ecdsa.PrivateKey, names ...string) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: from, NotAfter: until,
		IsCA: parent == nil, BasicConstraintsValid: true, DNSNames: names,
	}
	if parent == nil {
		parent, key = template, own
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, own.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, own, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// someSecret is the secret part of paths.
const someSecret = "0123456789abcdef0123456789abcdef"

// whole are the facts of an installation in which nothing is wrong.
func whole(t *testing.T) *Facts {
	t.Helper()
	_, _, ca := issue(t, noon.Add(-24*time.Hour), noon.Add(364*24*time.Hour), nil, nil)
	template := map[string]string{"app.kubernetes.io/name": "evictgate"}
	hook := func(name, path, resource string) admissionregistrationv1.ValidatingWebhook {
		path += "/" + someSecret
		return admissionregistrationv1.ValidatingWebhook{
			Name: name, FailurePolicy: new(admissionregistrationv1.Fail), TimeoutSeconds: new(int32(5)),
			SideEffects: new(admissionregistrationv1.SideEffectClassNone), AdmissionReviewVersions: []string{"v1"},
			ClientConfig: admissionregistrationv1.WebhookClientConfig{CABundle: ca, Service: &admissionregistrationv1.ServiceReference{
				Namespace: "evictgate", Name: "evictgate", Path: &path, Port: new(int32(443)),
			}},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{resource}},
			}},
		}
	}
	evictions := hook(hooks.Evictions, hooks.EvictionsPath, "pods/eviction")
	evictions.MatchConditions = []admissionregistrationv1.MatchCondition{{Name: "not-evictgate", Expression: "request.namespace != 'evictgate'"}}
	configuration := &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{
			Name: "evictgate", Annotations: map[string]string{"cert-manager.io/inject-ca-from-secret": "evictgate/evictgate-ca"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "Namespace", Name: "evictgate", UID: "ns"}},
		},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{evictions, hook(hooks.Policies, hooks.PoliciesPath, "evictionpolicies")},
	}
	configuration.Webhooks[1].Rules[0].APIGroups, configuration.Webhooks[1].Rules[0].APIVersions = []string{v1alpha1.Group}, []string{v1alpha1.Version}
	configuration.Webhooks[1].Rules[0].Operations = []admissionregistrationv1.OperationType{"CREATE", "UPDATE"}
	f := &Facts{
		Target: Target{Namespace: "evictgate", Configuration: "evictgate", Name: "evictgate", ProbeNamespace: "default"}, Now: noon,
		ServerAhead: Span{Min: -time.Second, Max: time.Second, Known: true},
	}
	f.Server.Value = &version.Info{Major: "1", Minor: "37", GitVersion: "v1.37.2"}
	f.Configuration.Value = configuration
	f.Configurations.Value = []admissionregistrationv1.ValidatingWebhookConfiguration{*configuration}
	f.Servers.Value = []discoveryv1.EndpointSlice{{Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}}}}}
	f.Namespaces.Value = []corev1.Namespace{named("default", "d"), named("evictgate", "ns"), named("kube-system", "k")}
	f.Service.Value = &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 443}}}}
	f.Secret.Value = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "evictgate", Name: "evictgate-ca"}, Data: map[string][]byte{"tls.crt": ca}}
	f.Deployment.Value = &appsv1.Deployment{
		Spec:   appsv1.DeploymentSpec{Replicas: new(int32(3)), Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: template}, Spec: corev1.PodSpec{ServiceAccountName: "evictgate", PriorityClassName: "system-cluster-critical"}}},
		Status: appsv1.DeploymentStatus{ReadyReplicas: 3, UpdatedReplicas: 3},
	}
	f.Arguments.Value = &Arguments{Cluster: true, CASecret: "evictgate/evictgate-ca", SecretPath: pathKeep}
	for i := range 3 {
		name := fmt.Sprintf("evictgate-%d", i+1)
		f.Pods.Value = append(f.Pods.Value, corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "evictgate", Name: name},
			Spec:       corev1.PodSpec{NodeName: fmt.Sprintf("node-%d", i+1), Containers: []corev1.Container{{Name: "evictgate", Image: "evictgate:1"}}},
			Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
		})
		f.Slices.Value = append(f.Slices.Value, discoveryv1.EndpointSlice{Endpoints: []discoveryv1.Endpoint{{Addresses: []string{name}}}})
		f.Nodes.Value = append(f.Nodes.Value, corev1.Node{})
		f.Probes.Value = append(f.Probes.Value, decided(name, policies.Admitted, "r1", 0))
	}
	f.PDBs.Value = []policyv1.PodDisruptionBudget{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "evictgate", Name: "evictgate"},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: template}},
		Status:     policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: 1, ExpectedPods: 3, CurrentHealthy: 3, DesiredHealthy: 2},
	}}
	f.Access.Value = []Access{{Allowed: true}}
	hold(f)
	f.Policies.Value = []Policy{{Name: "night", Ready: "True"}}
	return f
}

// hold has the policy hold the service account to what it writes.
func hold(f *Facts) {
	f.Beyond.Value = beyond("evictgate")
	for i, a := range f.Beyond.Value {
		if a.Name == "evictgate" && a.Verb == "patch" {
			f.Beyond.Value[i].Allowed = true
			f.Access.Value = append(f.Access.Value, f.Beyond.Value[i])
		}
	}
	rule := admissionregistrationv1.RuleWithOperations{
		Operations: []admissionregistrationv1.OperationType{"UPDATE"},
		Rule:       admissionregistrationv1.Rule{APIGroups: []string{"admissionregistration.k8s.io"}, APIVersions: []string{"v1"}, Resources: []string{"validatingwebhookconfigurations"}},
	}
	f.Guard.Value = &admissionregistrationv1.ValidatingAdmissionPolicy{Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: rule, ResourceNames: []string{"evictgate"}}}},
		MatchConditions:  []admissionregistrationv1.MatchCondition{{Name: "by-the-replicas", Expression: "request.userInfo.username == 'system:serviceaccount:evictgate:evictgate'"}},
		Validations:      []admissionregistrationv1.Validation{{Expression: "false"}},
	}}
	f.Bindings.Value = []admissionregistrationv1.ValidatingAdmissionPolicyBinding{{Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName: "evictgate", ParamRef: &admissionregistrationv1.ParamRef{Name: "evictgate"}, ValidationActions: []admissionregistrationv1.ValidationAction{"Deny"},
	}}}
}

// addGate adds the configuration of another installation.
func addGate(f *Facts, name, namespace string) {
	c := f.Configuration.Value.DeepCopy()
	c.Name, c.Webhooks[0].ClientConfig.Service.Namespace = name, namespace
	f.Configurations.Value = append(f.Configurations.Value, *c)
}

func onOneNode(f *Facts) {
	for i := range f.Pods.Value {
		f.Pods.Value[i].Spec.NodeName = "node-1"
	}
}

func named(name, uid string) corev1.Namespace {
	n := corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelMetadataName: name}}}
	n.UID = "ns"
	if uid != "ns" {
		n.UID = "other"
	}
	return n
}

// decided is a probe that a replica answered, its clock ahead by an offset.
func decided(replica string, outcome policies.Outcome, revision string, offset time.Duration) Probe {
	return Probe{
		Sent: noon, Received: noon.Add(3 * time.Millisecond), Code: http.StatusNotFound, Message: `pods "evictgate-doctor" not found`,
		Explanation: &webhook.Explanation{Outcome: outcome, Revision: revision, Replica: replica, Now: noon.Add(offset)},
	}
}

func failed(code int32, message string) Probe {
	return Probe{Sent: noon, Received: noon.Add(time.Millisecond), Code: code, Message: message}
}

func TestNothingIsWrong(t *testing.T) {
	for _, f := range Examine(whole(t)) {
		if f.Bad() || f.Status == NotChecked {
			t.Errorf("%+v", f)
		}
	}
}

// What has ended is not a replica that should answer.
func TestPodsThatHaveEndedAreNotMissed(t *testing.T) {
	for _, phase := range []corev1.PodPhase{corev1.PodFailed, corev1.PodSucceeded} {
		f := whole(t)
		f.Pods.Value = append(f.Pods.Value, corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "evicted"}, Status: corev1.PodStatus{Phase: phase, Reason: "Evicted"}})
		if list := Examine(f); Bad(list) {
			t.Errorf("%s: %+v", phase, list)
		}
	}
}

// Each case changes one fact of a whole installation.
func TestWhatIsWrongIsSaid(t *testing.T) {
	hook := func(f *Facts) *admissionregistrationv1.ValidatingWebhook { return &f.Configuration.Value.Webhooks[0] }
	_, _, expired := issue(t, noon.Add(-48*time.Hour), noon.Add(-time.Hour), nil, nil)
	_, _, ending := issue(t, noon.Add(-99*time.Hour), noon.Add(time.Hour), nil, nil)
	root := func(left time.Duration) []byte {
		_, _, ca := issue(t, noon.Add(left-10*365*24*time.Hour), noon.Add(left), nil, nil)
		return ca
	}
	_, _, other := issue(t, noon.Add(-time.Hour), noon.Add(99*time.Hour), nil, nil)
	for name, c := range map[string]struct {
		change func(*Facts)
		check  string
		status Status
		text   string
	}{
		"an old API server": {func(f *Facts) { f.Server.Value.Minor = "29+" }, "server", Warning, "the manifests are for 1.30"},
		"no permission to read the configuration": {func(f *Facts) {
			f.Configuration = Fact[*admissionregistrationv1.ValidatingWebhookConfiguration]{Err: forbidden("v")}
		},
			"configuration", NotChecked, "no permission: "},
		"a webhook of another name": {func(f *Facts) { hook(f).Name = "x" }, "configuration", Problem, "has no webhook evictions.evictgate.dev"},
		"scope Cluster":             {func(f *Facts) { hook(f).Rules[0].Scope = new(admissionregistrationv1.ClusterScope) }, "configuration.rules", Problem, "no rule"},
		"the operation UPDATE":      {func(f *Facts) { hook(f).Rules[0].Operations[0] = "UPDATE" }, "configuration.rules", Problem, "no rule"},
		"another group":             {func(f *Facts) { hook(f).Rules[0].APIGroups = []string{"policy"} }, "configuration.rules", Problem, "no rule"},
		"all resources":             {func(f *Facts) { hook(f).Rules[0].Resources = []string{"*/*"} }, "configuration.rules", Problem, "match more"},
		"some namespaces are exempt": {func(f *Facts) {
			hook(f).NamespaceSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: []string{"kube-system"}}}}
		}, "configuration.exempt", Note, "by its namespaceSelector in kube-system (1 of 3)"},
		"all namespaces are exempt": {func(f *Facts) {
			hook(f).NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"evict": "gated"}}
		}, "configuration.exempt", Problem, "(evict=gated) selects none of 3 namespaces: no eviction is decided"},
		"the default timeout":   {func(f *Facts) { hook(f).TimeoutSeconds = nil }, "configuration.timeoutSeconds", Warning, "10, the default"},
		"no path":               {func(f *Facts) { hook(f).ClientConfig.Service.Path = nil }, "configuration.path", Problem, `path "/"`},
		"an owner that is gone": {func(f *Facts) { f.Configuration.Value.OwnerReferences[0].UID = "old" }, "configuration.owner", Problem, "that is gone"},
		"no owner":              {func(f *Facts) { f.Configuration.Value.OwnerReferences = nil }, "configuration.owner", Note, "belongs to no namespace"},
		"no owner, by Argo CD": {func(f *Facts) {
			f.Configuration.Value.OwnerReferences = nil
			f.Configuration.Value.Annotations = map[string]string{"argocd.argoproj.io/tracking-id": "gate:admissionregistration.k8s.io/ValidatingWebhookConfiguration:/evictgate"}
		}, "configuration.owner", OK, "goes with its Argo CD application"},
		"another webhook is asked, too": {func(f *Facts) {
			c := f.Configuration.Value.DeepCopy()
			c.Name, c.Webhooks[0].Name = "other", "guard.example"
			f.Configurations.Value = append(f.Configurations.Value, *c)
		}, "configuration.others", Note, "guard.example of other"},
		"another gate is asked, too": {func(f *Facts) { addGate(f, "old", "gates") }, "configuration.others", Warning,
			"ValidatingWebhookConfiguration old has webhook evictions.evictgate.dev, too: the API server asks two gates"},
		"another gate does not answer": {func(f *Facts) {
			addGate(f, "old", "gates")
			f.Probes.Value = []Probe{failed(500, `failed calling webhook "evictions.evictgate.dev": failed to call webhook: Post "https://evictgate.gates.svc:443/validate-eviction?timeout=5s": service "evictgate" not found`)}
		}, "gate", Problem, "the API server cannot ask another gate, which ValidatingWebhookConfiguration old names: failed calling"},
		"a gate that no configuration names any more": {func(f *Facts) {
			f.Probes.Value = []Probe{failed(500, `failed calling webhook "evictions.evictgate.dev": failed to call webhook: Post "https://evictgate.gates.svc:443/validate-eviction?timeout=5s": EOF`)}
		}, "gate", Problem, "the API server cannot ask another gate, at evictgate.gates.svc:443: failed calling"},
		"the configuration has another name": {func(f *Facts) {
			addGate(f, "gate", "gates")
			f.Configuration = Fact[*admissionregistrationv1.ValidatingWebhookConfiguration]{Err: notFound("v")}
		}, "configuration", Problem, "evictgate does not exist; webhook evictions.evictgate.dev is in gate"},
		"an unready endpoint":        {func(f *Facts) { f.Slices.Value[0].Endpoints[0].Conditions.Ready = new(false) }, "service", Warning, "has 2 ready endpoints for 3 ready pods"},
		"a caBundle that is not PEM": {func(f *Facts) { hook(f).ClientConfig.CABundle = []byte("x") }, "certificate.caBundle", Problem, "cannot be read: it holds something else"},
		"a caBundle that has ended":  {func(f *Facts) { hook(f).ClientConfig.CABundle = expired }, "certificate.caBundle", Problem, "the last ended at 2026-11-02T11:00:00Z"},
		"a caBundle that ends soon":  {func(f *Facts) { hook(f).ClientConfig.CABundle = ending }, "certificate.caBundle", Warning, "nothing has renewed it"},
		"a caBundle of a company's root, in its last years": {func(f *Facts) {
			f.Configuration.Value.Annotations = nil
			hook(f).ClientConfig.CABundle = root(31 * 24 * time.Hour)
		}, "certificate.caBundle", OK, "has 1 valid CA, until"},
		"a caBundle of a company's root, in its last month": {func(f *Facts) {
			f.Configuration.Value.Annotations = nil
			hook(f).ClientConfig.CABundle = root(29 * 24 * time.Hour)
		}, "certificate.caBundle", Warning, "nothing has renewed it"},
		"our own CA, where it should have been renewed": {func(f *Facts) { hook(f).ClientConfig.CABundle = root(31 * 24 * time.Hour) }, "certificate.caBundle", Warning, "nothing has renewed it"},
		"the API server's own CA": {func(f *Facts) {
			f.Configuration.Value.Annotations = map[string]string{"cert-manager.io/inject-apiserver-ca": "true"}
		}, "certificate.secret", Problem, "annotation cert-manager.io/inject-apiserver-ca brings the API server's own CA into the caBundle"},
		"a caBundle of another CA": {func(f *Facts) { hook(f).ClientConfig.CABundle = other }, "certificate.secret", Problem, "does not hold the CA of Secret evictgate/evictgate-ca"},
		"a rotation": {func(f *Facts) {
			hook(f).ClientConfig.CABundle = slices.Concat(expired, other, hook(f).ClientConfig.CABundle)
		},
			"certificate.caBundle", OK, "has 2 valid CAs"},
		"no Secret":                       {func(f *Facts) { f.Secret = Fact[*corev1.Secret]{Err: notFound("secrets")} }, "certificate.secret", Problem, "the first replica makes it"},
		"no permission to see the Secret": {func(f *Facts) { f.Secret = Fact[*corev1.Secret]{Err: forbidden("secrets")} }, "certificate.secret", NotChecked, "no permission"},
		"an empty Secret":                 {func(f *Facts) { f.Secret.Value.Data = nil }, "certificate.secret", Problem, "it holds no certificate"},
		"a Certificate that is not ready": {func(f *Facts) {
			f.Configuration.Value.Annotations = map[string]string{"cert-manager.io/inject-ca-from": "evictgate/evictgate"}
			f.Certificate.Value = &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"conditions": []any{
				map[string]any{"type": "Ready", "status": "False", "message": "Issuer evictgate not found"},
			}}}}
		}, "certificate.cert-manager", Problem, "Issuer evictgate not found"},
		"a quota forbids all pods": {func(f *Facts) {
			f.Pods.Value, f.Deployment.Value.Status.ReadyReplicas = nil, 0
			f.Deployment.Value.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Message: "exceeded quota"}}
		}, "replicas", Problem, "none of 3 replicas is ready: exceeded quota"},
		"a quota forbids one pod": {func(f *Facts) {
			f.Deployment.Value.Status.ReadyReplicas = 2
			f.Deployment.Value.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Message: "exceeded quota"}}
		}, "replicas", Warning, "2 of 3 replicas are ready: exceeded quota"},
		"no pod has come for long": {func(f *Facts) {
			f.Pods.Value, f.Deployment.Value.Status.ReadyReplicas = nil, 0
			f.Deployment.Value.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Message: "timed out"}}
		}, "replicas", Problem, "none of 3 replicas is ready: timed out"},
		"no pod, and no reason":  {func(f *Facts) { f.Pods.Value, f.Deployment.Value.Status.ReadyReplicas = nil, 0 }, "replicas", Problem, "none of 3 replicas is ready: there is no pod"},
		"two of three are ready": {func(f *Facts) { f.Deployment.Value.Status.ReadyReplicas = 2 }, "replicas", Warning, "2 of 3 replicas are ready"},
		"one replica only": {func(f *Facts) {
			f.Deployment.Value.Spec.Replicas, f.Deployment.Value.Status.ReadyReplicas = new(int32(1)), 1
		}, "replicas", Warning, "one replica only"},
		"an update is under way": {func(f *Facts) { f.Deployment.Value.Status.UpdatedReplicas = 1 }, "replicas", Note, "1 of 3 replicas are of the new template"},
		"a pod waits for its image, and its log says more": {func(f *Facts) {
			f.Pods.Value[0].Status = corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}}}
			f.Logs = map[string]string{"evictgate-1": "{\"level\":\"INFO\",\"msg\":\"not ready\",\"why\":\"no Secret\"}\n{\"level\":\"INFO\",\"msg\":\"serving\"}\n"}
		}, "replicas.pods", Warning, "pod evictgate-1 is not ready: CrashLoopBackOff; its log says: not ready: no Secret"},
		"different images": {func(f *Facts) { f.Pods.Value[1].Spec.Containers[0].Image = "evictgate:2" }, "replicas.images", Warning, "evictgate:1, evictgate:2"},
		"all on one node":  {onOneNode, "replicas.spread", Warning, "all 3 replicas are on node node-1"},
		"all on one node of others that take no pods": {func(f *Facts) {
			onOneNode(f)
			f.Nodes.Value[1].Spec.Unschedulable = true
			f.Nodes.Value[2].Spec.Taints = []corev1.Taint{{Key: "node-role.kubernetes.io/control-plane", Effect: corev1.TaintEffectNoSchedule}}
		}, "replicas.spread", Note, "node node-1, the only one that takes them"},
		"all on the one node of their kind": {func(f *Facts) {
			onOneNode(f)
			f.Deployment.Value.Spec.Template.Spec.NodeSelector = map[string]string{corev1.LabelOSStable: "linux"}
			f.Nodes.Value[0].Labels = map[string]string{corev1.LabelOSStable: "linux"}
		}, "replicas.spread", Note, "the only one that takes them"},
		"all on one node, and others may not be seen": {func(f *Facts) {
			onOneNode(f)
			f.Nodes = Fact[[]corev1.Node]{Err: forbidden("nodes")}
		}, "replicas.spread", Note, "whether others would take them is not known: no permission"},
		"no priority": {func(f *Facts) { f.Deployment.Value.Spec.Template.Spec.PriorityClassName = "" }, "replicas.priority", Warning, "no priorityClassName"},
		"two budgets": {func(f *Facts) { f.PDBs.Value = append(f.PDBs.Value, f.PDBs.Value[0]) }, "budget", Problem, "2 PodDisruptionBudgets"},
		"outside the cluster": {func(f *Facts) {
			hook(f).ClientConfig = admissionregistrationv1.WebhookClientConfig{URL: new("https://gate.example/validate-eviction"), CABundle: hook(f).ClientConfig.CABundle}
			f.Deployment = Fact[*appsv1.Deployment]{Err: notFound("deployments")}
		}, "replicas", NotChecked, "the gate runs outside the cluster"},
		"undecided":             {func(f *Facts) { f.Probes.Value[0].Explanation.Outcome = policies.Undecided }, "gate", Problem, "1 of 3 dry-run evictions were left undecided"},
		"one of three not seen": {func(f *Facts) { f.Probes.Value = f.Probes.Value[1:] }, "gate.replicas", Note, "2 of 3 ready replicas answered 2 tries"},
		"two revisions":         {func(f *Facts) { f.Probes.Value[0].Explanation.Revision = "r2" }, "gate.revision", Warning, "revisions r1, r2"},
		"no permission to evict": {func(f *Facts) {
			f.Probes.Value = []Probe{failed(403, `pods "x" is forbidden: User "u" cannot create resource "pods/eviction"`)}
		}, "gate", NotChecked, "ask for create on pods/eviction"},
		"no such namespace": {func(f *Facts) { f.Probes.Value = []Probe{failed(404, `namespaces "default" not found`)} }, "gate", NotChecked, "--probe-namespace"},
		"nobody explains": {func(f *Facts) {
			hook(f).MatchConditions = nil
			f.Probes.Value = []Probe{failed(404, `pods "evictgate-doctor" not found`)}
		}, "gate", Problem, "evictions in namespace default pass undecided: what answers is not a replica"},
		"a condition may leave them out": {func(f *Facts) { f.Probes.Value = []Probe{failed(404, `pods "evictgate-doctor" not found`)} },
			"gate", Problem, "pass undecided: a matchCondition leaves them out (not-evictgate: request.namespace != 'evictgate'), or what answers"},
		"with Ignore, a condition may leave them out": {func(f *Facts) {
			hook(f).FailurePolicy = new(admissionregistrationv1.Ignore)
			f.Probes.Value = []Probe{failed(404, `pods "evictgate-doctor" not found`)}
		}, "gate", Problem, "the API server gets no answer and failurePolicy is Ignore, or a matchCondition leaves them out"},
		"with Ignore, the answer took too long": {func(f *Facts) {
			hook(f).FailurePolicy = new(admissionregistrationv1.Ignore)
			p := failed(404, `pods "evictgate-doctor" not found`)
			p.Received = p.Sent.Add(5 * time.Second)
			f.Probes.Value = []Probe{p}
		}, "gate", Problem, "evictions pass undecided: no answer came in time within timeoutSeconds 5, and failurePolicy is Ignore"},
		"three API servers":               {func(f *Facts) { f.Servers = f.Slices }, "gate", OK, "; of 3 API servers only those that were reached are tested"},
		"no webhook for EvictionPolicies": {func(f *Facts) { f.Configuration.Value.Webhooks = f.Configuration.Value.Webhooks[:1] }, "configuration.policies", Warning, "are stored unchecked"},
		"EvictionPolicies are sent to another path": {func(f *Facts) {
			*f.Configuration.Value.Webhooks[1].ClientConfig.Service.Path = "/validate"
		}, "configuration.policies", Problem, "asks evictgate.evictgate.svc:443/validate about EvictionPolicies, and the replicas answer at evictgate.evictgate.svc:443/validate-evictionpolicy"},
		"EvictionPolicies are sent to another Service": {func(f *Facts) {
			f.Configuration.Value.Webhooks[1].ClientConfig.Service.Name = "other"
		}, "configuration.policies", Problem, "asks other.evictgate.svc:443/validate-evictionpolicy"},
		"EvictionPolicies are not checked when they change": {func(f *Facts) {
			f.Configuration.Value.Webhooks[1].Rules[0].Operations = []admissionregistrationv1.OperationType{"CREATE"}
		}, "configuration.policies", Warning, "do not match CREATE and UPDATE"},
		"a matchCondition that fails": {func(f *Facts) {
			f.Probes.Value = []Probe{failed(403, `pods "x" is forbidden: expression 'object.spec' resulted in error: no such key: spec`)}
		}, "gate", Problem, "a matchCondition of the webhook cannot be evaluated"},
		"another gate decides, and this one does not answer": {func(f *Facts) {
			f.Probes.Value[0].Message = `failed calling webhook "evictions.evictgate.dev": EOF`
		}, "gate", Problem, "1 of 3 dry-run evictions did not pass"},
		"no answer":                 {func(f *Facts) { f.Probes.Value = []Probe{failed(0, "EOF")} }, "gate", Problem, "the API server gives no answer"},
		"another webhook refuses":   {func(f *Facts) { f.Probes.Value = []Probe{failed(403, `admission webhook "x" denied the request: no`)} }, "gate", Problem, "the API server answers 403"},
		"a replica's clock is fast": {func(f *Facts) { f.Probes.Value[1] = decided("evictgate-2", policies.Admitted, "r1", 5*time.Second) }, "clock", Warning, "replica evictgate-2 is at least 4s ahead of the API server's"},
		"this machine's clock":      {func(f *Facts) { f.ServerAhead = Span{Min: -9 * time.Second, Max: -8 * time.Second, Known: true} }, "clock", Warning, "the API server's clock is at least 8s behind this machine's"},
		"a right that is missing": {func(f *Facts) {
			f.Access.Value = nil
			for _, verb := range []string{"get", "list", "watch"} {
				a := Access{For: []string{"EvictionPolicy/disks"}}
				a.Verb, a.Resource = verb, "persistentvolumes"
				f.Access.Value = append(f.Access.Value, a)
			}
		}, "access", Problem, "system:serviceaccount:evictgate:evictgate may not get, list, watch persistentvolumes; needed by EvictionPolicy/disks"},
		"no permission to ask about rights": {func(f *Facts) { f.Access = Fact[[]Access]{Err: forbidden("subjectaccessreviews")} }, "access", NotChecked, "ask for create on subjectaccessreviews"},
		"the arguments are not understood":  {func(f *Facts) { f.Access = Fact[[]Access]{Err: errors.New("no container has the argument serve")} }, "access", NotChecked, "no container has the argument serve"},
		"no permission to see the Deployment": {func(f *Facts) {
			f.Deployment, f.Access.Value = Fact[*appsv1.Deployment]{Err: forbidden("deployments")}, nil
		}, "access", NotChecked, "is not known: no permission"},
		"policies from elsewhere": {func(f *Facts) { f.Arguments.Value.Elsewhere = []string{"oci://registry/policies"} }, "access", OK,
			"may do all 2 things that serving needs, beside what policies from oci://registry/policies may read"},
		"a broken policy":                {func(f *Facts) { f.Policies.Value[0] = Policy{Name: "night", Ready: "False", Message: "3:7: no\nsuch"} }, "policies", Problem, "EvictionPolicy night is not in force: 3:7: no such"},
		"a policy nobody saw":            {func(f *Facts) { f.Policies.Value[0] = Policy{Name: "night", Changed: noon.Add(-time.Hour)} }, "policies", Warning, "no replica has looked at EvictionPolicy night as it is now"},
		"a policy that has just changed": {func(f *Facts) { f.Policies.Value[0] = Policy{Name: "night", Changed: noon.Add(-time.Second)} }, "policies", Note, "has no status yet"},
		"policies that nobody serves":    {func(f *Facts) { f.Arguments.Value.Cluster = false }, "policies", Warning, "none of 1 EvictionPolicies is in force"},
		"no CustomResourceDefinition":    {func(f *Facts) { f.Policies = Fact[[]Policy]{Err: notFound("evictionpolicies")} }, "policies", Problem, "a replica with --policies=cluster that starts now never gets ready"},
		"no CustomResourceDefinition is needed": {func(f *Facts) {
			f.Policies, f.Arguments.Value.Cluster = Fact[[]Policy]{Err: notFound("evictionpolicies")}, false
		}, "policies", Note, "is not installed"},
		"time ran out":                           {func(f *Facts) { f.Late = true }, "timeout", Warning, "time ran out"},
		"time ran out before anything was tried": {func(f *Facts) { f.Probes = Fact[[]Probe]{Err: context.DeadlineExceeded} }, "gate", NotChecked, "time ran out"},
		"endpoints of two address families": {func(f *Facts) {
			f.Slices.Value = slices.Concat(f.Slices.Value, f.Slices.Value)
		}, "service", OK, "has 3 ready endpoints"},
		"a Service that is another name": {func(f *Facts) {
			f.Service.Value.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "gate.example"}
			f.Slices.Value = nil
		}, "service", Note, "is another name of gate.example"},
	} {
		t.Run(name, func(t *testing.T) {
			f := whole(t)
			c.change(f)
			list := Examine(f)
			i := slices.IndexFunc(list, func(f Finding) bool {
				return f.Check == c.check && f.Status == c.status && strings.Contains(f.Text, c.text)
			})
			if i < 0 {
				t.Fatalf("no finding %q of %s with %q in %+v", c.status, c.check, c.text, list)
			}
			if list[i].Bad() != (list[i].Cure != "") {
				t.Errorf("status %s and cure %q", list[i].Status, list[i].Cure)
			}
		})
	}
}

// What to do depends on more than the check; an empty command is that only words are safe.
func TestTheCommandFitsTheCause(t *testing.T) {
	byHand := func(f *Facts) {
		f.Configuration.Value.Annotations = nil
		f.Configuration.Value.Webhooks[0].ClientConfig.CABundle = nil
	}
	for name, c := range map[string]struct {
		change         func(*Facts)
		check, command string
	}{
		"no pod is made":               {func(f *Facts) { f.Pods.Value, f.Deployment.Value.Status.ReadyReplicas = nil, 0 }, "replicas", "kubectl -n evictgate describe replicasets"},
		"pods are there and not ready": {func(f *Facts) { f.Deployment.Value.Status.ReadyReplicas = 0 }, "replicas", "kubectl -n evictgate describe pods"},
		"another gate":                 {func(f *Facts) { addGate(f, "old", "gates") }, "configuration.others", "kubectl delete validatingwebhookconfiguration old"},
		"the configuration has another name": {func(f *Facts) {
			addGate(f, "gate", "gates")
			f.Configuration = Fact[*admissionregistrationv1.ValidatingWebhookConfiguration]{Err: notFound("v")}
		}, "configuration", ""},
		"the replicas keep a CA, and nobody writes it": {byHand, "certificate.caBundle", "kubectl annotate validatingwebhookconfiguration evictgate cert-manager.io/inject-ca-from-secret=evictgate/evictgate-ca"},
		"the CA's Secret has another name": {func(f *Facts) { byHand(f); f.Arguments.Value.CASecret = "gates/ca" },
			"certificate.caBundle", "kubectl annotate validatingwebhookconfiguration evictgate cert-manager.io/inject-ca-from-secret=gates/ca"},
		"certificates from files": {func(f *Facts) { byHand(f); f.Arguments.Value = &Arguments{CertDir: "/certs"} }, "certificate.caBundle", ""},
		"no budget, with Helm": {func(f *Facts) {
			f.PDBs.Value = nil
			f.Deployment.Value.Annotations = map[string]string{"meta.helm.sh/release-name": "a", "meta.helm.sh/release-namespace": "b"}
		}, "budget", "helm upgrade a config/helm/evictgate --namespace b --reuse-values"},
		"no budget, in another namespace": {func(f *Facts) { f.PDBs.Value = nil; f.Namespace = "gates" }, "budget", ""},
		"no budget, where failures pass": {func(f *Facts) {
			f.PDBs.Value = nil
			f.Configuration.Value.Webhooks[0].FailurePolicy = new(admissionregistrationv1.Ignore)
		}, "budget", "kubectl apply -k config/overlays/ignore"},
		"no budget, and all is as it comes": {func(f *Facts) { f.PDBs.Value = nil }, "budget", "kubectl apply -k config/default"},
	} {
		t.Run(name, func(t *testing.T) {
			f := whole(t)
			c.change(f)
			list := Examine(f)
			i := slices.IndexFunc(list, func(f Finding) bool { return f.Check == c.check && f.Bad() })
			if i < 0 {
				t.Fatalf("nothing is wrong with %s in %+v", c.check, list)
			}
			if list[i].Command != c.command || list[i].Cure == "" {
				t.Errorf("got %+v, want command %q", list[i], c.command)
			}
		})
	}
}

// The words are those of the API server and of Go's TLS, as the tests on a real one see them.
func TestAFailedCallIsExplained(t *testing.T) {
	prefix := `Internal error occurred: failed calling webhook "evictions.evictgate.dev": failed to call webhook: Post "https://evictgate.evictgate.svc:443/validate-eviction?timeout=5s": `
	for message, want := range map[string]string{
		`dial tcp 10.0.0.1:443: connect: connection refused`:                                               "nothing listens at the address",
		`no endpoints available for service "evictgate"`:                                                   "no replica is ready",
		`service "evictgate" not found`:                                                                    "the Service does not exist",
		`no service port 444 found for service "evictgate"`:                                                "the Service lacks the port",
		`tls: failed to verify certificate: x509: certificate signed by unknown authority`:                 "it does not trust the certificate",
		`tls: failed to verify certificate: x509: certificate is valid for a, not evictgate.evictgate.svc`: "the serving certificate is for another name",
		`tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 2026-11-02T12:00:00Z is after 2026-11-02T11:00:00Z`:  "the serving certificate has ended",
		`tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 2026-11-02T12:00:00Z is before 2026-11-02T13:00:00Z`: "the serving certificate is not valid yet",
		`remote error: tls: internal error`:               "the replica has no certificate to serve yet",
		`remote error: tls: certificate required`:         "the replica asks for a client certificate (--client-ca), and does not take what the API server shows",
		`remote error: tls: expired certificate`:          "the certificate that the API server shows (--client-ca) has expired",
		`context deadline exceeded`:                       "no answer came in time",
		`Address is not allowed`:                          "the cloud's API server does not reach addresses of pods",
		`No agent available`:                              "the tunnel from the API server into the cluster is down",
		`dial tcp: lookup gate.example: no such host`:     "the host in the webhook's URL is not known",
		`http: server gave HTTP response to HTTPS client`: "what answers there speaks no TLS",
		`EOF`:            "the connection ended before the answer",
		`something else`: "it failed",
	} {
		t.Run(message, func(t *testing.T) {
			f := whole(t)
			f.Probes.Value = []Probe{failed(500, prefix+message)}
			for _, found := range Examine(f) {
				if found.Check == "gate" && strings.HasPrefix(found.Text, "the API server cannot ask the gate: "+want+" (") && found.Cure != "" {
					return
				}
			}
			t.Errorf("not explained as %q: %+v", want, Examine(f))
		})
	}
}
