package eviction.local_storage_test

import data.eviction.local_storage as policy

_with(volumes) := {
	"request": {"namespace": "shop", "name": "db-0"},
	"pod": {"metadata": {"annotations": {}}, "spec": {"volumes": volumes}},
	"owner": {"kind": "StatefulSet", "name": "db"},
	"claims": [],
	"parameters": {
		"empty_dir": true,
		"max_empty_dir": "1Gi",
		"unlimited_empty_dir": true,
		"host_path": true,
		"node_local_claims": true,
	},
}

_changed(eviction, patches) := json.patch(eviction, [{"op": "add", "path": path, "value": value} | some path, value in patches])

_annotated(eviction, name, value) := _changed(eviction, {"/pod/metadata/annotations": {$"cluster-autoscaler.kubernetes.io/{name}": value}})

_reasons(violations) := {violation.reason | some violation in violations}

_reason(shown) := $"the pods of StatefulSet shop/db keep data on their node ({shown}), which an eviction deletes or leaves behind; name those that may be lost in annotation cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"

_limited(name, limit) := {"name": name, "emptyDir": {"sizeLimit": limit}}

test_admits_volumes_that_are_elsewhere if {
	volumes := [
		{"name": "config", "configMap": {"name": "db"}},
		{"name": "token", "projected": {"sources": []}},
		{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}},
	]
	policy.deny == set() with input as _changed(_with(volumes), {"/claims": [{"name": "data-db-0", "node_local": false}]})
}

test_denies_large_empty_dir if {
	detail := {"volumes": [{"name": "cache", "shown": "emptyDir cache of 10Gi"}]}
	policy.deny == {{"reason": _reason("emptyDir cache of 10Gi"), "detail": detail}} with input as _with([_limited("cache", "10Gi")])
}

test_denies_empty_dir_without_limit[name] if {
	some name, dir in {
		"absent": {},
		"default medium": {"medium": ""},
		"zero": {"sizeLimit": "0"},
		"not a quantity that can be read": {"sizeLimit": "9n"},
		"empty": {"sizeLimit": ""},
	}
	volume := {"name": "tmp", "emptyDir": dir}
	_reasons(policy.deny) == {_reason("emptyDir tmp without limit")} with input as _with([volume])
	policy.deny == set() with input as _changed(_with([volume]), {"/parameters/unlimited_empty_dir": false})
}

test_boundary_of_max_empty_dir[limit] if {
	some limit, held in {
		"1023Mi": 0,
		"1Gi": 1,
		"1024Mi": 1,
		"1073741823": 0,
		"1073741824": 1,
		"1G": 0,
		"1.1G": 1,
		"1e9": 0,
		"2e9": 1,
		"12E2": 0,
		"1E": 1,
		"1073741824000m": 1,
		"1073741823999m": 0,
		"4Ki": 0,
		"999999999999999999.999999999Ei": 1,
	}
	eviction := _changed(_with([_limited("cache", limit)]), {"/parameters/unlimited_empty_dir": false})
	count(policy.deny) == held with input as eviction
}

test_max_empty_dir_of_every_form[maximum] if {
	some maximum in ["0", "1", "512", "0.5k", "100M", "0.001T", "1023.5Mi", "1Gi", "999999999999.999Ti"]
	held := count([1 | maximum != "999999999999.999Ti"])
	eviction := _changed(_with([_limited("cache", "1Gi")]), {"/parameters/max_empty_dir": maximum})
	count(policy.deny) == held with input as eviction
}

test_admits_empty_dir_in_memory[medium] if {
	some medium in ["Memory", "HugePages", "HugePages-2Mi"]
	volumes := [
		{"name": "shm", "emptyDir": {"medium": medium}},
		{"name": "big", "emptyDir": {"medium": medium, "sizeLimit": "64Gi"}},
	]
	policy.deny == set() with input as _with(volumes)
}

test_denies_host_path if {
	volume := {"name": "logs", "hostPath": {"path": "/var/log"}}
	_reasons(policy.deny) == {_reason("hostPath logs")} with input as _with([volume])
	policy.deny == set() with input as _changed(_with([volume]), {"/parameters/host_path": false})
}

test_denies_claims_of_one_node[name] if {
	some name, volume in {
		"data-db-0": {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}},
		"db-0-data": {"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
	}
	eviction := _changed(_with([volume]), {"/claims": [{"name": name, "node_local": true}, {"name": "other", "node_local": true}]})
	_reasons(policy.deny) == {_reason("claim data")} with input as eviction
	policy.deny == set() with input as _changed(eviction, {"/parameters/node_local_claims": false})
}

test_empty_dirs_are_switched_off if {
	policy.deny == set() with input as _changed(_with([_limited("cache", "10Gi")]), {"/parameters/empty_dir": false})
}

test_volumes_of_every_type_are_told_at_once if {
	volumes := [
		_limited("cache", "10Gi"),
		{"name": "a", "hostPath": {"path": "/a"}},
		{"name": "tmp", "emptyDir": {}},
		{"name": "z", "hostPath": {"path": "/z"}},
		{"name": "data", "persistentVolumeClaim": {"claimName": "c"}},
	]
	eviction := _changed(_with(volumes), {"/claims": [{"name": "c", "node_local": true}]})
	_reasons(policy.deny) == {_reason("hostPath a, emptyDir cache of 10Gi, claim data, 2 more")} with input as eviction
}

test_annotation_gives_volumes_up[value] if {
	some value, shown in {
		"cache": "hostPath logs",
		"logs,cache": "",
		"cache, logs": "hostPath logs",
		"": "emptyDir cache of 10Gi, hostPath logs",
		"other": "emptyDir cache of 10Gi, hostPath logs",
	}
	volumes := [_limited("cache", "10Gi"), {"name": "logs", "hostPath": {"path": "/var/log"}}]
	expected := {_reason(shown) | shown != ""}
	_reasons(policy.deny) == expected with input as _annotated(_with(volumes), "safe-to-evict-local-volumes", value)
}

test_pod_that_is_safe_to_evict_may_go if {
	eviction := _with([_limited("cache", "10Gi")])
	policy.deny == set() with input as _annotated(eviction, "safe-to-evict", "true")
	count(policy.deny) == 1 with input as _annotated(eviction, "safe-to-evict", "false")
}

test_pods_that_return_to_their_node_are_left_alone[kind] if {
	some kind in ["DaemonSet", "Node"]
	policy.deny == set() with input as _changed(_with([_limited("cache", "10Gi")]), {"/owner": {"kind": kind, "name": "x"}})
}

test_bare_pod_is_held if {
	reason := "the pod keeps data on its node (emptyDir cache of 10Gi), which an eviction deletes or leaves behind; name those that may be lost in annotation cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
	_reasons(policy.deny) == {reason} with input as _changed(_with([_limited("cache", "10Gi")]), {"/owner": null})
}

test_optional_parts_missing[name] if {
	some name, case in {
		"no volumes": {"patch": {"/pod/spec": {}}, "held": 0},
		"no pod": {"patch": {"/pod": null}, "held": 0},
		"no claims": {"patch": {"/claims": null}, "held": 1},
		"no annotations": {"patch": {"/pod/metadata": {}}, "held": 1},
	}
	volumes := [_limited("cache", "10Gi"), {"name": "data", "persistentVolumeClaim": {"claimName": "c"}}]
	count(policy.deny) == case.held with input as _changed(_with(volumes), case.patch)
}
