// Package upload speaks OPA's decision-log protocol, both ways: a POST of a gzipped JSON array of events.
// Its client sends records to whatever takes OPA's decision logs, its handler takes those of other replicas
// and clusters.
//
// Source of the protocol: https://www.openpolicyagent.org/docs/management-decision-logs and
// v1/plugins/logs of github.com/open-policy-agent/opa.
package upload
