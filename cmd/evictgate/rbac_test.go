package main

import (
	"bytes"
	"io"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/auth/rbac/validation"
	"sigs.k8s.io/yaml"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/output"
)

// serveFlagsOf are the flags as the command line gives them.
func serveFlagsOf(t *testing.T, args ...string) serveFlags {
	t.Helper()
	var f serveFlags
	cmd := newServeWith(&f, output.Printer{Out: io.Discard, Err: io.Discard})
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestManifestRules writes the roles of the manifests, or holds them to the code, and the chart's copies of what is
// generated. They allow the library as a whole: any of its policies may be bound later, and a missing right would
// then hold evictions.
func TestManifestRules(t *testing.T) {
	const config, chart = "../../config/", "../../config/helm/evictgate/files/"
	ours, theirs := serveFlagsOf(t, "--policies=default", "--policies=cluster"), serveFlagsOf(t, "--policies=default", "--policies=cluster", "--certs=files", "--cert-dir=/certs")
	rules, least := ours.rules(policies.EverythingNeeded()), theirs.rules(policies.EverythingNeeded())
	if len(least.Namespaced) > 0 {
		t.Errorf("with certificates from files a Role is needed, too: %v", least.Namespaced)
	}
	clusterRole := func(name string, rules []rbacv1.PolicyRule) []byte {
		return generated(t, rbacv1.ClusterRole{
			TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"},
			ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules,
		})
	}
	hold(t, clusterRole("evictgate", least.Cluster), config+"rbac/cluster_role.yaml", chart+"cluster_role.yaml")
	hold(t, clusterRole("evictgate-selfsigned", beyond(rules.Cluster, least.Cluster)), config+"selfsigned/cluster_role.yaml", chart+"selfsigned_cluster_role.yaml")
	hold(t, generated(t, rbacv1.Role{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "Role"},
		ObjectMeta: metav1.ObjectMeta{Name: "evictgate", Namespace: "evictgate"}, Rules: rules.Namespaced,
	}), config+"selfsigned/role.yaml", chart+"role.yaml")
	for copied, file := range map[string]string{
		"crd/evictgate.dev_evictionpolicies.yaml": "evictgate.dev_evictionpolicies.yaml",
		"prometheus/prometheus_rule.yaml":         "prometheus_rule.yaml",
		"dashboards/evictgate.json":               "evictgate.json",
		"least-rights/policy.yaml":                "least_rights_policy.yaml",
		"least-rights/binding.yaml":               "least_rights_binding.yaml",
	} {
		raw, err := os.ReadFile(config + copied)
		if err != nil {
			t.Fatal(err)
		}
		hold(t, raw, chart+file)
	}
}

// beyond are the rules that others do not cover, verb by verb.
func beyond(rules, others []rbacv1.PolicyRule) (more []rbacv1.PolicyRule) {
	for _, rule := range rules {
		verbs := rule.Verbs
		rule.Verbs = nil
		for _, verb := range verbs {
			single := rule
			single.Verbs = []string{verb}
			if covered, _ := validation.Covers(others, []rbacv1.PolicyRule{single}); !covered {
				rule.Verbs = append(rule.Verbs, verb)
			}
		}
		if len(rule.Verbs) > 0 {
			more = append(more, rule)
		}
	}
	return more
}

func generated(t *testing.T, role any) []byte {
	t.Helper()
	raw, err := yaml.Marshal(role)
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte("# Generated from cmd/evictgate/rbac.go by `make generate`.\n"), raw...)
}

func hold(t *testing.T, want []byte, files ...string) {
	t.Helper()
	for _, file := range files {
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the code says; run make generate:\n%s", file, cmp.Diff(string(want), string(got)))
		}
	}
}

