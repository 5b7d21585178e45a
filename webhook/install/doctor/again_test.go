package doctor

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A command that applies other manifests than an installation is made of would break it.
func TestTheInstallationIsAppliedAgainAsItWas(t *testing.T) {
	const manifests, before = "apply the manifests again, with the same image and changes", "apply the manifests again, as they were applied before"
	annotated := func(key, value string) func(*Facts) {
		return func(f *Facts) { f.Deployment.Value.Annotations = map[string]string{key: value} }
	}
	labelled := func(key, value string) func(*Facts) {
		return func(f *Facts) { f.Configuration.Value.Labels = map[string]string{key: value} }
	}
	ignore := func(f *Facts) {
		f.Configuration.Value.Webhooks[0].FailurePolicy = new(admissionregistrationv1.Ignore)
	}
	called := func(by admissionregistrationv1.WebhookClientConfig) func(*Facts) {
		return func(f *Facts) { f.Configuration.Value.Webhooks[0].ClientConfig = by }
	}
	certManager := func(f *Facts) {
		f.Configuration.Value.Annotations = map[string]string{"cert-manager.io/inject-ca-from": "evictgate/evictgate"}
		f.Arguments.Value = &Arguments{Cluster: true, CertDir: "/certs"}
	}
	noConfiguration := func(f *Facts) {
		f.Configuration = Fact[*admissionregistrationv1.ValidatingWebhookConfiguration]{Err: notFound("v")}
	}
	noDeployment := func(err error) func(*Facts) {
		return func(f *Facts) {
			f.Deployment, f.Arguments = Fact[*appsv1.Deployment]{Err: err}, Fact[*Arguments]{}
		}
	}
	for name, c := range map[string]struct {
		change       []func(*Facts)
		how, command string
	}{
		"its own CA":                    {nil, manifests, "kubectl apply -k config/default"},
		"a certificate of cert-manager": {[]func(*Facts){certManager}, manifests, "kubectl apply -k config/overlays/certmanager"},
		"failurePolicy Ignore":          {[]func(*Facts){ignore}, manifests, "kubectl apply -k config/overlays/ignore"},
		"Ignore, and cert-manager":      {[]func(*Facts){certManager, ignore}, before, ""},
		"another namespace":             {[]func(*Facts){func(f *Facts) { f.Namespace = "gates" }}, before, ""},
		"another name":                  {[]func(*Facts){func(f *Facts) { f.Name = "gate" }}, before, ""},
		"a certificate from files":      {[]func(*Facts){certManager, func(f *Facts) { f.Configuration.Value.Annotations = nil }}, before, ""},
		"the annotation was taken off":  {[]func(*Facts){func(f *Facts) { f.Configuration.Value.Annotations = nil }}, manifests, "kubectl apply -k config/default"},
		"Helm": {[]func(*Facts){func(f *Facts) {
			f.Deployment.Value.Annotations = map[string]string{"meta.helm.sh/release-name": "gate", "meta.helm.sh/release-namespace": "gates"}
		}}, "have Helm upgrade release gate to the chart and the values that it has", "helm upgrade gate config/helm/evictgate --namespace gates --reuse-values"},
		"Argo CD":           {[]func(*Facts){annotated("argocd.argoproj.io/tracking-id", "gate:apps/Deployment:evictgate/evictgate")}, "have Argo CD sync it", ""},
		"Argo CD, by label": {[]func(*Facts){labelled("argocd.argoproj.io/instance", "gate")}, "have Argo CD sync it", ""},
		"Flux":              {[]func(*Facts){labelled("kustomize.toolkit.fluxcd.io/name", "gate")}, "have Flux reconcile it", ""},
		"Flux, by Helm":     {[]func(*Facts){annotated("meta.helm.sh/release-name", "gate"), labelled("helm.toolkit.fluxcd.io/name", "gate")}, "have Flux reconcile it", ""},
		"Argo CD, which leaves its name": {[]func(*Facts){func(f *Facts) {
			f.Configuration.Value.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "argocd-controller"}}
		}}, "have Argo CD sync it", ""},
		"a gate outside the cluster":                   {[]func(*Facts){called(admissionregistrationv1.WebhookClientConfig{URL: new("https://gate.example")})}, before, ""},
		"a configuration that calls another namespace": {[]func(*Facts){called(admissionregistrationv1.WebhookClientConfig{Service: &admissionregistrationv1.ServiceReference{Namespace: "gates", Name: "evictgate"}})}, before, ""},
		"no configuration":                             {[]func(*Facts){noConfiguration}, manifests, "kubectl apply -k config/default"},
		"no configuration, and cert-manager":           {[]func(*Facts){certManager, noConfiguration}, manifests, "kubectl apply -k config/overlays/certmanager"},
		"no Deployment":                                {[]func(*Facts){noDeployment(notFound("deployments"))}, manifests, "kubectl apply -k config/default"},
		"a Deployment that is not shown":               {[]func(*Facts){noConfiguration, noDeployment(forbidden("deployments"))}, before, ""},
		"a configuration that is not shown":            {[]func(*Facts){func(f *Facts) { noConfiguration(f); f.Configuration.Err = forbidden("v") }}, before, ""},
		"nothing at all":                               {[]func(*Facts){noConfiguration, noDeployment(notFound("deployments"))}, manifests, "kubectl apply -k config/default"},
	} {
		t.Run(name, func(t *testing.T) {
			f := whole(t)
			for _, change := range c.change {
				change(f)
			}
			how, command := f.again()
			if diff := cmp.Diff([]string{c.how, c.command}, []string{how, command}); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
