package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/webhook/install/doctor"
)

func TestTheArgumentsOfADeploymentAreUnderstood(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want *doctor.Arguments
	}{
		"none":                {[]string{"serve"}, &doctor.Arguments{CASecret: "gates/evictgate-ca", SecretPath: "keep"}},
		"as in the manifests": {[]string{"serve", "--policies=default", "--policies=cluster", "--certs=self"}, &doctor.Arguments{Cluster: true, CASecret: "gates/evictgate-ca", SecretPath: "keep"}},
		"other policies": {[]string{"serve", "--policies=/policies,oci://registry/policies"},
			&doctor.Arguments{Elsewhere: []string{"/policies", "oci://registry/policies"}, CASecret: "gates/evictgate-ca", SecretPath: "keep"}},
		"certificates from files": {[]string{"serve", "--certs=files", "--cert-dir=/certs"}, &doctor.Arguments{CertDir: "/certs", SecretPath: "follow"}},
		"another Secret":          {[]string{"serve", "--cert-namespace=certs", "--cert-secret=ca"}, &doctor.Arguments{CASecret: "certs/ca", SecretPath: "keep"}},
		"variables":               {[]string{"serve", "--cert-namespace=$(NAMESPACE)", "--cert-secret=$(NAME)-$(OTHER)"}, &doctor.Arguments{CASecret: "gates/ca-$(OTHER)", SecretPath: "keep"}},
		"flags of another time":   {[]string{"serve", "--teleport=on"}, &doctor.Arguments{CASecret: "gates/evictgate-ca", SecretPath: "keep"}},
		"another program":         {[]string{"sleep"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "gates", Name: "evictgate"}}
			d.Spec.Template.Spec.Containers = []corev1.Container{{Args: c.args, Env: []corev1.EnvVar{
				{Name: "NAME", Value: "ca"},
				{Name: "OTHER", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.uid"}}},
				{Name: "NAMESPACE", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}}},
			}}}
			got, err := argumentsOf(d)
			if diff := cmp.Diff(c.want, got); diff != "" || (err != nil) != (c.want == nil) {
				t.Errorf("%v; -want +got:\n%s", err, diff)
			}
		})
	}
}
