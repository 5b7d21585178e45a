package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	// Group is the API group of EvictionPolicy.
	Group = "evictgate.dev"
	// Version is its version.
	Version = "v1alpha1"
	// APIVersion is the group and version of EvictionPolicy.
	APIVersion = Group + "/" + Version
	// Kind is its kind.
	Kind = "EvictionPolicy"
	// Resource is its name in a URL.
	Resource = "evictionpolicies"
)

// GroupVersion is the group and version of EvictionPolicy.
func GroupVersion() schema.GroupVersion { return schema.GroupVersion{Group: Group, Version: Version} }

// AddToScheme registers EvictionPolicy and its list.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion(), &EvictionPolicy{}, &EvictionPolicyList{})
	metav1.AddToGroupVersion(s, GroupVersion())
	return nil
}
