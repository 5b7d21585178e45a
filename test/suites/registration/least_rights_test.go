package registration

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/evictgate/evictgate/certs"
	"github.com/evictgate/evictgate/test/harness/kube"
)

const (
	ours     = "evictgate"
	defaults = "installation"
)

// installed applies what config/default does, of which no replica runs, and returns what its service account's token reaches.
func installed(t *testing.T) (*rest.Config, kubernetes.Interface) {
	t.Helper()
	kube.Need(t)
	kubectl := func(ctx context.Context, args ...string) {
		t.Helper()
		if _, stderr, err := plane.Kubectl(ctx, args...); err != nil {
			t.Fatalf("%v\n%s", err, stderr)
		}
	}
	t.Cleanup(func() {
		kubectl(context.Background(), "delete", "--ignore-not-found", "--wait=true", "--timeout=3m", "-k", defaults)
	})
	kubectl(t.Context(), "apply", "-k", defaults)
	request, err := plane.Client.CoreV1().ServiceAccounts(ours).CreateToken(t.Context(), ours, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config := &rest.Config{Host: plane.Config.Host, BearerToken: request.Status.Token, TLSClientConfig: rest.TLSClientConfig{CAData: plane.Config.CAData}, QPS: -1}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	err = kube.Wait(t.Context(), "the policy to be in force", func(ctx context.Context) (bool, error) {
		err := change(ctx, client, `[{"op":"replace","path":"/webhooks/0/timeoutSeconds","value":6}]`)
		return err != nil && strings.Contains(err.Error(), "ValidatingAdmissionPolicy 'evictgate'"), err
	})
	if err != nil {
		t.Fatal(err)
	}
	return config, client
}

// change tries a JSON patch of the configuration, and leaves it as it is.
func change(ctx context.Context, client kubernetes.Interface, patch string) error {
	_, err := client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Patch(ctx, ours, types.JSONPatchType, []byte(patch), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// aCA is a certificate as a caBundle has it.
func aCA(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// Whoever stole the token may write what a replica writes, and nothing else. Each hostile patch is one that the API
// server takes from an administrator.
func TestWhatAStolenTokenMayWrite(t *testing.T) {
	_, thief := installed(t)
	space := space(t)
	ca, own := aCA(t), namespaceOf(t, ours)
	patch := fmt.Sprintf(`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Namespace","name":%q,"uid":%q}]},"webhooks":[{"name":"evictions.evictgate.dev","clientConfig":{"caBundle":%q}},{"name":"policies.evictgate.dev","clientConfig":{"caBundle":%q}}]}`, space.Name, space.UID, ca, ca)
	hooks := plane.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	if _, err := hooks.Patch(t.Context(), ours, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	const hex32 = "0123456789abcdef0123456789abcdef"
	owner := func(kind, version, name string, uid types.UID, more string) string {
		return fmt.Sprintf(`[{"op":"add","path":"/metadata/ownerReferences/-","value":{"apiVersion":%q,"kind":%q,"name":%q,"uid":%q%s}}]`, version, kind, name, uid, more)
	}
	call := func(field, value string) string {
		return fmt.Sprintf(`[{"op":"replace","path":"/webhooks/0/clientConfig/service/%s","value":%s}]`, field, value)
	}
	hook := func(field, value string) string {
		return fmt.Sprintf(`[{"op":"add","path":"/webhooks/0/%s","value":%s}]`, field, value)
	}
	const foreign = `{"name":"spy.example.com","clientConfig":{"url":"https://spy.example.com/"},"rules":[{"apiGroups":[""],"apiVersions":["v1"],"resources":["secrets"],"operations":["*"]}],"admissionReviewVersions":["v1"],"sideEffects":"None"}`
	for name, patch := range map[string]string{
		"nothing":                        `[]`,
		"another CA":                     `[{"op":"replace","path":"/webhooks/0/clientConfig/caBundle","value":"` + aCA(t) + `"}]`,
		"a secret path":                  call("path", `"/validate-eviction/`+hex32+`"`),
		"a longer secret path":           call("path", `"/validate-eviction/`+hex32+hex32+`"`),
		"a secret path of the policies":  `[{"op":"replace","path":"/webhooks/1/clientConfig/service/path","value":"/validate-evictionpolicy/` + hex32 + `"}]`,
		"the own namespace as an owner":  owner("Namespace", "v1", ours, own.UID, ""),
		"both, as one change of a death": `[{"op":"replace","path":"/webhooks/0/clientConfig/caBundle","value":"` + aCA(t) + `"},` + call("path", `"/validate-eviction/`+hex32+`"`)[1:],
	} {
		t.Run(name+" is written", func(t *testing.T) {
			if err := change(t.Context(), thief, patch); err != nil {
				t.Error(err)
			}
		})
	}
	for name, c := range map[string]struct{ patch, why string }{
		"another Service":                         {call("name", `"spy"`), "another Service, port or host"},
		"a Service of another namespace":          {call("namespace", `"default"`), "another Service, port or host"},
		"another port":                            {call("port", `444`), "another Service, port or host"},
		"a URL":                                   {`[{"op":"remove","path":"/webhooks/0/clientConfig/service"},{"op":"add","path":"/webhooks/0/clientConfig/url","value":"https://spy.example.com/validate-eviction"}]`, "another Service, port or host"},
		"another path":                            {call("path", `"/validate"`), "the end of the path"},
		"the path of the other webhook":           {call("path", `"/validate-evictionpolicy/`+hex32+`"`), "the end of the path"},
		"a short end of the path":                 {call("path", `"/validate-eviction/`+hex32[1:]+`"`), "the end of the path"},
		"an end of the path that is not a secret": {call("path", `"/validate-eviction/`+strings.Repeat("x", 32)+`"`), "the end of the path"},
		"two ends of the path":                    {call("path", `"/validate-eviction/`+hex32+"/"+hex32+`"`), "the end of the path"},
		"no path":                                 {`[{"op":"remove","path":"/webhooks/0/clientConfig/service/path"}]`, "ValidatingAdmissionPolicy"},
		"no caBundle":                             {`[{"op":"remove","path":"/webhooks/0/clientConfig/caBundle"}]`, "not take it away"},
		"a further webhook":                       {`[{"op":"add","path":"/webhooks/-","value":` + foreign + `}]`, "add, remove, rename"},
		"another webhook in the place of one":     {`[{"op":"replace","path":"/webhooks/1","value":` + foreign + `}]`, "add, remove, rename"},
		"one webhook less":                        {`[{"op":"remove","path":"/webhooks/1"}]`, "add, remove, rename"},
		"no webhook":                              {`[{"op":"remove","path":"/webhooks"}]`, "add, remove, rename"},
		"another name":                            {hook("name", `"evictions.example.com"`), "add, remove, rename"},
		"rules for Secrets":                       {hook("rules/-", `{"apiGroups":[""],"apiVersions":["v1"],"resources":["secrets"],"operations":["*"]}`), "rules, selectors"},
		"more of a rule":                          {hook("rules/0/resources/-", `"secrets"`), "rules, selectors"},
		"no matchConditions":                      {`[{"op":"remove","path":"/webhooks/0/matchConditions"}]`, "rules, selectors"},
		"another matchCondition":                  {hook("matchConditions/0/expression", `"false"`), "rules, selectors"},
		"an objectSelector":                       {hook("objectSelector", `{"matchLabels":{"a":"b"}}`), "rules, selectors"},
		"a namespaceSelector":                     {hook("namespaceSelector", `{"matchLabels":{"a":"b"}}`), "rules, selectors"},
		"another matchPolicy":                     {hook("matchPolicy", `"Exact"`), "rules, selectors"},
		"another timeout":                         {hook("timeoutSeconds", `1`), "rules, selectors"},
		"other side effects":                      {hook("sideEffects", `"NoneOnDryRun"`), "rules, selectors"},
		"another version of reviews":              {hook("admissionReviewVersions", `["v1beta1","v1"]`), "rules, selectors"},
		"failurePolicy Ignore":                    {hook("failurePolicy", `"Ignore"`), "failurePolicy Ignore only while"},
		"a label":                                 {`[{"op":"add","path":"/metadata/labels/a","value":"b"}]`, "no label, annotation or finalizer"},
		"no labels":                               {`[{"op":"remove","path":"/metadata/labels"}]`, "no label, annotation or finalizer"},
		"the CA of another Secret":                {`[{"op":"replace","path":"/metadata/annotations/cert-manager.io~1inject-ca-from-secret","value":"spies/spy"}]`, "no label, annotation or finalizer"},
		"a finalizer":                             {`[{"op":"add","path":"/metadata/finalizers","value":["example.com/held"]}]`, "no label, annotation or finalizer"},
		"another namespace as an owner":           {owner("Namespace", "v1", "default", namespaceOf(t, "default").UID, ""), "only the namespace of the installation"},
		"an owner that is gone":                   {owner("Namespace", "v1", ours, "11111111-1111-1111-1111-111111111111", ""), "only the namespace of the installation"},
		"an owner of another kind":                {owner("Node", "v1", ours, own.UID, ""), "only the namespace of the installation"},
		"an owner that is a controller":           {owner("Namespace", "v1", ours, own.UID, `,"controller":true`), "only the namespace of the installation"},
		"somebody else's owner less":              {`[{"op":"replace","path":"/metadata/ownerReferences","value":[]}]`, "only the namespace of the installation"},
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			if err := change(t.Context(), plane.Client, c.patch); err != nil {
				t.Fatalf("an administrator may not, either: %v", err)
			}
			err := change(t.Context(), thief, c.patch)
			if err == nil || !strings.Contains(err.Error(), "ValidatingAdmissionPolicy 'evictgate'") || !strings.Contains(err.Error(), c.why) {
				t.Errorf("want a refusal with %q, got %v", c.why, err)
			}
		})
	}
}

// Neither a right of its own nor one that a platform asks for lets the token delete the configuration.
func TestAStolenTokenDeletesNothing(t *testing.T) {
	_, thief := installed(t)
	hooks := thief.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	if err := hooks.Delete(t.Context(), ours, metav1.DeleteOptions{}); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "cannot delete resource") {
		t.Errorf("deleting: %v", err)
	}
	if _, err := hooks.Create(t.Context(), &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "spy"}}, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("creating another: %v", err)
	}
	role, err := plane.Client.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "deleter-"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"admissionregistration.k8s.io"}, Resources: []string{"validatingwebhookconfigurations"}, ResourceNames: []string{ours}, Verbs: []string{"delete"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = plane.Client.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "deleter-"}, RoleRef: rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: role.Name},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: ours, Name: ours}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	err = kube.Wait(t.Context(), "the policy to refuse a deletion that RBAC allows", func(ctx context.Context) (bool, error) {
		err := hooks.Delete(ctx, ours, metav1.DeleteOptions{})
		return err != nil && strings.Contains(err.Error(), "may not delete its webhook configuration"), err
	})
	if err != nil {
		t.Error(err)
	}
}

