// Package v1alpha1 is the EvictionPolicy API: which policy is bound, with which parameters, to
// which evictions, and what its violations do.
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

const (
	// APIVersion is the group and version of EvictionPolicy.
	APIVersion = "evictgate.dev/v1alpha1"
	// Kind is its kind.
	Kind = "EvictionPolicy"
)

// Enforcement is what the violations of a bound policy do.
type Enforcement string

const (
	// EnforcementEnforce lets violations refuse the eviction.
	EnforcementEnforce Enforcement = "Enforce"
	// EnforcementWarn tells them to the client and admits.
	EnforcementWarn Enforcement = "Warn"
	// EnforcementAudit only records them.
	EnforcementAudit Enforcement = "Audit"
)

// EvictionPolicy binds one policy. It is cluster-scoped.
type EvictionPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec EvictionPolicySpec `json:"spec"`
}

// EvictionPolicySpec says what is bound and how. Exactly one of Library and Rego is set.
type EvictionPolicySpec struct {
	// Library is the id of a policy of the embedded library.
	Library string `json:"library,omitempty"`
	// Rego is the policy itself: one module in a package eviction.<id>.
	Rego string `json:"rego,omitempty"`
	// Parameters are what the policy sees as input.parameters, together with its defaults.
	Parameters *runtime.RawExtension `json:"parameters,omitempty"`
	// Enforcement is Enforce by default.
	Enforcement Enforcement `json:"enforcement,omitempty"`
	// Match limits the binding; without it, every eviction is looked at.
	Match *Match `json:"match,omitempty"`
	// MaxHold is how long the binding may go on refusing the eviction of one pod, for example 24h. Then
	// its violations are warnings for that pod, so that nothing blocks for ever unnoticed. No limit by
	// default.
	MaxHold *metav1.Duration `json:"maxHold,omitempty"`
}

// Match selects evictions. All that is given must hold, and no exclude.
type Match struct {
	Scope `json:",inline"`
	// Excludes are scopes that the binding leaves alone.
	Excludes []Scope `json:"excludes,omitempty"`
}

// Scope describes a set of evictions; what is not given is not looked at.
type Scope struct {
	// NamespaceSelector selects by the labels of the pod's namespace.
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	// PodSelector selects by the labels of the pod.
	PodSelector *metav1.LabelSelector `json:"podSelector,omitempty"`
	// PodState selects by how the pod is.
	PodState *PodState `json:"podState,omitempty"`
	// Evictors selects by who evicts; one of them must fit.
	Evictors []EvictorMatch `json:"evictors,omitempty"`
}

// PodState describes a pod that does no useful work; all that is given must hold. As an exclude it lets
// such pods go whatever the policy says.
type PodState struct {
	// CrashLooping is true for pods with a container in CrashLoopBackOff.
	CrashLooping bool `json:"crashLooping,omitempty"`
	// UnreadyFor is how long the pod must have been without the Ready condition, for example 1h.
	UnreadyFor *metav1.Duration `json:"unreadyFor,omitempty"`
}

// EvictorMatch describes an evictor; all that is given must hold.
type EvictorMatch struct {
	// Kind is the normalised evictor, for example cluster-autoscaler or user.
	Kind string `json:"kind,omitempty"`
	// User is the user name.
	User string `json:"user,omitempty"`
	// Group is one of the user's groups.
	Group string `json:"group,omitempty"`
}
