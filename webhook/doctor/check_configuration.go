package doctor

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/evictgate/evictgate/policies/v1alpha1"
	"github.com/evictgate/evictgate/webhook"
)

// policiesHook is the webhook that checks EvictionPolicies before they are stored.
const policiesHook = "policies.evictgate.dev"

// oldest is the first minor version of Kubernetes 1 that the manifests work with: preStop's sleep and
// matchConditions.
const oldest = 30

func checkServer(f *Facts, l *findings) {
	minor, err := strconv.Atoi(strings.TrimRight(f.Server.Value.Minor, "+"))
	if err != nil || f.Server.Value.Major != "1" || minor >= oldest {
		l.ok("server", "the API server answers, version %s", f.Server.Value.GitVersion)
		return
	}
	l.warn("server", "the API server is of version %s; the manifests are for 1.%d and newer", f.Server.Value.GitVersion, oldest).
		cure("upgrade Kubernetes")
}

// checkConfiguration looks at what makes the API server call.
func checkConfiguration(f *Facts, l *findings) {
	const check = "configuration"
	switch {
	case f.Configuration.missing():
		l.problem(check, "ValidatingWebhookConfiguration %s does not exist: the API server asks nobody about evictions", f.Target.Configuration).
			cure("apply the manifests again, or name the configuration by --webhook-configuration").run("kubectl apply -k config/default")
		return
	case f.Configuration.Err != nil:
		l.skip(check, "%s", f.Configuration.why())
		return
	}
	hook := f.hook(webhook.Name)
	if hook == nil {
		l.problem(check, "ValidatingWebhookConfiguration %s has no webhook %s: the API server asks nobody about evictions", f.Target.Configuration, webhook.Name).
			cure("apply the manifests again").run("kubectl apply -k config/default")
		return
	}
	l.ok(check, "ValidatingWebhookConfiguration %s has webhook %s", f.Target.Configuration, webhook.Name)
	checkRules(hook, l)
	checkScope(f, hook, l)
	checkCall(hook, l)
	checkPoliciesHook(f, l)
}

// hook is a webhook of the configuration; nil when there is none.
func (f *Facts) hook(name string) *admissionregistrationv1.ValidatingWebhook {
	if f.Configuration.Value == nil {
		return nil
	}
	for i, hook := range f.Configuration.Value.Webhooks {
		if hook.Name == name {
			return &f.Configuration.Value.Webhooks[i]
		}
	}
	return nil
}

// evictionRule is what the rule of the eviction webhook has to be.
const evictionRule = `{apiGroups: [""], apiVersions: [v1], resources: [pods/eviction], operations: [CREATE], scope: Namespaced}`

func checkRules(hook *admissionregistrationv1.ValidatingWebhook, l *findings) {
	const check = "configuration.rules"
	matching := slices.ContainsFunc(hook.Rules, matchesEvictions)
	wide := slices.ContainsFunc(hook.Rules, matchesMore)
	switch {
	case !matching:
		l.problem(check, "no rule of %s matches CREATE of pods/eviction: no eviction is decided", hook.Name).
			cure("make its rule %s, or apply the manifests again", evictionRule).run("kubectl apply -k config/default")
	case wide:
		l.problem(check, "the rules of %s match more than CREATE of pods/eviction; all else is refused as a bad request", hook.Name).
			cure("make its only rule %s", evictionRule)
	default:
		l.ok(check, "CREATE of pods/eviction is matched, and nothing else")
	}
}

// matchesEvictions does what the API server does with a rule:
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/staging/src/k8s.io/apiserver/pkg/admission/plugin/webhook/predicates/rules/rules.go
func matchesEvictions(r admissionregistrationv1.RuleWithOperations) bool {
	has := func(list []string, names ...string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return slices.Contains(names, s) })
	}
	operation := slices.ContainsFunc(r.Operations, func(o admissionregistrationv1.OperationType) bool {
		return o == admissionregistrationv1.Create || o == admissionregistrationv1.OperationAll
	})
	return operation && has(r.APIGroups, "", "*") && has(r.APIVersions, "v1", "*") &&
		has(r.Resources, "pods/eviction", "pods/*", "*/eviction", "*/*") &&
		(r.Scope == nil || *r.Scope != admissionregistrationv1.ClusterScope)
}

func matchesMore(r admissionregistrationv1.RuleWithOperations) bool {
	return !slices.Equal(r.Resources, []string{"pods/eviction"}) ||
		!slices.Equal(r.Operations, []admissionregistrationv1.OperationType{admissionregistrationv1.Create}) ||
		!slices.Equal(r.APIGroups, []string{""})
}

