package callers

import (
	"context"
	"encoding/json"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// fieldManager owns what is written.
const fieldManager = "evictgate-callers"

// Keys of the Secret.
const (
	keyCurrent, keyNext, keyPrevious = "current", "next", "previous"
	keySince, keyNextSince           = "since", "next-since"
)

// objects are the two that the replicas share. Writes fail with a conflict when the object is not any more what
// was read.
type objects interface {
	configuration(context.Context) (*admissionv1.ValidatingWebhookConfiguration, error)
	patch(context.Context, []byte) (*admissionv1.ValidatingWebhookConfiguration, error)
	secret(context.Context) (*corev1.Secret, error)
	create(context.Context, *corev1.Secret) (*corev1.Secret, error)
	update(context.Context, *corev1.Secret) (*corev1.Secret, error)
}

// cluster has the objects of a real one.
type cluster struct {
	client                      kubernetes.Interface
	name, namespace, secretName string
}

func (c cluster) configuration(ctx context.Context) (*admissionv1.ValidatingWebhookConfiguration, error) {
	return c.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, c.name, metav1.GetOptions{})
}

func (c cluster) patch(ctx context.Context, raw []byte) (*admissionv1.ValidatingWebhookConfiguration, error) {
	return c.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().
		Patch(ctx, c.name, types.StrategicMergePatchType, raw, metav1.PatchOptions{FieldManager: fieldManager})
}

func (c cluster) secret(ctx context.Context) (*corev1.Secret, error) {
	return c.client.CoreV1().Secrets(c.namespace).Get(ctx, c.secretName, metav1.GetOptions{})
}

func (c cluster) create(ctx context.Context, s *corev1.Secret) (*corev1.Secret, error) {
	return c.client.CoreV1().Secrets(c.namespace).Create(ctx, s, metav1.CreateOptions{FieldManager: fieldManager})
}

func (c cluster) update(ctx context.Context, s *corev1.Secret) (*corev1.Secret, error) {
	return c.client.CoreV1().Secrets(c.namespace).Update(ctx, s, metav1.UpdateOptions{FieldManager: fieldManager})
}

// Rules are the rules that [Keep] needs beside reading and patching the configuration, for a Role in the Secret's
// namespace. Only create is not bound to a name, since RBAC cannot know the name of what is created.
func Rules(secret string) []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{{
		APIGroups: []string{corev1.GroupName}, Resources: []string{"secrets"}, ResourceNames: []string{secret},
		Verbs: []string{"get", "list", "watch", "update"},
	}, {
		APIGroups: []string{corev1.GroupName}, Resources: []string{"secrets"}, Verbs: []string{"create"},
	}}
}

// stateOf reads the Secret; what is not a secret or a time counts as absent.
func stateOf(s *corev1.Secret) state {
	if s == nil {
		return state{}
	}
	secret := func(key string) string {
		if text := string(s.Data[key]); valid(text) {
			return text
		}
		return ""
	}
	at := func(key string) time.Time {
		t, _ := time.Parse(time.RFC3339, string(s.Data[key]))
		return t
	}
	return state{current: secret(keyCurrent), next: secret(keyNext), previous: secret(keyPrevious), since: at(keySince), nextSince: at(keyNextSince)}
}

// data is what the Secret holds of a state.
func (s state) data() map[string][]byte {
	data := map[string][]byte{}
	for key, text := range map[string]string{keyCurrent: s.current, keyNext: s.next, keyPrevious: s.previous} {
		if text != "" {
			data[key] = []byte(text)
		}
	}
	for key, at := range map[string]time.Time{keySince: s.since, keyNextSince: s.nextSince} {
		if !at.IsZero() {
			data[key] = []byte(at.UTC().Format(time.RFC3339))
		}
	}
	return data
}

// hooks are webhooks by their names, with their paths without a secret.
type hooks map[string]string

// carried are the secrets of our webhooks in a configuration that calls the namespace, and whether it has any of
// ours. An empty namespace is any.
func (h hooks) carried(c *admissionv1.ValidatingWebhookConfiguration, namespace string) []string {
	var list []string
	h.each(c, namespace, func(_ *admissionv1.ValidatingWebhook, _, secret string) { list = append(list, secret) })
	return list
}

func (h hooks) each(c *admissionv1.ValidatingWebhookConfiguration, namespace string, do func(hook *admissionv1.ValidatingWebhook, plain, secret string)) {
	if c == nil {
		return
	}
	for i := range c.Webhooks {
		hook := &c.Webhooks[i]
		plain, known := h[hook.Name]
		if s := hook.ClientConfig.Service; !known || (s != nil && namespace != "" && s.Namespace != namespace) {
			continue
		}
		if secret, ours := Carried(hook.ClientConfig, plain); ours {
			do(hook, plain, secret)
		}
	}
}

// patch makes what has our webhooks called by a secret. UID and resourceVersion see to it that nothing but the
// configuration that was looked at is changed, and only as it was.
func (h hooks) patch(c *admissionv1.ValidatingWebhookConfiguration, namespace, secret string) ([]byte, error) {
	type webhook struct {
		Name   string                          `json:"name"`
		Client admissionv1.WebhookClientConfig `json:"clientConfig"`
	}
	var p struct {
		Metadata struct {
			UID             types.UID `json:"uid"`
			ResourceVersion string    `json:"resourceVersion"`
		} `json:"metadata"`
		Webhooks []webhook `json:"webhooks"`
	}
	p.Metadata.UID, p.Metadata.ResourceVersion = c.UID, c.ResourceVersion
	h.each(c, namespace, func(hook *admissionv1.ValidatingWebhook, plain, _ string) {
		p.Webhooks = append(p.Webhooks, webhook{hook.Name, withSecret(hook.ClientConfig, plain, secret)})
	})
	return json.Marshal(p)
}