// The replicas' own writes pass: the caBundle, the owner, and failurePolicy Ignore when the namespace goes.
func TestWhatTheReplicasWritePasses(t *testing.T) {
	ctrl.SetLogger(logr.Discard())
	config, client := installed(t)
	source, err := certs.Self(certs.SelfOptions{
		RESTConfig: config, SecretNamespace: ours, SecretName: "evictgate-ca", WebhookConfiguration: ours, DNSNames: []string{"evictgate.evictgate.svc"}, Logger: logr.Discard(),
		Webhooks: certs.Webhooks{"evictions.evictgate.dev": "pods/eviction", "policies.evictgate.dev": "evictionpolicies"},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- source.Start(ctx) }()
	stop := func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	run(t, client, ours, ours)
	err = kube.Wait(t.Context(), "the own CA to be trusted", func(context.Context) (bool, error) {
		err := source.Ready(nil)
		return err == nil, err
	})
	stop()
	if err != nil {
		t.Fatal(err)
	}
	awaitOwner(t, ours, namespaceOf(t, ours))
	hold(t, ours)
	if _, stderr, err := plane.Kubectl(t.Context(), "delete", "namespace", ours, "--wait=false"); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	err = kube.Wait(t.Context(), "evictions to pass while the namespace goes", func(ctx context.Context) (bool, error) {
		c, err := plane.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, ours, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		for _, hook := range c.Webhooks {
			if *hook.FailurePolicy != admissionregistrationv1.Ignore {
				return false, errors.New("failurePolicy of " + hook.Name + " is " + string(*hook.FailurePolicy))
			}
		}
		return true, nil
	})
	if err != nil {
		t.Error(err)
	}
	release(t, ours)
	awaitGone(t, ours)
}

// The API server says of no expression that it does not fit the kind.
func TestThePolicyFitsItsKind(t *testing.T) {
	_, _ = installed(t)
	err := kube.Wait(t.Context(), "the policy to be checked", func(ctx context.Context) (bool, error) {
		p, err := plane.Client.AdmissionregistrationV1().ValidatingAdmissionPolicies().Get(ctx, ours, metav1.GetOptions{})
		if err != nil || p.Status.ObservedGeneration != p.Generation || p.Status.TypeChecking == nil {
			return false, err
		}
		for _, w := range p.Status.TypeChecking.ExpressionWarnings {
			t.Errorf("%s: %s", w.FieldRef, w.Warning)
		}
		return true, nil
	})
	if err != nil {
		t.Error(err)
	}
}
