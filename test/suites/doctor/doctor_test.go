package doctor

import (
	"strings"
	"syscall"
	"testing"

	findings "github.com/evictgate/evictgate/webhook/install/doctor"
)

const (
	ok         = findings.OK
	note       = findings.Note
	warning    = findings.Warning
	problem    = findings.Problem
	notChecked = findings.NotChecked
)

func TestAWholeInstallation(t *testing.T) {
	installed(t)
	r := healthy(t)
	for check, text := range map[string]string{
		"configuration":           "ValidatingWebhookConfiguration evictgate has webhook evictions.evictgate.dev",
		"configuration.rules":     "CREATE of pods/eviction is matched, and nothing else",
		"configuration.owner":     "the configuration goes with namespace evictgate",
		"configuration.policies":  "checks EvictionPolicies",
		"service":                 "Service evictgate/evictgate has 3 ready endpoints",
		"certificate.caBundle":    "has 1 valid CA",
		"certificate.secret":      "the CA of Secret evictgate/evictgate-ca is in the caBundle",
		"replicas":                "3 of 3 replicas are ready",
		"replicas.spread":         "3 ready replicas are on 3 nodes",
		"budget":                  "PodDisruptionBudget evictgate/evictgate allows 1 disruption",
		"gate":                    "dry-run evictions in namespace default were decided",
		"gate.revision":           "policies of revision",
		"clock":                   "the clocks of the API server, of ",
		"access":                  "system:serviceaccount:evictgate:evictgate may do all",
		"policies":                "0 EvictionPolicies, all in force",
		"configuration.foreign":   "holds Evictgate's webhooks and no other",
		"configuration.strangers": "no other webhook calls the gate, trusts its CA or changes evictions",
		"access.beyond":           "may do none of ",
		"access.held":             "holds system:serviceaccount:evictgate:evictgate to what the replicas write",
		"access.writers":          "only system:masters",
	} {
		r.wants(t, check, ok, text)
	}
	r.wants(t, "configuration.exempt", note, "where matchCondition not-evictgate is false")
	if r.Problems+r.Warnings+r.NotChecked > 0 {
		t.Errorf("not healthy:\n%s", r)
	}
	t.Logf("%s", r)
	out, stderr, code := program(t, "doctor", "--kubeconfig", plane.Kubeconfig)
	if code != 0 || stderr != "" || !strings.HasSuffix(out, "\nnothing wrong was found\n") {
		t.Errorf("exit %d: %s%s", code, stderr, out)
	}
	t.Logf("%s", out)
}

