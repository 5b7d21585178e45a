// Package v1alpha1 is the EvictionPolicy API: which policy is bound, with which parameters, to
// which evictions, and what its violations do.
//
// +kubebuilder:object:generate=true
// +groupName=evictgate.dev
package v1alpha1
