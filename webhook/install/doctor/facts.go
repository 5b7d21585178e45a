package doctor

import (
	"context"
	"errors"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/version"

	"github.com/evictgate/evictgate/webhook"
)

// Fact is something that was read, or why it could not be.
type Fact[T any] struct {
	Value T
	Err   error
}

// missing reports whether the API server says that there is no such thing.
func (f Fact[T]) missing() bool { return apierrors.IsNotFound(f.Err) }

// hidden reports whether there may be such a thing all the same.
func (f Fact[T]) hidden() bool { return f.Err != nil && !f.missing() }

// why is the reason of a check that is not made.
func (f Fact[T]) why() string {
	switch {
	case apierrors.IsForbidden(f.Err):
		return "no permission: " + f.Err.Error()
	case errors.Is(f.Err, context.DeadlineExceeded):
		return "time ran out"
	}
	return f.Err.Error()
}

// Target says which installation is meant.
type Target struct {
	// Namespace is that of the Deployment; empty is that of the Service which the configuration names.
	Namespace string
	// Configuration is the name of the ValidatingWebhookConfiguration.
	Configuration string
	// Name is that of the Deployment.
	Name string
	// ProbeNamespace is where dry-run evictions are tried; empty is one that is not exempt.
	ProbeNamespace string
}

// Facts are what was read of an installation. In their Target nothing is left open.
type Facts struct {
	Target
	// Now is when reading began.
	Now time.Time
	// Late is true when time ran out before everything was read.
	Late   bool
	Server Fact[*version.Info]
	// Servers are the slices in which the API servers name themselves.
	Servers Fact[[]discoveryv1.EndpointSlice]

	Configuration Fact[*admissionregistrationv1.ValidatingWebhookConfiguration]
	// Configurations are all of the cluster.
	Configurations Fact[[]admissionregistrationv1.ValidatingWebhookConfiguration]
	// Mutating and MutatingPolicies are all that change objects before the gate sees them.
	Mutating         Fact[[]admissionregistrationv1.MutatingWebhookConfiguration]
	MutatingPolicies Fact[[]admissionregistrationv1.MutatingAdmissionPolicy]
	// Guard and Bindings hold the service account to what it writes of the configuration.
	Guard      Fact[*admissionregistrationv1.ValidatingAdmissionPolicy]
	Bindings   Fact[[]admissionregistrationv1.ValidatingAdmissionPolicyBinding]
	Namespaces Fact[[]corev1.Namespace]
	// Service and Slices are those that the configuration names.
	Service Fact[*corev1.Service]
	Slices  Fact[[]discoveryv1.EndpointSlice]

	// Secret is the one from which the caBundle is made, and Certificate cert-manager's, by the annotations of the
	// configuration. When it has none, Secret is the one that the replicas serve from, if they do.
	Secret      Fact[*corev1.Secret]
	Certificate Fact[*unstructured.Unstructured]

	Deployment Fact[*appsv1.Deployment]
	Arguments  Fact[*Arguments]
	Pods       Fact[[]corev1.Pod]
	// Logs are the last lines of pods that should be ready and are not, by name.
	Logs  map[string]string
	PDBs  Fact[[]policyv1.PodDisruptionBudget]
	Nodes Fact[[]corev1.Node]

	Access Fact[[]Access]
	// Beyond are rights that serving does not need.
	Beyond Fact[[]Access]
	// Grants say who else may what.
	Grants   Fact[Grants]
	Policies Fact[[]Policy]

	Probes Fact[[]Probe]
	// ServerAhead is by how much the API server's clock is ahead of this machine's.
	ServerAhead Span
}

// Arguments are what a Deployment tells its replicas, as far as it matters here.
type Arguments struct {
	// Cluster says that EvictionPolicies are served.
	Cluster bool
	// Elsewhere are the directories and bundles from which policies come, too.
	Elsewhere []string
	// CASecret is the Secret of the own CA, as NAMESPACE/NAME; empty when certificates come from files.
	CASecret string
	// CertDir is where those files are.
	CertDir string
	// SecretPath is keep, follow or off, and ClientCA says that callers must show a certificate.
	SecretPath string
	ClientCA   bool
}

// Access is one thing that the service account must be allowed.
type Access struct {
	authorizationv1.ResourceAttributes
	// For names the EvictionPolicies that alone need it; empty when serving itself does.
	For []string
	// Allowed is the API server's answer.
	Allowed bool
}

// Policy is an EvictionPolicy, as far as its status is told.
type Policy struct {
	Name string
	// Ready is the status of that condition, empty while there is none about the policy as it is now; Message says why.
	Ready, Message string
	// Changed is when it became what it is now.
	Changed time.Time
}

// Probe is one dry-run eviction of a pod that does not exist.
type Probe struct {
	// Sent and Received are by this machine's clock.
	Sent, Received time.Time
	// Code is the HTTP status of the answer, and Message says what was wrong; 0 without an answer.
	Code    int32
	Reason  string
	Message string
	// Explanation is who decided; nil when nobody says so.
	Explanation *webhook.Explanation
}
