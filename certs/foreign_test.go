package certs

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime"
	applyv1 "k8s.io/client-go/applyconfigurations/admissionregistration/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// known are the webhooks of the test's configurations that are not foreign.
var known = Webhooks{"first.example": "pods/eviction", "second.example": "evictionpolicies"}

func asked(hook *admissionv1.ValidatingWebhook, resources ...string) {
	hook.Rules = append(hook.Rules, admissionv1.RuleWithOperations{Rule: admissionv1.Rule{Resources: resources}})
}

// two is a configuration in which nothing is foreign.
func two(bundle []byte) *admissionv1.ValidatingWebhookConfiguration {
	c := configuration(testSecret, bundle, bundle)
	asked(&c.Webhooks[0], "pods/eviction")
	asked(&c.Webhooks[1], "evictionpolicies")
	return c
}

func spy() admissionv1.ValidatingWebhook {
	url := "https://spy.example.com/"
	hook := admissionv1.ValidatingWebhook{Name: "spy.example.com", ClientConfig: admissionv1.WebhookClientConfig{URL: &url}}
	asked(&hook, "secrets")
	return hook
}

// Who may write the configuration must not be able to end all replicas by what it adds, and it is said.
func TestAForeignWebhookEndsNoReplicaAndIsNamed(t *testing.T) {
	ca := newIssuerFrom(t, "evictgate-ca", time.Now().Add(-time.Hour))
	elsewhere := spy().ClientConfig
	for name, c := range map[string]struct {
		change func(*admissionv1.ValidatingWebhookConfiguration)
		told   string // nothing when it is empty
		fails  string
	}{
		"nothing": {func(*admissionv1.ValidatingWebhookConfiguration) {}, "", ""},
		"a further webhook": {func(c *admissionv1.ValidatingWebhookConfiguration) { c.Webhooks = append(c.Webhooks, spy()) },
			"webhook spy.example.com, which is asked about secrets at spy.example.com", ""},
		"the second calls elsewhere": {func(c *admissionv1.ValidatingWebhookConfiguration) { c.Webhooks[1].ClientConfig = elsewhere },
			"webhook second.example is asked at spy.example.com, not at localhost", ""},
		"a further rule": {func(c *admissionv1.ValidatingWebhookConfiguration) { asked(&c.Webhooks[0], "secrets") },
			"webhook first.example is also asked about secrets", ""},
		"both call elsewhere": {func(c *admissionv1.ValidatingWebhookConfiguration) {
			c.Webhooks[0].ClientConfig, c.Webhooks[1].ClientConfig = elsewhere, elsewhere
		}, "", "does not contain our CA yet"},
		"the caBundle of one is another": {func(c *admissionv1.ValidatingWebhookConfiguration) {
			c.Webhooks[1].ClientConfig.CABundle = newIssuer(t, "spy").pem()
		}, "", "caBundle of webhook second.example in ValidatingWebhookConfiguration gate does not contain our CA yet"},
		"names of one's own": {func(c *admissionv1.ValidatingWebhookConfiguration) { c.Webhooks[0].Name, c.Webhooks[1].Name = "a", "b" }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			trust := ownTrust()
			trust.webhooks, trust.log = known, logr.FromSlogHandler(slog.NewTextHandler(&log, nil))
			hooks := two(ca.pem())
			c.change(hooks)
			for range 2 { // it is told once
				trust.setConfiguration(hooks, true)
			}
			leaf, _ := ca.leaf(t, time.Now().Add(-time.Minute), "localhost")
			err := trust.check(leaf)
			if (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("want %q, got %v", c.fails, err)
			}
			if n := strings.Count(log.String(), c.told); c.told != "" && n != 1 || c.told == "" && log.Len() > 0 {
				t.Errorf("want %q once, got\n%s", c.told, &log)
			}
			if foreign := trust.Foreign(); (foreign > 0) != (c.told != "") {
				t.Errorf("%d things are foreign", foreign)
			}
			if trust.setConfiguration(two(ca.pem()), false); c.told != "" && !strings.Contains(log.String(), "nothing foreign any more") {
				t.Errorf("it is not told that it is gone:\n%s", &log)
			}
		})
	}
}

// applied is a client that keeps what it is given.
type applied struct {
	client.Client
	hooks []string
}

func (a *applied) Apply(_ context.Context, obj runtime.ApplyConfiguration, _ ...client.ApplyOption) error {
	for _, h := range obj.(*applyv1.ValidatingWebhookConfigurationApplyConfiguration).Webhooks {
		a.hooks = append(a.hooks, *h.Name)
	}
	return nil
}

func TestAForeignWebhookGetsNoCA(t *testing.T) {
	for name, c := range map[string]struct{ given, want []string }{
		"one of three is foreign": {[]string{"first.example", "spy.example.com", "second.example"}, []string{"first.example", "second.example"}},
		"names of one's own":      {[]string{"a", "b"}, []string{"a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			obj := applyv1.ValidatingWebhookConfiguration("gate")
			for _, name := range c.given {
				obj.WithWebhooks(applyv1.ValidatingWebhook().WithName(name))
			}
			to := new(applied)
			if err := (ownOnly{to, known}).Apply(t.Context(), obj); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, to.hooks); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