// checkScope says which evictions are not asked about.
func checkScope(f *Facts, hook *admissionregistrationv1.ValidatingWebhook, l *findings) {
	if !isEmpty(hook.ObjectSelector) {
		l.problem("configuration.objectSelector", "%s has an objectSelector: it matches the labels of the Eviction, which the client chooses", hook.Name).
			cure("remove it; select by namespace instead").
			run("kubectl edit validatingwebhookconfiguration %s", f.Target.Configuration)
	}
	var parts []string
	if exempt, all := f.exempt(hook); len(exempt) > 0 {
		parts = append(parts, fmt.Sprintf("by its namespaceSelector in %s (%d of %d)", some(exempt, 5), len(exempt), all))
	} else if !isEmpty(hook.NamespaceSelector) {
		parts = append(parts, "where its namespaceSelector ("+metav1.FormatLabelSelector(hook.NamespaceSelector)+") says so")
	}
	for _, c := range hook.MatchConditions {
		parts = append(parts, fmt.Sprintf("where matchCondition %s is false: %s", c.Name, c.Expression))
	}
	const check = "configuration.exempt"
	if len(parts) == 0 {
		l.ok(check, "no namespace is exempt")
	} else {
		l.note(check, "evictions are not decided %s", strings.Join(parts, "; "))
	}
	if f.inCluster() && !f.exemptsItself(hook) {
		l.warn("configuration.own", "namespace %s of the gate itself is not exempt: when no replica answers, its own pods cannot be moved", f.Namespace).
			cure("add to %s the matchCondition {name: not-evictgate, expression: \"request.namespace != '%s'\"}", hook.Name, f.Namespace)
	}
}

func isEmpty(s *metav1.LabelSelector) bool {
	return s == nil || len(s.MatchLabels)+len(s.MatchExpressions) == 0
}

// exempt names the namespaces that the webhook's selector leaves out, of all.
func (f *Facts) exempt(hook *admissionregistrationv1.ValidatingWebhook) (names []string, all int) {
	selector, err := metav1.LabelSelectorAsSelector(hook.NamespaceSelector)
	if err != nil || isEmpty(hook.NamespaceSelector) {
		return nil, 0
	}
	for _, n := range f.Namespaces.Value {
		if !selector.Matches(labels.Set(n.Labels)) {
			names = append(names, n.Name)
		}
	}
	return names, len(f.Namespaces.Value)
}

// exemptsItself is generous with conditions, which only the API server can evaluate.
func (f *Facts) exemptsItself(hook *admissionregistrationv1.ValidatingWebhook) bool {
	if exempt, _ := f.exempt(hook); slices.Contains(exempt, f.Namespace) || f.Namespaces.Err != nil {
		return true
	}
	return slices.ContainsFunc(hook.MatchConditions, func(c admissionregistrationv1.MatchCondition) bool {
		return strings.Contains(c.Expression, f.Namespace)
	})
}

// inCluster reports whether the API server calls a Service.
func (f *Facts) inCluster() bool {
	hook := f.hook(webhook.Name)
	return hook == nil || hook.ClientConfig.Service != nil
}

// checkCall looks at how the API server calls, and what it does without an answer.
func checkCall(hook *admissionregistrationv1.ValidatingWebhook, l *findings) {
	if hook.FailurePolicy != nil && *hook.FailurePolicy == admissionregistrationv1.Ignore {
		l.note("configuration.failurePolicy", "failurePolicy is Ignore: when no replica answers, evictions pass undecided")
	} else {
		l.ok("configuration.failurePolicy", "failurePolicy is Fail: when no replica answers, evictions are refused")
	}
	const timeout = "configuration.timeoutSeconds"
	switch seconds := hook.TimeoutSeconds; {
	case seconds == nil || *seconds > 5:
		l.warn(timeout, "timeoutSeconds is %s: an eviction that runs into the API server's own limit may use up its budget without deleting the pod", orDefault(seconds)).
			cure("set it to 5")
	default:
		l.ok(timeout, "timeoutSeconds is %d", *seconds)
	}
	if s := hook.SideEffects; s != nil && *s != admissionregistrationv1.SideEffectClassNone {
		l.warn("configuration.sideEffects", "sideEffects is %s; deciding has none", *s).cure("set it to None")
	}
	if !slices.Contains(hook.AdmissionReviewVersions, "v1") {
		l.warn("configuration.admissionReviewVersions", "admissionReviewVersions are %s; the current one is missing", strings.Join(hook.AdmissionReviewVersions, ", ")).cure("set them to [v1]")
	}
	if path := pathOf(hook.ClientConfig); path != webhook.Path {
		l.problem("configuration.path", "the API server calls path %q, where evictions are not decided", path).cure("set the path to %s", webhook.Path)
	}
}

func orDefault(seconds *int32) string {
	if seconds == nil {
		return "10, the default"
	}
	return strconv.Itoa(int(*seconds))
}

// pathOf is the path that is called.
func pathOf(c admissionregistrationv1.WebhookClientConfig) string {
	switch {
	case c.Service != nil && c.Service.Path != nil:
		return *c.Service.Path
	case c.URL != nil:
		if u, err := url.Parse(*c.URL); err == nil {
			return u.Path
		}
	}
	return "/"
}

