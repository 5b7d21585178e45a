package doctor

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"github.com/evictgate/evictgate/policies/v1alpha1"
	"github.com/evictgate/evictgate/webhook/hooks"
)

// checkForeign names what somebody else put into the configuration. Whoever may write it can have any object of the
// cluster sent anywhere.
func checkForeign(f *Facts, l *findings) {
	const check = "configuration.foreign"
	c := f.Configuration.Value
	if c == nil {
		return
	}
	before := len(*l)
	for i := range c.Webhooks {
		hook := &c.Webhooks[i]
		switch {
		case !slices.Contains([]string{hooks.Evictions, hooks.Policies}, hook.Name):
			f.undo(l.problem(check, "webhook %s of ValidatingWebhookConfiguration %s is not Evictgate's: it has %s sent to %s%s",
				hook.Name, c.Name, whatRules(hook.Rules), calledBy(hook.ClientConfig), writtenBy(c, hook.Name)))
		case slices.ContainsFunc(hook.Rules, alien(hook.Name)):
			f.undo(l.problem(check, "webhook %s has more sent to %s than it decides: %s%s",
				hook.Name, calledBy(hook.ClientConfig), whatRules(slices.DeleteFunc(slices.Clone(hook.Rules), not(alien(hook.Name)))), writtenBy(c, hook.Name)))
		}
	}
	if hook := f.hook(hooks.Evictions); hook != nil && hook.ClientConfig.URL != nil && f.Deployment.Value != nil {
		f.undo(l.warn(check, "the API server asks %s about evictions, and not the replicas of Deployment %s/%s", calledBy(hook.ClientConfig), f.Namespace, f.Name))
	}
	checkSelector(f, l)
	if len(*l) == before {
		l.ok(check, "ValidatingWebhookConfiguration %s holds Evictgate's webhooks and no other", c.Name)
	}
}

// undo says how what is foreign goes: to apply the manifests again takes no webhook away that they do not know.
func (f *Facts) undo(finding *Finding) {
	finding.cure("if you did not write it, take it out, and see in the API server's audit log who did").
		run("kubectl edit validatingwebhookconfiguration %s", f.Target.Configuration)
}

// alien reports whether a rule matches something that the webhook of that name has no business with.
func alien(name string) func(admissionregistrationv1.RuleWithOperations) bool {
	group, resources := "", []string{"pods/eviction"}
	if name == hooks.Policies {
		group, resources = v1alpha1.Group, []string{v1alpha1.Resource}
	}
	return func(r admissionregistrationv1.RuleWithOperations) bool {
		return slices.ContainsFunc(r.APIGroups, func(g string) bool { return g != group }) ||
			slices.ContainsFunc(r.Resources, func(r string) bool { return !slices.Contains(resources, r) })
	}
}

func not[T any](is func(T) bool) func(T) bool { return func(v T) bool { return !is(v) } }

// whatRules are the operations and objects of rules, in one line.
func whatRules(rules []admissionregistrationv1.RuleWithOperations) string {
	var list []string
	for _, r := range rules {
		var operations, kinds []string
		for _, o := range r.Operations {
			operations = append(operations, string(o))
		}
		for _, resource := range r.Resources {
			for _, group := range r.APIGroups {
				kinds = append(kinds, strings.TrimSuffix(resource+"."+group, "."))
			}
		}
		list = append(list, some(operations, 5)+" of "+some(kinds, 5))
	}
	if len(list) == 0 {
		return "nothing"
	}
	return some(list, 3)
}

// calledBy is whom a webhook calls.
func calledBy(c admissionregistrationv1.WebhookClientConfig) string {
	if c.Service != nil {
		return "Service " + c.Service.Namespace + "/" + c.Service.Name
	}
	return hostOf(c)
}

