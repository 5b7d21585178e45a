package doctor

import (
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/certs"
	"github.com/evictgate/evictgate/webhook/hooks"
	"github.com/evictgate/evictgate/webhook/install/registration"
)

// standard is what the manifests call everything as long as nobody changes them.
const standard = "evictgate"

// reapply is the cure that puts back what the manifests say; how that is done is the last of what is formatted.
func (f *Facts) reapply(finding *Finding, format string, args ...any) {
	how, command := f.again()
	finding.cure(format, append(args, how)...)
	finding.Command = command
}

// again says how this installation is applied once more. Other manifests than its own would break it, so there is a
// command only where it is known which those are.
func (f *Facts) again() (how, command string) {
	objects := f.applied()
	marks := marksOf(objects)
	release, dir := marks["meta.helm.sh/release-name"], f.kustomization()
	switch {
	case slices.ContainsFunc(objects, registration.ByArgoCD):
		return "have Argo CD sync it", ""
	case marks["kustomize.toolkit.fluxcd.io/name"]+marks["helm.toolkit.fluxcd.io/name"] != "":
		return "have Flux reconcile it", ""
	case release != "":
		return fmt.Sprintf("have Helm upgrade release %s to the chart and the values that it has", release),
			fmt.Sprintf("helm upgrade %s config/helm/evictgate --namespace %s --reuse-values", release, marks["meta.helm.sh/release-namespace"])
	case dir != "":
		return "apply the manifests again, with the same image and changes", "kubectl apply -k " + dir
	}
	return "apply the manifests again, as they were applied before", ""
}

// applied are the objects by which one sees who keeps the installation.
func (f *Facts) applied() (objects []metav1.Object) {
	if f.Configuration.Value != nil {
		objects = append(objects, f.Configuration.Value)
	}
	if f.Deployment.Value != nil {
		objects = append(objects, f.Deployment.Value)
	}
	return objects
}

// marksOf are the labels and annotations of objects.
func marksOf(objects []metav1.Object) map[string]string {
	marks := map[string]string{}
	for _, o := range objects {
		maps.Copy(marks, o.GetLabels())
		maps.Copy(marks, o.GetAnnotations())
	}
	return marks
}

// kustomization is the directory that makes this installation; empty when none does, or it is not known. Where the
// configuration is gone, its failurePolicy is taken to be the usual one.
func (f *Facts) kustomization() string {
	hook := f.hook(hooks.Evictions)
	hidden := f.Configuration.hidden() || f.Configuration.missing() && f.Deployment.hidden()
	changed := f.Namespace != standard || f.Name != standard || f.Target.Configuration != standard ||
		hook != nil && (hook.ClientConfig.Service == nil || hook.ClientConfig.Service.Namespace != standard)
	switch ignores := ignores(hook); {
	case hidden || changed:
		return ""
	case f.keepsCA() && ignores:
		return "config/overlays/ignore"
	case f.keepsCA():
		return "config/default"
	case f.issued() && !ignores:
		return "config/overlays/certmanager"
	}
	return ""
}

// keepsCA reports whether evictgate keeps the CA itself, by its arguments or, without a Deployment, the configuration.
func (f *Facts) keepsCA() bool {
	if a := f.Arguments.Value; a != nil {
		return a.CASecret != ""
	}
	return f.Configuration.Value == nil || f.selfSigned()
}

// issued reports whether cert-manager keeps the caBundle; without a configuration it may.
func (f *Facts) issued() bool {
	if f.Configuration.Value == nil {
		return true
	}
	by, _ := f.injection()
	return by == certs.FromCertificate
}
