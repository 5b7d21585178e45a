package certs

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime"
	applyv1 "k8s.io/client-go/applyconfigurations/admissionregistration/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Webhooks are those that a configuration may hold, by name, with the resource that each is asked about. What else
// somebody put there gets no CA and takes nobody's readiness away, and is logged. Nil takes all for one's own; so does a
// configuration that has none of the names, since then somebody gave it names of their own.
type Webhooks map[string]string

// among are those to go by in a configuration that has webhooks of these names.
func (w Webhooks) among(names ...string) Webhooks {
	if slices.ContainsFunc(names, func(name string) bool { return w[name] != "" }) {
		return w
	}
	return nil
}

// in are those to go by in a configuration.
func (w Webhooks) in(c *admissionv1.ValidatingWebhookConfiguration) Webhooks {
	var names []string
	for i := range c.Webhooks {
		names = append(names, c.Webhooks[i].Name)
	}
	return w.among(names...)
}

// own reports whether a webhook is not foreign.
func (w Webhooks) own(name string) bool {
	_, known := w[name]
	return w == nil || known
}

// foreignIn says what of a configuration is not our own, in one line each: webhooks of other names, rules for other
// resources, and calls to another host than the first of our own webhooks.
func (w Webhooks) foreignIn(c *admissionv1.ValidatingWebhookConfiguration) (list []string) {
	if c == nil || w.in(c) == nil {
		return nil
	}
	home := ""
	for i := range c.Webhooks {
		hook := &c.Webhooks[i]
		host := serverName(hook.ClientConfig)
		if !w.own(hook.Name) {
			list = append(list, fmt.Sprintf("webhook %s, which is asked about %s at %s", hook.Name, resourcesOf(hook.Rules), host))
			continue
		}
		if home == "" {
			home = host
		}
		if host != home {
			list = append(list, fmt.Sprintf("webhook %s is asked at %s, not at %s", hook.Name, host, home))
		}
		if more := slices.DeleteFunc(slices.Clone(hook.Rules), func(r admissionv1.RuleWithOperations) bool {
			return len(r.Resources) == 1 && r.Resources[0] == w[hook.Name]
		}); len(more) > 0 {
			list = append(list, fmt.Sprintf("webhook %s is also asked about %s", hook.Name, resourcesOf(more)))
		}
	}
	return list
}

func resourcesOf(rules []admissionv1.RuleWithOperations) string {
	seen := map[string]bool{}
	for _, r := range rules {
		for _, resource := range r.Resources {
			seen[resource] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(seen)), ", ")
}

// Foreign is how many things the webhook configuration holds that are not Evictgate's, as last seen.
func (t *trust) Foreign() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.strange)
}

// tellForeign logs what is foreign, and that nothing is any more, each time that changes. The mutex is held.
func (t *trust) tellForeign() {
	now := t.webhooks.foreignIn(t.seen)
	if slices.Equal(now, t.strange) {
		return
	}
	if t.strange = now; len(now) == 0 {
		t.log.Info("the webhook configuration holds nothing foreign any more", "configuration", t.configuration)
		return
	}
	t.log.Info("the webhook configuration holds what is not Evictgate's: take it out, and see in the API server's audit log who wrote it",
		"configuration", t.configuration, "foreign", strings.Join(now, "; "))
}

// ownOnly keeps the CA from foreign webhooks: cainjector gives it to all of a configuration.
type ownOnly struct {
	client.Client
	webhooks Webhooks
}

// newOwnOnly is a client.NewClientFunc.
func (w Webhooks) newOwnOnly(cfg *rest.Config, o client.Options) (client.Client, error) {
	c, err := client.New(cfg, o)
	return ownOnly{c, w}, err
}

// Apply leaves foreign webhooks out. Server-side apply then takes away what we wrote to them before.
func (c ownOnly) Apply(ctx context.Context, obj runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
	if hooks, ok := obj.(*applyv1.ValidatingWebhookConfigurationApplyConfiguration); ok {
		var names []string
		for _, h := range hooks.Webhooks {
			names = append(names, *h.Name)
		}
		known := c.webhooks.among(names...)
		hooks.Webhooks = slices.DeleteFunc(hooks.Webhooks, func(h applyv1.ValidatingWebhookApplyConfiguration) bool { return !known.own(*h.Name) })
	}
	return c.Client.Apply(ctx, obj, opts...)
}
