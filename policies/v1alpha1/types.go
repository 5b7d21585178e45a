package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Enforcement is what the violations of a bound policy do.
//
// +kubebuilder:validation:Enum=Enforce;Warn;Audit
type Enforcement string

const (
	// EnforcementEnforce lets violations refuse the eviction.
	EnforcementEnforce Enforcement = "Enforce"
	// EnforcementWarn tells them to the client and admits.
	EnforcementWarn Enforcement = "Warn"
	// EnforcementAudit only records them.
	EnforcementAudit Enforcement = "Audit"
)

// EvictionPolicy binds one policy, of the library or written in Rego, to evictions.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,path=evictionpolicies,singular=evictionpolicy,shortName=evp,categories={evictgate,policies}
// +kubebuilder:printcolumn:name="Policy",type=string,JSONPath=`.status.policy`,description="the policy of the library, or inline"
// +kubebuilder:printcolumn:name="Enforcement",type=string,JSONPath=`.spec.enforcement`,description="what its violations do"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="whether this version of the policy serves"
// +kubebuilder:printcolumn:name="Refused",type=integer,JSONPath=`.status.counts.refused`,description="evictions that it refused"
// +kubebuilder:printcolumn:name="Warned",type=integer,JSONPath=`.status.counts.warned`,description="evictions that it warned of"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Audited",type=integer,JSONPath=`.status.counts.audited`,priority=1
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.counts.failed`,priority=1
// +kubebuilder:printcolumn:name="Last",type=date,JSONPath=`.status.counts.lastViolation`,description="its last violation",priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
type EvictionPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec EvictionPolicySpec `json:"spec"`
	// Status is written by Evictgate alone; in a file it is left alone.
	//
	// +optional
	Status EvictionPolicyStatus `json:"status,omitzero"`
}

// EvictionPolicyList is a list of EvictionPolicies.
//
// +kubebuilder:object:root=true
type EvictionPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []EvictionPolicy `json:"items"`
}

// EvictionPolicySpec says what is bound and how. Exactly one of Library and Rego is set.
//
// +kubebuilder:validation:XValidation:rule="has(self.library) != has(self.rego)",message="set exactly one of library and rego"
type EvictionPolicySpec struct {
	// Library is the id of a policy of the embedded library, for example freeze_window;
	// `evictgate policy list` shows them.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Library string `json:"library,omitempty"`
	// Rego is the policy itself: one module in a package eviction.<id>.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	Rego string `json:"rego,omitempty"`
	// Parameters are what the policy sees as input.parameters, together with its defaults.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	Parameters *runtime.RawExtension `json:"parameters,omitempty"`
	// Enforcement is what violations do: Enforce lets them refuse the eviction, Warn tells them to the
	// client and admits, Audit only records them.
	//
	// +optional
	// +kubebuilder:default=Enforce
	Enforcement Enforcement `json:"enforcement,omitempty"`
	// Match limits the binding; without it, every eviction is looked at.
	//
	// +optional
	Match *Match `json:"match,omitempty"`
	// MaxHold is how long the binding may go on refusing the eviction of one pod, for example 24h. Then
	// its violations are warnings for that pod, so that nothing blocks for ever unnoticed. No limit by
	// default.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(h|m|s|ms|us|ns))+$') && duration(self) > duration('0s')",message="must be a time above zero, such as 24h or 90m"
	MaxHold *metav1.Duration `json:"maxHold,omitempty"`
}

// Match selects evictions. All that is given must hold, and no exclude.
type Match struct {
	Scope `json:",inline"`
	// Excludes are scopes that the binding leaves alone.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:XValidation:rule="has(self.namespaceSelector) || has(self.podSelector) || has(self.podState) || has(self.evictors)",message="would exclude every eviction; name a namespaceSelector, podSelector, podState or evictors"
	Excludes []Scope `json:"excludes,omitempty"`
}

// Scope describes a set of evictions; what is not given is not looked at.
type Scope struct {
	// NamespaceSelector selects by the labels of the pod's namespace.
	//
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	// PodSelector selects by the labels of the pod.
	//
	// +optional
	PodSelector *metav1.LabelSelector `json:"podSelector,omitempty"`
	// PodState selects by how the pod is.
	//
	// +optional
	PodState *PodState `json:"podState,omitempty"`
	// Evictors selects by who evicts; one of them must fit.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Evictors []EvictorMatch `json:"evictors,omitempty"`
}

// PodState describes a pod that does no useful work; all that is given must hold. As an exclude it lets
// such pods go whatever the policy says.
//
// +kubebuilder:validation:XValidation:rule="(has(self.crashLooping) && self.crashLooping) || has(self.unreadyFor)",message="set crashLooping to true, or unreadyFor"
type PodState struct {
	// CrashLooping is true for pods with a container in CrashLoopBackOff.
	//
	// +optional
	CrashLooping bool `json:"crashLooping,omitempty"`
	// UnreadyFor is how long the pod must have been without the Ready condition, for example 1h.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(h|m|s|ms|us|ns))+$') && duration(self) > duration('0s')",message="must be a time above zero, such as 1h or 15m"
	UnreadyFor *metav1.Duration `json:"unreadyFor,omitempty"`
}

// EvictorMatch describes an evictor; all that is given must hold.
//
// +kubebuilder:validation:XValidation:rule="has(self.kind) || has(self.user) || has(self.group)",message="is empty; name a kind, user or group"
type EvictorMatch struct {
	// Kind is the normalised evictor, for example cluster-autoscaler or user.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Kind string `json:"kind,omitempty"`
	// User is the user name.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	User string `json:"user,omitempty"`
	// Group is one of the user's groups.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Group string `json:"group,omitempty"`
}

const (
	// ConditionReady says whether the policy as it stands in spec serves.
	ConditionReady = "Ready"

	// ReasonCompiled: it compiles, and serves.
	ReasonCompiled = "Compiled"
	// ReasonInvalid: it does not compile, or its parameters do not fit.
	ReasonInvalid = "Invalid"
	// ReasonConflict: it is right by itself, but cannot stand beside the other policies.
	ReasonConflict = "Conflict"

	// PolicyInline is the policy in the status of an EvictionPolicy with spec.rego.
	PolicyInline = "inline"
)

// EvictionPolicyStatus is what became of the policy.
type EvictionPolicyStatus struct {
	// ObservedGeneration is the generation that the conditions are about.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Policy is the id of the policy of the library, or inline.
	//
	// +optional
	Policy string `json:"policy,omitempty"`
	// Revision identifies the set of policies, of all sources, that this one is part of. It follows a
	// change of another policy within half a minute.
	//
	// +optional
	Revision string `json:"revision,omitempty"`
	// Conditions: Ready is True with reason Compiled, or False with reason Invalid or Conflict and a
	// message that lists every problem with its line and column.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Counts are over all replicas since the policy was created; dry runs do not count.
	//
	// +optional
	Counts Counts `json:"counts,omitzero"`
}

// Counts say how often a policy spoke. A review counts at most once in each.
type Counts struct {
	// Refused is the number of reviews with a violation that refuses the eviction.
	//
	// +optional
	Refused int64 `json:"refused"`
	// Warned is the number of reviews with a violation that is told to the client only: by Warn, by a
	// policy's warn rule, after MaxHold, or because the evictor overrode it.
	//
	// +optional
	Warned int64 `json:"warned"`
	// Audited is the number of reviews with a violation that is recorded only.
	//
	// +optional
	Audited int64 `json:"audited"`
	// Failed is the number of reviews for which the policy could not be evaluated.
	//
	// +optional
	Failed int64 `json:"failed"`
	// LastViolation is when the policy last had a violation; a failure is none.
	//
	// +optional
	LastViolation *metav1.Time `json:"lastViolation,omitempty"`
}
