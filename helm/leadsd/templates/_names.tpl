{{- /* Names end at 52 characters: the longest suffix, -dashboard, still fits in 63. */ -}}
{{- define "leadsd.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "leadsd.fullname" -}}
{{- $name := include "leadsd.name" . -}}
{{- $full := printf "%s-%s" .Release.Name $name -}}
{{- if contains $name .Release.Name -}}
{{- $full = .Release.Name -}}
{{- end -}}
{{- .Values.fullnameOverride | default $full | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "leadsd.serviceAccount" -}}
{{- $default := ternary (include "leadsd.fullname" .) "default" .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default $default -}}
{{- end -}}

{{- define "leadsd.selector" -}}
app.kubernetes.io/name: {{ include "leadsd.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "leadsd.testSelector" -}}
app.kubernetes.io/name: {{ include "leadsd.name" . }}-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* The labels of an object. */ -}}
{{- define "leadsd.labels" -}}
{{ include "leadsd.podLabels" . }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* The labels of a pod: not the chart's version, or a new chart alone would replace every pod. */ -}}
{{- define "leadsd.podLabels" -}}
{{ include "leadsd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /*
The metadata of an object. Takes a dict: root, and as needed suffix, labels, annotations.
*/ -}}
{{- define "leadsd.metadata" -}}
{{- $root := .root -}}
name: {{ include "leadsd.fullname" $root }}{{ with .suffix }}-{{ . }}{{ end }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "leadsd.labels" $root | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with mergeOverwrite (dict) $root.Values.commonAnnotations (.annotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* A table as YAML, without the keys whose value is null. */ -}}
{{- define "leadsd.withoutNulls" -}}
{{- $set := dict -}}
{{- range $key, $value := . }}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $set $key $value }}{{ end }}
{{- end }}
{{- toYaml $set -}}
{{- end -}}

{{- define "leadsd.image" -}}
{{- $name := .Values.image.repository -}}
{{- with .Values.image.registry -}}
{{- $name = printf "%s/%s" . $name -}}
{{- end -}}
{{- with .Values.image.digest -}}
{{- printf "%s@%s" $name . -}}
{{- else -}}
{{- printf "%s:%s" $name (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
