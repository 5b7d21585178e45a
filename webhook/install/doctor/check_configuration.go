package doctor

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/policies/v1alpha1"
	"github.com/evictgate/evictgate/webhook/hooks"
	"github.com/evictgate/evictgate/webhook/install/registration"
)

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
	switch others := f.others(""); {
	case f.Configuration.missing() && len(others) > 0:
		l.problem(check, "ValidatingWebhookConfiguration %s does not exist; webhook %s is in %s", f.Target.Configuration, hooks.Evictions, some(others, 5)).
			cure("if that is the installation you mean, name it by --webhook-configuration %s", others[0])
		return
	case f.Configuration.missing():
		f.reapply(l.problem(check, "ValidatingWebhookConfiguration %s does not exist: the API server asks nobody about evictions", f.Target.Configuration),
			"name the configuration by --webhook-configuration, or %s")
		return
	case f.Configuration.Err != nil:
		l.skip(check, "%s", f.Configuration.why())
		return
	}
	hook := f.hook(hooks.Evictions)
	if hook == nil {
		f.reapply(l.problem(check, "ValidatingWebhookConfiguration %s has no webhook %s: the API server asks nobody about evictions", f.Target.Configuration, hooks.Evictions), "%s")
		return
	}
	l.ok(check, "ValidatingWebhookConfiguration %s has webhook %s", f.Target.Configuration, hooks.Evictions)
	checkRules(f, hook, l)
	checkScope(f, hook, l)
	checkCall(hook, l)
	checkPoliciesHook(f, hook, l)
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

func checkRules(f *Facts, hook *admissionregistrationv1.ValidatingWebhook, l *findings) {
	const check = "configuration.rules"
	matching := slices.ContainsFunc(hook.Rules, matchesEvictions)
	wide := slices.ContainsFunc(hook.Rules, matchesMore)
	switch {
	case !matching:
		f.reapply(l.problem(check, "no rule of %s matches CREATE of pods/eviction: no eviction is decided", hook.Name), "make its rule %s, or %s", evictionRule)
	case wide:
		l.problem(check, "the rules of %s match more than CREATE of pods/eviction; all else is refused as a bad request", hook.Name).
			cure("make its only rule %s", evictionRule)
	default:
		l.ok(check, "CREATE of pods/eviction is matched, and nothing else")
	}
}

func matchesEvictions(r admissionregistrationv1.RuleWithOperations) bool {
	return matches(r, admissionregistrationv1.Create, "", "v1", "pods/eviction", "pods/*", "*/eviction", "*/*") &&
		(r.Scope == nil || *r.Scope != admissionregistrationv1.ClusterScope)
}

// matchesPolicies: each operation on EvictionPolicies may have a rule of its own.
func matchesPolicies(o admissionregistrationv1.OperationType) func(admissionregistrationv1.RuleWithOperations) bool {
	return func(r admissionregistrationv1.RuleWithOperations) bool {
		return matches(r, o, v1alpha1.Group, v1alpha1.Version, v1alpha1.Resource, "*", "*/*") &&
			(r.Scope == nil || *r.Scope != admissionregistrationv1.NamespacedScope)
	}
}

// matches does what the API server does with a rule; the resource may have several names.
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/staging/src/k8s.io/apiserver/pkg/admission/plugin/webhook/predicates/rules/rules.go
func matches(r admissionregistrationv1.RuleWithOperations, o admissionregistrationv1.OperationType, group, version string, resources ...string) bool {
	return hasOne(r.Operations, o, admissionregistrationv1.OperationAll) && hasOne(r.APIGroups, group, "*") &&
		hasOne(r.APIVersions, version, "*") && hasOne(r.Resources, resources...)
}