func checkPoliciesHook(f *Facts, l *findings) {
	const check = "configuration.policies"
	switch {
	case f.Policies.Err != nil && !f.Policies.missing():
		return // whether there are EvictionPolicies is not known, which the check of them says
	case f.hook(policiesHook) != nil:
		l.ok(check, "webhook %s checks EvictionPolicies before they are stored", policiesHook)
	case len(f.Policies.Value) > 0:
		l.warn(check, "there is no webhook %s: EvictionPolicies are stored unchecked, and a broken one shows in its status only", policiesHook).
			cure("apply the manifests again").run("kubectl apply -k config/default")
	}
}

// checkOwner tells what would stay behind when the namespace is deleted.
func checkOwner(f *Facts, l *findings) {
	const check = "configuration.owner"
	if f.Configuration.Value == nil || !f.inCluster() {
		return
	}
	i := slices.IndexFunc(f.Namespaces.Value, func(n corev1.Namespace) bool { return n.Name == f.Namespace })
	for _, owner := range f.Configuration.Value.OwnerReferences {
		if owner.Kind != "Namespace" || owner.Name != f.Namespace {
			continue
		}
		if i >= 0 && f.Namespaces.Value[i].UID != owner.UID {
			l.problem(check, "the configuration belongs to a namespace %s that is gone; the garbage collector may remove it", f.Namespace).
				cure("see that a replica runs: it names the namespace of today").run("kubectl -n %s get pods", f.Namespace)
			return
		}
		l.ok(check, "the configuration goes with namespace %s", f.Namespace)
		return
	}
	l.note(check, "the configuration belongs to no namespace: remove it by hand before the rest, or it blocks evictions when the replicas are gone")
}

// checkOthers names other webhooks that are asked about evictions.
func checkOthers(f *Facts, l *findings) {
	const check = "configuration.others"
	if f.Configurations.Err != nil {
		l.skip(check, "%s", f.Configurations.why())
		return
	}
	var others []string
	for _, c := range f.Configurations.Value {
		for _, hook := range c.Webhooks {
			if c.Name != f.Target.Configuration && slices.ContainsFunc(hook.Rules, matchesEvictions) {
				others = append(others, hook.Name+" of "+c.Name)
			}
		}
	}
	slices.Sort(others)
	if len(others) > 0 {
		l.note(check, "the API server asks about evictions also: %s; each may refuse them", some(others, 5))
	}
}

// some names the first of a list, and how many more there are.
func some(list []string, n int) string {
	if len(list) <= n {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:n], ", "), len(list)-n)
}

// checkService follows the way to the replicas.
func checkService(f *Facts, l *findings) {
	const check = "service"
	hook := f.hook(webhook.Name)
	if hook == nil {
		return
	}
	to := hook.ClientConfig.Service
	if to == nil {
		l.note(check, "the API server calls %s: the gate runs outside the cluster, or its address is fixed", *hook.ClientConfig.URL)
		return
	}
	name := to.Namespace + "/" + to.Name
	switch {
	case f.Service.missing():
		l.problem(check, "Service %s, which the API server calls, does not exist", name).
			cure("apply the manifests again, or correct the webhook's clientConfig").run("kubectl apply -k config/default")
		return
	case f.Service.Err != nil:
		l.skip(check, "%s", f.Service.why())
		return
	}
	port := int32(443)
	if to.Port != nil {
		port = *to.Port
	}
	if !slices.ContainsFunc(f.Service.Value.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == port }) {
		l.problem(check, "Service %s has no port %d, which the API server calls", name, port).cure("correct the port of the Service or of the webhook's clientConfig")
		return
	}
	checkEndpoints(f, name, l)
}

func checkEndpoints(f *Facts, name string, l *findings) {
	const check = "service"
	if f.Slices.Err != nil {
		l.skip(check, "%s", f.Slices.why())
		return
	}
	ready := 0
	for _, s := range f.Slices.Value {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				ready += len(e.Addresses)
			}
		}
	}
	switch wanted := len(f.readyPods()); {
	case ready == 0:
		l.problem(check, "Service %s has no ready endpoint: nobody answers the API server", name).
			cure("see why the pods are not ready, and that the Service selects them").
			run("kubectl -n %s get pods,endpointslices", f.Namespace)
	case ready < wanted:
		l.warn(check, "Service %s has %d ready %s for %d ready pods", name, ready, plural("endpoint", ready), wanted).
			cure("wait a moment; if it stays, see that the Service selects all pods")
	default:
		l.ok(check, "Service %s has %d ready %s", name, ready, plural("endpoint", ready))
	}
}

func plural(word string, n int) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// resource is that of EvictionPolicies, as kubectl takes it.
const resource = v1alpha1.Resource + "." + v1alpha1.Group
