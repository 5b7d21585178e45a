{{- define "evictgate.labels" -}}
app.kubernetes.io/name: evictgate
app.kubernetes.io/part-of: evictgate
{{- end }}

{{- define "evictgate.selector" -}}
app.kubernetes.io/name: evictgate
app.kubernetes.io/component: webhook
{{- end }}

{{- /* An object that `make generate` writes, with the labels and the namespace of this release. */}}
{{- define "evictgate.generated" -}}
{{- $object := .root.Files.Get .file | fromYaml }}
{{- $_ := set $object.metadata "labels" (include "evictgate.labels" .root | fromYaml) }}
{{- if hasKey $object.metadata "namespace" }}{{ $_ := set $object.metadata "namespace" .root.Release.Namespace }}{{ end }}
{{- toYaml $object }}
{{- end }}