// hasOne reports whether one of the names is in the list.
func hasOne[S ~string](list []S, names ...S) bool {
	return slices.ContainsFunc(names, func(name S) bool { return slices.Contains(list, name) })
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
	const check = "configuration.exempt"
	var parts []string
	exempt, all := f.exempt(hook)
	if len(exempt) > 0 {
		parts = append(parts, fmt.Sprintf("by its namespaceSelector in %s (%d of %d)", some(exempt, 5), len(exempt), all))
	} else if !isEmpty(hook.NamespaceSelector) {
		parts = append(parts, "where its namespaceSelector ("+metav1.FormatLabelSelector(hook.NamespaceSelector)+") says so")
	}
	for _, c := range hook.MatchConditions {
		parts = append(parts, fmt.Sprintf("where matchCondition %s is false: %s", c.Name, c.Expression))
	}
	switch {
	case all > 0 && len(exempt) == all:
		l.problem(check, "the namespaceSelector of %s (%s) selects none of %d namespaces: no eviction is decided", hook.Name, metav1.FormatLabelSelector(hook.NamespaceSelector), all).
			cure("correct it, or label the namespaces that are meant").run("kubectl edit validatingwebhookconfiguration %s", f.Target.Configuration)
	case len(parts) == 0:
		l.ok(check, "no namespace is exempt")
	default:
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
	hook := f.hook(hooks.Evictions)
	return hook == nil || hook.ClientConfig.Service != nil
}

// ignores reports whether evictions pass when the webhook does not answer.
func ignores(hook *admissionregistrationv1.ValidatingWebhook) bool {
	return hook != nil && hook.FailurePolicy != nil && *hook.FailurePolicy == admissionregistrationv1.Ignore
}

// checkCall looks at how the API server calls, and what it does without an answer.
func checkCall(hook *admissionregistrationv1.ValidatingWebhook, l *findings) {
	if ignores(hook) {
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
	if path := pathOf(hook.ClientConfig); path != hooks.EvictionsPath {
		l.problem("configuration.path", "the API server calls path %q, where evictions are not decided", path).cure("set the path to %s", hooks.EvictionsPath)
	}
}

func orDefault(seconds *int32) string {
	if seconds == nil {
		return "10, the default"
	}
	return strconv.Itoa(int(*seconds))
}

// fullPathOf is the path that is called, with the secret part: it is not to be shown.
func fullPathOf(c admissionregistrationv1.WebhookClientConfig) string {
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

// checkPoliciesHook: the other webhook is served by the same replicas.
func checkPoliciesHook(f *Facts, evictions *admissionregistrationv1.ValidatingWebhook, l *findings) {
	const check = "configuration.policies"
	hook := f.hook(hooks.Policies)
	if hook == nil {
		if len(f.Policies.Value) > 0 {
			f.reapply(l.warn(check, "there is no webhook %s: EvictionPolicies are stored unchecked, and a broken one shows in its status only", hooks.Policies), "%s")
		}
		return
	}
	called, want := hostOf(hook.ClientConfig)+pathOf(hook.ClientConfig), hostOf(evictions.ClientConfig)+hooks.PoliciesPath
	switch {
	case called != want:
		f.reapply(l.problem(check, "the API server asks %s about EvictionPolicies, and the replicas answer at %s: none can be stored", called, want), "correct the clientConfig of %s, or %s", hook.Name)
	case !slices.ContainsFunc(hook.Rules, matchesPolicies(admissionregistrationv1.Create)) || !slices.ContainsFunc(hook.Rules, matchesPolicies(admissionregistrationv1.Update)):
		f.reapply(l.warn(check, "the rules of %s do not match CREATE and UPDATE of %s: EvictionPolicies are stored unchecked", hook.Name, resource), "correct them, or %s")
	default:
		l.ok(check, "webhook %s checks EvictionPolicies before they are stored", hooks.Policies)
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
	if registration.ByArgoCD(f.Configuration.Value) {
		l.ok(check, "the configuration goes with its Argo CD application, and so belongs to no namespace")
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
			if c.Name != f.Target.Configuration && hook.Name != hooks.Evictions && slices.ContainsFunc(hook.Rules, matchesEvictions) {
				others = append(others, hook.Name+" of "+c.Name)
			}
		}
	}
	slices.Sort(others)
	if len(others) > 0 {
		l.note(check, "the API server asks about evictions also: %s; each may refuse them", some(others, 5))
	}
	if f.hook(hooks.Evictions) == nil {
		return // one of them may be what is meant
	}
	for _, name := range f.others("") {
		cureLeftover(l.warn(check, "ValidatingWebhookConfiguration %s has webhook %s, too: the API server asks two gates about evictions", name, hooks.Evictions), name)
	}
}

// others names the other configurations with our webhook that call a host, or any host when it is empty.
func (f *Facts) others(host string) []string {
	var names []string
	for _, c := range f.Configurations.Value {
		if c.Name != f.Target.Configuration && slices.ContainsFunc(c.Webhooks, func(hook admissionregistrationv1.ValidatingWebhook) bool {
			return hook.Name == hooks.Evictions && (host == "" || hostOf(hook.ClientConfig) == host)
		}) {
			names = append(names, c.Name)
		}
	}
	slices.Sort(names)
	return names
}

// cureLeftover is careful: the other installation may be meant.
func cureLeftover(finding *Finding, configuration string) {
	finding.cure("if it is left over from another installation, delete it; else look at that one by --webhook-configuration %s", configuration).
		run("kubectl delete validatingwebhookconfiguration %s", configuration)
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
	hook := f.hook(hooks.Evictions)
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
		f.reapply(l.problem(check, "Service %s, which the API server calls, does not exist", name), "correct the webhook's clientConfig, or %s")
		return
	case f.Service.Err != nil:
		l.skip(check, "%s", f.Service.why())
		return
	case f.Service.Value.Spec.Type == corev1.ServiceTypeExternalName:
		l.note(check, "Service %s is another name of %s, of which nothing is known here", name, f.Service.Value.Spec.ExternalName)
		return
	}
	port := portOf(to)
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
	ready := endpoints(f.Slices.Value)
	switch wanted := len(f.readyPods()); {
	case ready == 0:
		l.problem(check, "Service %s has no ready endpoint: nobody answers the API server", name).
			cure("see why the pods are not ready, and that the Service selects them").
			run("kubectl -n %s get pods,endpointslices", f.Namespace)
	case ready < wanted:
		l.warn(check, "Service %s has %d ready %s for %d ready pods", name, ready, output.Plural("endpoint", ready), wanted).
			cure("wait a moment; if it stays, see that the Service selects all pods")
	default:
		l.ok(check, "Service %s has %d ready %s", name, ready, output.Plural("endpoint", ready))
	}
}

// endpoints counts those that are ready. One of two address families is in two slices.
func endpoints(list []discoveryv1.EndpointSlice) int {
	seen := map[string]bool{}
	for _, s := range list {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			if e.TargetRef != nil {
				seen[e.TargetRef.Name] = true
				continue
			}
			for _, address := range e.Addresses {
				seen[address] = true
			}
		}
	}
	return len(seen)
}

// resource is that of EvictionPolicies, as kubectl takes it.
const resource = v1alpha1.Resource + "." + v1alpha1.Group