// writtenBy names the managers of fields that know a webhook; that is what they call themselves.
func writtenBy(c *admissionregistrationv1.ValidatingWebhookConfiguration, hook string) string {
	var names []string
	for _, m := range c.ManagedFields {
		if m.FieldsV1 != nil && bytes.Contains(m.FieldsV1.GetRawBytes(), []byte(`k:{\"name\":\"`+hook+`\"}`)) && !slices.Contains(names, m.Manager) {
			names = append(names, m.Manager)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return " (written by " + some(names, 3) + ")"
}

// checkSelector: a Service of the right name may lead elsewhere.
func checkSelector(f *Facts, l *findings) {
	s, d := f.Service.Value, f.Deployment.Value
	if s == nil || d == nil || len(s.Spec.Selector) == 0 {
		return
	}
	for key, value := range s.Spec.Selector {
		if d.Spec.Template.Labels[key] != value {
			f.reapply(l.problem("configuration.foreign", "Service %s/%s, which the API server calls, selects pods of %s=%s, and not the replicas of Deployment %s", s.Namespace, s.Name, key, value, f.Name), "%s")
			return
		}
	}
}

// anyHook is a webhook of another configuration.
type anyHook struct {
	kind, configuration, name string
	mutating                  bool
	client                    admissionregistrationv1.WebhookClientConfig
	rules                     []admissionregistrationv1.RuleWithOperations
}

func (h anyHook) String() string {
	return fmt.Sprintf("webhook %s of %s %s", h.name, h.kind, h.configuration)
}

// otherHooks are all webhooks that are not in our configuration or one of another installation.
func (f *Facts) otherHooks() (list []anyHook) {
	gates := append(f.others(""), f.Target.Configuration)
	for _, c := range f.Configurations.Value {
		if slices.Contains(gates, c.Name) {
			continue
		}
		for _, h := range c.Webhooks {
			list = append(list, anyHook{"ValidatingWebhookConfiguration", c.Name, h.Name, false, h.ClientConfig, h.Rules})
		}
	}
	for _, c := range f.Mutating.Value {
		for _, h := range c.Webhooks {
			list = append(list, anyHook{"MutatingWebhookConfiguration", c.Name, h.Name, true, h.ClientConfig, h.Rules})
		}
	}
	return list
}

// checkStrangers names what other configurations do with our Service, our CA and our evictions.
func checkStrangers(f *Facts, l *findings) {
	const check = "configuration.strangers"
	hook := f.hook(hooks.Evictions)
	switch {
	case f.Configurations.Err != nil: // another check says so
		return
	case f.Mutating.Err != nil:
		l.skip(check, "%s", f.Mutating.why())
		return
	case hook == nil:
		return
	}
	before := len(*l)
	ours := certificatesOf(hook.ClientConfig.CABundle)
	for _, h := range f.otherHooks() {
		switch {
		case calledBy(h.client) == calledBy(hook.ClientConfig):
			l.warn(check, "%s has %s sent to %s, which is the gate's own: it can do nothing with them but see them", h, whatRules(h.rules), calledBy(h.client)).
				cure("delete it unless you know what it is for").run("kubectl get %s %s -o yaml", strings.ToLower(h.kind), h.configuration)
		case sharesOne(ours, certificatesOf(h.client.CABundle)) && f.selfSigned():
			l.warn(check, "%s trusts the CA of the gate, which signs for nobody else", h).
				cure("see why it holds that caBundle").run("kubectl get %s %s -o yaml", strings.ToLower(h.kind), h.configuration)
		case h.mutating && slices.ContainsFunc(h.rules, namesEvictions):
			l.warn(check, "%s may change evictions before they are decided, and so who asks for an override and why", h).
				cure("delete it unless you know what it is for").run("kubectl get %s %s -o yaml", strings.ToLower(h.kind), h.configuration)
		case h.mutating && slices.ContainsFunc(h.rules, matchesEvictions):
			l.note(check, "%s matches all kinds of objects, and so may change evictions before they are decided", h)
		}
	}
	checkMutatingPolicies(f, l)
	if len(*l) == before {
		l.ok(check, "no other webhook calls the gate, trusts its CA or changes evictions")
	}
}

// namesEvictions reports whether a rule is about evictions, and not about everything.
func namesEvictions(r admissionregistrationv1.RuleWithOperations) bool {
	return matchesEvictions(r) && slices.Contains(r.Resources, "pods/eviction")
}

// checkMutatingPolicies: these change objects without a webhook. API servers before 1.36 have none.
func checkMutatingPolicies(f *Facts, l *findings) {
	const check = "configuration.strangers"
	if f.MutatingPolicies.hidden() {
		l.skip(check, "%s", f.MutatingPolicies.why())
		return
	}
	for _, p := range f.MutatingPolicies.Value {
		if p.Spec.MatchConstraints == nil {
			continue
		}
		if slices.ContainsFunc(p.Spec.MatchConstraints.ResourceRules, func(r admissionregistrationv1.NamedRuleWithOperations) bool {
			return matchesEvictions(r.RuleWithOperations)
		}) {
			l.note(check, "MutatingAdmissionPolicy %s may change evictions before they are decided", p.Name)
		}
	}
}

// certificatesOf are those of a caBundle; what cannot be read is passed over, since other checks look at our own.
func certificatesOf(bundle []byte) []*x509.Certificate {
	list, _ := certificatesIn(bundle)
	return list
}

func sharesOne(a, b []*x509.Certificate) bool {
	return slices.ContainsFunc(a, func(c *x509.Certificate) bool { return slices.ContainsFunc(b, c.Equal) })
}
