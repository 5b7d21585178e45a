package certs

import (
	"context"
	"fmt"
	"net/http"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// clocked is a copy of cfg whose answers set the clock.
func clocked(cfg *rest.Config, c *clock) *rest.Config {
	cfg = rest.CopyConfig(cfg)
	cfg.UserAgent = owner
	cfg.Wrap(c.observe)
	return cfg
}

// newScheme has what this package reads and writes.
func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, admissionv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return scheme, nil
}

// staticMapper knows the only two kinds in use, which saves discovery: a
// process can start while the API server is away.
func staticMapper(*rest.Config, *http.Client) (meta.RESTMapper, error) {
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Secret"), meta.RESTScopeNamespace)
	mapper.Add(admissionv1.SchemeGroupVersion.WithKind("ValidatingWebhookConfiguration"), meta.RESTScopeRoot)
	return mapper, nil
}

func named(name string) fields.Selector {
	return fields.OneTermEqualSelector(metav1.ObjectNameField, name)
}

// newCache holds the one webhook configuration.
func newCache(cfg *rest.Config, configuration string) (cache.Cache, error) {
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	mapper, err := staticMapper(nil, nil)
	if err != nil {
		return nil, err
	}
	return cache.New(cfg, cache.Options{Scheme: scheme, Mapper: mapper, ByObject: map[client.Object]cache.ByObject{
		&admissionv1.ValidatingWebhookConfiguration{}: {Field: named(configuration)},
	}})
}

// follow has the trust see the webhook configuration as the cache does.
func (t *trust) follow(ctx context.Context, in cache.Cache) error {
	watched, err := watch(ctx, in, &admissionv1.ValidatingWebhookConfiguration{}, t.configurations())
	if err != nil {
		return err
	}
	t.setSynced(watched.HasSynced)
	return nil
}

func watch(
	ctx context.Context, in cache.Cache, obj client.Object, to toolscache.ResourceEventHandler,
) (toolscache.ResourceEventHandlerRegistration, error) {
	informer, err := in.GetInformer(ctx, obj, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watch %T: %w", obj, err)
	}
	return informer.AddEventHandler(to)
}