// TestRulesFollowTheFlags names the resources that each set of flags must be allowed beside what every one is.
func TestRulesFollowTheFlags(t *testing.T) {
	nothing := &policies.Needs{}
	common := []string{"pods", "namespaces", "nodes", "replicationcontrollers", "replicasets", "deployments", "statefulsets", "daemonsets",
		"jobs", "cronjobs", "poddisruptionbudgets", "validatingwebhookconfigurations", "events"}
	for name, tt := range map[string]struct {
		args             []string
		namespaced, more []string
	}{
		"an own CA":                      {nil, []string{"secrets", "secrets", "secrets"}, nil},
		"a certificate from files":       {[]string{"--certs=files", "--cert-dir=/certs"}, nil, nil},
		"the cluster's policies":         {[]string{"--policies=cluster"}, []string{"secrets", "secrets", "secrets"}, []string{"evictionpolicies", "evictionpolicies/status"}},
		"a review page for everybody":    {[]string{"--review-listen=:8443"}, []string{"secrets", "secrets", "secrets"}, []string{"tokenreviews", "subjectaccessreviews"}},
		"a review page for port-forward": {[]string{"--review-listen=127.0.0.1:8082"}, []string{"secrets", "secrets", "secrets"}, nil},
		"metrics for tokens":             {[]string{"--metrics-auth"}, []string{"secrets", "secrets", "secrets"}, []string{"tokenreviews", "subjectaccessreviews"}},
		"records that hold everything":   {[]string{"--record-input=full"}, []string{"secrets", "secrets", "secrets"}, []string{"persistentvolumeclaims", "persistentvolumes"}},
		"a certificate from files, and a path of its own": {
			[]string{"--certs=files", "--cert-dir=/certs", "--secret-path=keep"}, []string{"secrets", "secrets"}, nil,
		},
		"an own CA, and callers with certificates": {[]string{"--client-ca=ca.crt"}, []string{"secrets", "secrets"}, nil},
		"a Secret and configuration of a name":     {[]string{"--cert-secret=mine", "--secret-path-secret=path", "--webhook-configuration=mine"}, []string{"secrets", "secrets", "secrets"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := serveFlagsOf(t, tt.args...)
			got := f.rules(nothing)
			sorted := cmp.Transformer("count", func(list []string) map[string]int {
				counts := map[string]int{}
				for _, s := range list {
					counts[s]++
				}
				return counts
			})
			if diff := cmp.Diff(tt.namespaced, resourcesIn(got.Namespaced), sorted); diff != "" {
				t.Errorf("namespaced -want +got:\n%s", diff)
			}
			if diff := cmp.Diff(append(tt.more, common...), resourcesIn(got.Cluster), sorted); diff != "" {
				t.Errorf("cluster -want +got:\n%s", diff)
			}
			for _, rule := range append(got.Namespaced, got.Cluster...) {
				for _, name := range rule.ResourceNames {
					if want := map[string][]string{"secrets": {f.certSecret, f.path.secret}, "validatingwebhookconfigurations": {f.webhookConfiguration}}[rule.Resources[0]]; !slices.Contains(want, name) {
						t.Errorf("%s %q is allowed, the flags say %q", rule.Resources[0], name, want)
					}
				}
			}
		})
	}
}

// Who keeps the caBundle or the owner of the webhook configuration writes it, and nobody else may.
func TestWhatMayBeDoneToTheWebhookConfiguration(t *testing.T) {
	files := []string{"--certs=files", "--cert-dir=/certs"}
	for name, tt := range map[string]struct {
		args []string
		want []string
	}{
		"an own CA":                                   {nil, []string{"get", "list", "watch", "patch"}},
		"an own CA, and another owner":                {[]string{"--own-configuration=false"}, []string{"get", "list", "watch", "patch"}},
		"a certificate from files":                    {files, []string{"get", "list", "watch"}},
		"a certificate from files, and owned":         {append(files, "--own-configuration=true"), []string{"get", "list", "watch", "patch"}},
		"a certificate from files, and another owner": {append(files, "--own-configuration=false"), []string{"get", "list", "watch"}},
		"and a path of its own":                       {append(files, "--own-configuration=false", "--secret-path=keep"), []string{"get", "list", "watch", "patch"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := serveFlagsOf(t, tt.args...)
			want := []rbacv1.PolicyRule{{
				APIGroups: []string{"admissionregistration.k8s.io"}, Resources: []string{"validatingwebhookconfigurations"},
				ResourceNames: []string{"evictgate"}, Verbs: tt.want,
			}}
			got := slices.DeleteFunc(f.rules(&policies.Needs{}).Cluster, func(r rbacv1.PolicyRule) bool { return r.Resources[0] != "validatingwebhookconfigurations" })
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func resourcesIn(rules []rbacv1.PolicyRule) []string {
	var resources []string
	for _, r := range rules {
		resources = append(resources, r.Resources...)
	}
	return resources
}
