{{- define "evictgate.labels" -}}
app.kubernetes.io/name: evictgate
app.kubernetes.io/part-of: evictgate
{{- end }}

{{- define "evictgate.selector" -}}
app.kubernetes.io/name: evictgate
app.kubernetes.io/component: webhook
{{- end }}

{{- /* What stands behind the paths of the webhooks: the value, or what stands there now; with cert-manager it is made at the
first installation, since nobody else writes it. Replicas of a version that knows no secret would answer 404, so there is
none until the ones that run know it. Where the cluster is not asked, as by `helm template`, there is only the value. */}}
{{- define "evictgate.secretPart" -}}
{{- $now := "" }}
{{- range (lookup "admissionregistration.k8s.io/v1" "ValidatingWebhookConfiguration" "" "evictgate").webhooks }}
{{- if eq .name "evictions.evictgate.dev" }}{{ $now = dig "clientConfig" "service" "path" "" . | trimPrefix "/validate-eviction" }}{{ end }}
{{- end }}
{{- $running := lookup "apps/v1" "Deployment" .Release.Namespace "evictgate" }}
{{- $annotations := dig "spec" "template" "metadata" "annotations" (dict) $running | default dict }}
{{- if and $running (not (hasKey $annotations "evictgate.dev/secret-path")) }}
{{- else if .Values.secretPath }}/{{ .Values.secretPath }}
{{- else if $now }}{{ $now }}
{{- else if and (eq .Values.certificates.mode "certManager") (not .Values.clientCA.configMap) (lookup "v1" "Namespace" "" "kube-system") }}/{{ randAlphaNum 64 | sha256sum | trunc 32 }}
{{- end }}
{{- end }}

{{- /* An object that `make generate` writes, with the labels and the namespace of this release. */}}
{{- define "evictgate.generated" -}}
{{- $object := .root.Files.Get .file | fromYaml }}
{{- $_ := set $object.metadata "labels" (include "evictgate.labels" .root | fromYaml) }}
{{- if hasKey $object.metadata "namespace" }}{{ $_ := set $object.metadata "namespace" .root.Release.Namespace }}{{ end }}
{{- toYaml $object }}
{{- end }}
