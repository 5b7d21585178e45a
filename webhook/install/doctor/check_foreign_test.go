package doctor

import (
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// secretsRule has Secrets sent.
var secretsRule = admissionregistrationv1.RuleWithOperations{
	Operations: []admissionregistrationv1.OperationType{"CREATE", "UPDATE"},
	Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"secrets"}},
}

// addMutating adds a webhook that changes what it matches.
func addMutating(f *Facts, client admissionregistrationv1.WebhookClientConfig, resources ...string) {
	rule := secretsRule
	rule.Resources = resources
	f.Mutating.Value = append(f.Mutating.Value, admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "changes"},
		Webhooks:   []admissionregistrationv1.MutatingWebhook{{Name: "change.example.com", ClientConfig: client, Rules: []admissionregistrationv1.RuleWithOperations{rule}}},
	})
}

func elsewhere() admissionregistrationv1.WebhookClientConfig {
	return admissionregistrationv1.WebhookClientConfig{URL: new("https://spy.example.com/x")}
}

// findingOf fails without that one.
func findingOf(t *testing.T, f *Facts, check string, status Status, text string) Finding {
	t.Helper()
	var found Finding
	for _, got := range Examine(f) {
		if got.Check == check && got.Status == status && strings.Contains(got.Text, text) {
			found = got
		}
	}
	if found.Check == "" {
		t.Errorf("no %s of %s with %q in %+v", status, check, text, Examine(f))
	}
	return found
}

// Whoever may write the configuration has objects of the cluster sent where they like. Each case adds one thing to a
// whole installation.
func TestWhatIsForeignIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Facts)
		check  string
		status Status
		text   string
	}{
		"a further webhook": {func(f *Facts) {
			f.Configuration.Value.Webhooks = append(f.Configuration.Value.Webhooks, admissionregistrationv1.ValidatingWebhook{
				Name: "spy.example.com", ClientConfig: elsewhere(), Rules: []admissionregistrationv1.RuleWithOperations{secretsRule},
			})
			f.Configuration.Value.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "curl", FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:webhooks":{"k:{\"name\":\"spy.example.com\"}":{}}}`)}}}
		}, "configuration.foreign", Problem, "webhook spy.example.com of ValidatingWebhookConfiguration evictgate is not Evictgate's: it has CREATE, UPDATE of secrets sent to spy.example.com (written by curl)"},
		"rules for Secrets in the eviction webhook": {func(f *Facts) {
			f.Configuration.Value.Webhooks[0].Rules = append(f.Configuration.Value.Webhooks[0].Rules, secretsRule)
		}, "configuration.foreign", Problem, "webhook evictions.evictgate.dev has more sent to Service evictgate/evictgate than it decides: CREATE, UPDATE of secrets"},
		"rules for Secrets in the webhook of the policies": {func(f *Facts) {
			f.Configuration.Value.Webhooks[1].Rules = append(f.Configuration.Value.Webhooks[1].Rules, secretsRule)
		}, "configuration.foreign", Problem, "webhook policies.evictgate.dev has more sent"},
		"a URL in the place of the Service": {func(f *Facts) { f.Configuration.Value.Webhooks[0].ClientConfig = elsewhere() },
			"configuration.foreign", Warning, "the API server asks spy.example.com about evictions, and not the replicas of Deployment evictgate/evictgate"},
		"a Service that selects other pods": {func(f *Facts) { f.Service.Value.Spec.Selector = map[string]string{"app": "spy"} },
			"configuration.foreign", Problem, "selects pods of app=spy, and not the replicas"},
		"Secrets that another configuration sends to the gate": {func(f *Facts) {
			addMutating(f, f.Configuration.Value.Webhooks[0].ClientConfig, "secrets")
		}, "configuration.strangers", Warning, "webhook change.example.com of MutatingWebhookConfiguration changes has CREATE, UPDATE of secrets sent to Service evictgate/evictgate"},
		"another configuration that trusts the own CA": {func(f *Facts) {
			to := elsewhere()
			to.CABundle = f.Configuration.Value.Webhooks[0].ClientConfig.CABundle
			addMutating(f, to, "secrets")
		}, "configuration.strangers", Warning, "trusts the CA of the gate"},
		"a mutating webhook for evictions": {func(f *Facts) { addMutating(f, elsewhere(), "pods/eviction") }, "configuration.strangers", Warning, "may change evictions before they are decided"},
		"a mutating webhook for all":       {func(f *Facts) { addMutating(f, elsewhere(), "*/*") }, "configuration.strangers", Note, "matches all kinds of objects"},
		"a mutating policy for evictions": {func(f *Facts) {
			rule := secretsRule
			rule.Resources = []string{"pods/*"}
			f.MutatingPolicies.Value = []admissionregistrationv1.MutatingAdmissionPolicy{{ObjectMeta: metav1.ObjectMeta{Name: "changes"}, Spec: admissionregistrationv1.MutatingAdmissionPolicySpec{
				MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: rule}}},
			}}}
		}, "configuration.strangers", Note, "MutatingAdmissionPolicy changes may change evictions"},
		"mutating webhooks that may not be read": {func(f *Facts) {
			f.Mutating = Fact[[]admissionregistrationv1.MutatingWebhookConfiguration]{Err: forbidden("m")}
		},
			"configuration.strangers", NotChecked, "no permission: "},
		"an API server without mutating policies": {func(f *Facts) { f.MutatingPolicies.Err = notFound("m") }, "configuration.strangers", OK, "no other webhook"},
	} {
		t.Run(name, func(t *testing.T) {
			f := whole(t)
			c.change(f)
			if got := findingOf(t, f, c.check, c.status, c.text); c.status != OK && c.status != Note && c.status != NotChecked && got.Cure == "" {
				t.Errorf("it is not said what to do: %+v", got)
			}
		})
	}
}