// Each case breaks one thing, and fixes it by the command that doctor gives, unless it has its own way.
func TestWhatIsWrongIsFoundAndMended(t *testing.T) {
	installed(t)
	healthy(t)
	patch := func(kind, how, patch string) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			kubectl(t, "-n", namespace, "patch", kind, "evictgate", "--type="+how, "-p", patch)
		}
	}
	hook := func(patches string) func(*testing.T) {
		return patch("validatingwebhookconfiguration", "json", patches)
	}
	reapply := func(t *testing.T) { t.Helper(); run(t, "kubectl apply -k config/default") }
	for _, c := range []struct {
		name   string
		broken func(*testing.T)
		check  string
		status findings.Status
		text   string
		// further findings: check, text
		further []string
		args    []string         // of doctor
		fix     func(*testing.T) // nil runs the finding's command
	}{
		{
			name: "no configuration", broken: func(t *testing.T) { kubectl(t, "delete", "validatingwebhookconfiguration", "evictgate") },
			check: "configuration", status: problem, text: "ValidatingWebhookConfiguration evictgate does not exist",
			further: []string{"gate", "evictions pass undecided: there is no configuration"},
		},
		{
			name: "another rule", broken: hook(`[{"op":"replace","path":"/webhooks/0/rules/0/resources","value":["pods/binding"]}]`),
			check: "configuration.rules", status: problem, text: "no rule of evictions.evictgate.dev matches",
			further: []string{"gate", "evictions pass undecided: no webhook matches them"},
		},
		{
			name: "a rule that matches too much", broken: hook(`[{"op":"replace","path":"/webhooks/0/rules/0/resources","value":["pods/*"]}]`),
			check: "configuration.rules", status: problem, text: "match more than CREATE of pods/eviction", fix: reapply,
		},
		{
			name: "an objectSelector", broken: hook(`[{"op":"replace","path":"/webhooks/0/objectSelector","value":{"matchLabels":{"a":"b"}}}]`),
			check: "configuration.objectSelector", status: problem, text: "which the client chooses",
			further: []string{"gate", "the objectSelector leaves them out"},
			fix:     hook(`[{"op":"replace","path":"/webhooks/0/objectSelector","value":{}}]`),
		},
		{
			name: "the probe's namespace is exempt", broken: hook(`[{"op":"replace","path":"/webhooks/0/namespaceSelector","value":{"matchExpressions":[{"key":"kubernetes.io/metadata.name","operator":"NotIn","values":["default"]}]}}]`),
			check: "gate", status: notChecked, text: "namespace default, where it was tried, is exempt by the namespaceSelector", args: []string{"--probe-namespace=default"},
			fix: hook(`[{"op":"replace","path":"/webhooks/0/namespaceSelector","value":{}}]`),
		},
		{
			name: "default is exempt, and nobody insists on it", broken: hook(`[{"op":"replace","path":"/webhooks/0/namespaceSelector","value":{"matchExpressions":[{"key":"kubernetes.io/metadata.name","operator":"NotIn","values":["default"]}]}}]`),
			check: "gate", status: ok, text: "dry-run evictions in namespace kube-node-lease were decided",
			fix: hook(`[{"op":"replace","path":"/webhooks/0/namespaceSelector","value":{}}]`),
		},
		{
			name: "all namespaces are exempt", broken: hook(`[{"op":"replace","path":"/webhooks/0/namespaceSelector","value":{"matchLabels":{"evict":"gated"}}}]`),
			check: "configuration.exempt", status: problem, text: "(evict=gated) selects none of ",
			fix: hook(`[{"op":"replace","path":"/webhooks/0/namespaceSelector","value":{}}]`),
		},
		{
			name: "the configuration of another installation was left over", broken: func(t *testing.T) { applied(t, leftover("old")) },
			check: "gate", status: problem, text: "the API server cannot ask another gate, which ValidatingWebhookConfiguration old names: ",
		},
		{
			name: "EvictionPolicies are sent elsewhere", broken: hook(`[{"op":"replace","path":"/webhooks/1/clientConfig/service/path","value":"/validate"}]`),
			check: "configuration.policies", status: problem, text: "the API server asks evictgate.evictgate.svc:443/validate about EvictionPolicies",
		},
		{
			name: "a foreign webhook", broken: hook(`[{"op":"add","path":"/webhooks/-","value":{"name":"spy.example.com","clientConfig":{"url":"https://spy.example.com/"},"rules":[{"apiGroups":["spied.example.com"],"apiVersions":["v1"],"resources":["secrets"],"operations":["CREATE"]}],"admissionReviewVersions":["v1"],"sideEffects":"None"}}]`),
			check: "configuration.foreign", status: problem, text: "webhook spy.example.com of ValidatingWebhookConfiguration evictgate is not Evictgate's: it has CREATE of secrets.spied.example.com sent to spy.example.com (written by ",
			fix: hook(`[{"op":"remove","path":"/webhooks/2"}]`),
		},
		{
			name: "Secrets in the eviction webhook", broken: hook(`[{"op":"add","path":"/webhooks/0/rules/-","value":{"apiGroups":["spied.example.com"],"apiVersions":["v1"],"resources":["secrets"],"operations":["CREATE"]}}]`),
			check: "configuration.foreign", status: problem, text: "has more sent to Service evictgate/evictgate than it decides: CREATE of secrets.spied.example.com", fix: reapply,
		},
		{
			name: "nothing holds the service account", broken: func(t *testing.T) { kubectl(t, "delete", "validatingadmissionpolicybinding", "evictgate") },
			check: "access.held", status: warning, text: "no ValidatingAdmissionPolicyBinding has ValidatingAdmissionPolicy evictgate deny anything",
		},
		{
			name: "somebody made the service account an administrator", broken: func(t *testing.T) {
				kubectl(t, "create", "clusterrolebinding", "too-much", "--clusterrole=cluster-admin", "--serviceaccount=evictgate:evictgate")
			},
			check: "access.beyond", status: warning, text: "may do everything, which serving does not need",
			fix: func(t *testing.T) { kubectl(t, "delete", "clusterrolebinding", "too-much") },
		},
		{
			name: "a matchCondition that leaves all out", broken: hook(`[{"op":"replace","path":"/webhooks/0/matchConditions/0/expression","value":"request.namespace == 'evictgate'"}]`),
			check: "gate", status: problem, text: "a matchCondition leaves them out (not-evictgate: request.namespace == 'evictgate')", fix: reapply,
		},
		{
			name: "a matchCondition that fails", broken: hook(`[{"op":"replace","path":"/webhooks/0/matchConditions/0/expression","value":"object.spec.evictgate == 'x'"}]`),
			check: "gate", status: problem, text: "a matchCondition of the webhook cannot be evaluated", fix: reapply,
		},
		{
			name: "the own namespace is not exempt", broken: hook(`[{"op":"remove","path":"/webhooks/0/matchConditions"}]`),
			check: "configuration.own", status: warning, text: "namespace evictgate of the gate itself is not exempt", fix: reapply,
		},
		{
			name: "a long timeout", broken: hook(`[{"op":"replace","path":"/webhooks/0/timeoutSeconds","value":20}]`),
			check: "configuration.timeoutSeconds", status: warning, text: "timeoutSeconds is 20", fix: reapply,
		},
		{
			name: "another path", broken: hook(`[{"op":"replace","path":"/webhooks/0/clientConfig/service/path","value":"/validate"}]`),
			check: "configuration.path", status: problem, text: `path "/validate"`,
			further: []string{"gate", "the API server cannot ask the gate: the path is not served there"}, fix: reapply,
		},
		{
			name: "another port", broken: hook(`[{"op":"replace","path":"/webhooks/0/clientConfig/service/port","value":444}]`),
			check: "service", status: problem, text: "Service evictgate/evictgate has no port 444",
			further: []string{"gate", "the API server cannot ask the gate: the Service lacks the port"}, fix: reapply,
		},
		{
			name: "another Service", broken: hook(`[{"op":"replace","path":"/webhooks/0/clientConfig/service/name","value":"other"}]`),
			check: "service", status: problem, text: "Service evictgate/other, which the API server calls, does not exist",
			further: []string{"gate", "the API server cannot ask the gate: the Service does not exist"},
		},
		{
			name: "no endpoint", broken: func(t *testing.T) { kubectl(t, "-n", namespace, "delete", "endpointslice", "evictgate-here") },
			check: "service", status: problem, text: "has no ready endpoint",
			further: []string{"gate", "the API server cannot ask the gate: no replica is ready"},
			fix: func(t *testing.T) {
				if err := connect(t.Context()); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name: "another CA", broken: func(t *testing.T) {
				kubectl(t, "annotate", "validatingwebhookconfiguration", "evictgate", "cert-manager.io/inject-ca-from-secret-")
				hook(`[{"op":"replace","path":"/webhooks/0/clientConfig/caBundle","value":"` + otherCA(t) + `"}]`)(t)
			},
			check: "gate", status: problem, text: "the API server cannot ask the gate: it does not trust the certificate",
		},
		{
			name: "an empty caBundle", broken: func(t *testing.T) {
				kubectl(t, "annotate", "validatingwebhookconfiguration", "evictgate", "cert-manager.io/inject-ca-from-secret-")
				hook(`[{"op":"remove","path":"/webhooks/0/clientConfig/caBundle"}]`)(t)
			},
			check: "certificate.caBundle", status: problem, text: "the caBundle of evictions.evictgate.dev is empty",
			further: []string{"gate", "the API server cannot ask the gate: it does not trust the certificate"},
		},
		{
			name: "no replica at all", broken: func(t *testing.T) {
				kubectl(t, "-n", namespace, "scale", "deployment", "evictgate", "--replicas=0")
			},
			check: "replicas", status: problem, text: "is scaled to no replica at all",
			fix: func(t *testing.T) {
				kubectl(t, "-n", namespace, "scale", "deployment", "evictgate", "--replicas=3")
				rename(t)
			},
		},
		{
			name: "a pod that is not ready", broken: func(t *testing.T) {
				if err := plane.SetPodReady(t.Context(), namespace, replicas[0].name, false); err != nil {
					t.Fatal(err)
				}
			},
			check: "replicas.pods", status: warning, text: "is not ready: ",
			fix: func(t *testing.T) {
				if err := plane.SetPodReady(t.Context(), namespace, replicas[0].name, true); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name: "no budget", broken: func(t *testing.T) { kubectl(t, "-n", namespace, "delete", "poddisruptionbudget", "evictgate") },
			check: "budget", status: warning, text: "no PodDisruptionBudget selects the replicas",
		},
		{
			name: "a budget that allows nothing", broken: patch("poddisruptionbudget", "merge", `{"spec":{"maxUnavailable":0}}`),
			check: "budget", status: warning, text: "allows no disruption now", fix: reapply,
		},
		{
			name: "no rights", broken: func(t *testing.T) { kubectl(t, "delete", "clusterrolebinding", "evictgate") },
			check: "access", status: problem, text: "system:serviceaccount:evictgate:evictgate may not get, list, watch pods",
			further: []string{"access", "poddisruptionbudgets.policy, validatingwebhookconfigurations.admissionregistration.k8s.io evictgate"},
		},
		{
			name: "no right on the configuration", broken: func(t *testing.T) { kubectl(t, "delete", "clusterrolebinding", "evictgate-selfsigned") },
			check: "access", status: problem, text: "may not patch validatingwebhookconfigurations.admissionregistration.k8s.io evictgate",
		},
		{
			name: "no right on the CA's Secret", broken: func(t *testing.T) { kubectl(t, "-n", namespace, "delete", "rolebinding", "evictgate") },
			check: "access", status: problem, text: "may not get, list, watch, update secrets evictgate-ca in namespace evictgate",
		},
		{
			name: "a hanging replica", broken: func(t *testing.T) {
				for _, r := range replicas {
					r.signal(t, syscall.SIGSTOP)
				}
			},
			check: "gate", status: problem, text: "the API server cannot ask the gate: no answer came in time",
			fix: func(t *testing.T) {
				for _, r := range replicas {
					r.signal(t, syscall.SIGCONT)
				}
			},
		},
		{
			name: "a hanging replica, and too little time", broken: func(t *testing.T) {
				for _, r := range replicas {
					r.signal(t, syscall.SIGSTOP)
				}
			},
			check: "timeout", status: warning, text: "time ran out before everything was asked", args: []string{"--timeout=4s"}, // timeoutSeconds is 5
			fix: func(t *testing.T) {
				for _, r := range replicas {
					r.signal(t, syscall.SIGCONT)
				}
			},
		},
		{
			name: "a hanging replica, and failurePolicy is Ignore", broken: func(t *testing.T) {
				hook(`[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Ignore"}]`)(t)
				for _, r := range replicas {
					r.signal(t, syscall.SIGSTOP)
				}
			},
			check: "gate", status: problem, text: "evictions pass undecided: no answer came in time within timeoutSeconds 5, and failurePolicy is Ignore",
			fix: func(t *testing.T) {
				for _, r := range replicas {
					r.signal(t, syscall.SIGCONT)
				}
				reapply(t)
			},
		},
		{
			name: "a replica is dead and still in the Service", broken: func(*testing.T) { replicas[0].stop() },
			check: "gate", status: problem, text: "the API server cannot ask the gate: nothing listens at the address",
			further: []string{"gate", "dry-run evictions did not pass through the gate"},
			fix:     func(t *testing.T) { replicas[0].restart(t) },
		},
		{
			name: "all are dead, and failurePolicy is Ignore", broken: func(t *testing.T) {
				hook(`[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Ignore"}]`)(t)
				for _, r := range replicas {
					r.stop()
				}
			},
			check: "gate", status: problem, text: "evictions in namespace default pass undecided: the API server gets no answer and failurePolicy is Ignore, or a matchCondition",
			fix: func(t *testing.T) {
				reapply(t)
				for _, r := range replicas {
					r.restart(t)
				}
			},
		},
		{
			name: "replicas decide by different policies", broken: func(t *testing.T) { replicas[1].restart(t, "--policies=cluster") },
			check: "gate.revision", status: warning, text: "replicas decide by different policies",
			fix: func(t *testing.T) { replicas[1].restart(t) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.broken(t)
			r := settled(t, c.check, c.status, c.text, c.args...)
			f := r.wants(t, c.check, c.status, c.text)
			for i := 0; i < len(c.further); i += 2 {
				r.wants(t, c.further[i], problem, c.further[i+1])
			}
			if bad := c.status == problem || c.status == warning; bad && (f.Cure == "" || r.code != 1) {
				t.Errorf("exit %d, and cure %q", r.code, f.Cure)
			}
			if f.Command != "" && !strings.Contains(f.Command, " --kubeconfig "+plane.Kubeconfig+" ") {
				t.Errorf("command for another cluster: %s", f.Command)
			}
			if c.fix == nil {
				run(t, f.Command)
			} else {
				c.fix(t)
			}
			healthy(t)
		})
	}
}

// leftover is the configuration of an installation in namespace gates that is gone.
func leftover(name string) string {
	return `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: ` + name + `}
webhooks:
- name: evictions.evictgate.dev
  clientConfig: {service: {name: evictgate, namespace: gates, path: /validate-eviction}}
  rules: [{apiGroups: [""], apiVersions: [v1], resources: [pods/eviction], operations: [CREATE]}]
  admissionReviewVersions: [v1]
  sideEffects: None
`
}

// The configuration says where an installation is.
func TestAnInstallationInAnotherNamespaceIsFound(t *testing.T) {
	installed(t)
	applied(t, leftover("gates"))
	t.Cleanup(func() {
		kubectl(t, "delete", "validatingwebhookconfiguration", "gates")
		healthy(t)
	})
	r := ask(t, "--webhook-configuration=gates")
	r.wants(t, "replicas", problem, "Deployment gates/evictgate does not exist")
	if r.Namespace != "gates" {
		t.Errorf("the report is about namespace %s", r.Namespace)
	}
	ask(t, "--webhook-configuration=gates", "--namespace=evictgate").wants(t, "replicas", ok, "3 of 3 replicas are ready")
	ask(t, "--webhook-configuration=gone").wants(t, "configuration", problem, "gone does not exist; webhook evictions.evictgate.dev is in evictgate, gates")
}
