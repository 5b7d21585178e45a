package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/v1alpha1"
)

// writePolicies binds each policy of the library once, enforcing. Those that limit evictions only audit:
// the benchmark evicts far more than they let pass.
func writePolicies(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for _, id := range policies.LibraryIDs() {
		var p v1alpha1.EvictionPolicy
		p.APIVersion, p.Kind, p.Name = v1alpha1.APIVersion, v1alpha1.Kind, id
		p.Spec.Library, p.Spec.Enforcement = id, v1alpha1.EnforcementEnforce
		if id == "cooldown" || id == "rate_limit" {
			p.Spec.Enforcement = v1alpha1.EnforcementAudit
		}
		given, err := json.Marshal(parameters(id))
		if err != nil {
			return fmt.Errorf("encode the parameters of %s: %w", id, err)
		}
		p.Spec.Parameters = &runtime.RawExtension{Raw: given}
		raw, err := yaml.Marshal(p)
		if err != nil {
			return fmt.Errorf("encode the policy %s: %w", id, err)
		}
		if err := os.WriteFile(filepath.Join(dir, id+".yaml"), raw, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// parameters are such as a cluster has them, and let the evictions of this benchmark pass: the policies
// have to look at everything and find nothing.
func parameters(id string) map[string]any {
	switch id {
	case "cordoned_nodes_only":
		return map[string]any{"evictors": []any{"descheduler", "vpa-updater"}}
	case "do_not_disrupt":
		return map[string]any{"effect": "delay"}
	case "freeze_window":
		quiet := time.Now().UTC().AddDate(0, 0, 3).Weekday().String()
		return map[string]any{"windows": []any{
			map[string]any{"name": "end of quarter", "from": "2026-06-28T00:00:00Z", "until": "2026-07-02T00:00:00Z"},
			map[string]any{"name": "weekly release", "weekdays": []any{quiet}, "from": "08:00", "to": "18:00", "time_zone": "Europe/Berlin"},
			map[string]any{"name": "nights", "from": "22:00", "to": "06:00", "evictors": []any{"descheduler", "vpa-updater"}, "namespaces": []any{"shop-*"}},
		}}
	case "impossible_budget":
		return map[string]any{"effect": "deny"}
	case "incident_freeze":
		return map[string]any{"active": false, "allow_evictors": []any{}, "allow_groups": []any{"sre"}}
	case "last_ready_replica":
		return map[string]any{"min_ready": 1}
	case "local_storage":
		return map[string]any{"max_empty_dir": "10Gi", "unlimited_empty_dir": false}
	case "one_zone_at_a_time":
		return map[string]any{"max_disrupted": 5}
	case "replacement_ready":
		return map[string]any{"max_replicas": 1}
	case "rate_limit":
		return map[string]any{"limits": []any{
			map[string]any{"per": "owner", "max": 5, "period": "1h"},
			map[string]any{"per": "cluster", "max": 50, "period": "10m"},
		}}
	case "require_budget":
		return map[string]any{"min_replicas": 2}
	case "protected_namespaces":
		return map[string]any{
			"namespaces":         []any{"kube-system", "kube-public", "kube-node-lease", "monitoring"},
			"namespace_prefixes": []any{"openshift-", "istio-"},
			"namespace_labels":   map[string]any{"evictgate.dev/protected": "true"},
			"min_priority":       2000000000,
		}
	case "who_may_evict":
		return map[string]any{"rules": []any{
			map[string]any{"name": "databases", "pod_labels": map[string]any{"tier": "db"}, "allow": map[string]any{"groups": []any{"dba"}}},
			map[string]any{"name": "payments", "namespaces": []any{"payments-*"}, "allow": map[string]any{"users": []any{"jane"}, "evictors": []any{"karpenter"}}},
		}}
	}
	return nil
}
