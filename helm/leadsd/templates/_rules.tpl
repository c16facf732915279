{{- /*
The alerts of this release alone: every metric is selected by its namespace and job, or one release
would hide the outage of another. In the expressions every word with one of these prefixes is a metric.
*/ -}}
{{- define "leadsd.rules" -}}
{{- $rule := .Values.prometheusRule -}}
{{- $job := $rule.job | default (printf "%s-metrics" (include "leadsd.fullname" .)) -}}
{{- $selector := printf "namespace=%q,job=%q" .Release.Namespace $job -}}
{{- $file := .Files.Get "alerts/leadsd.rules.yaml" | fromYaml -}}
{{- range $group := $file.groups -}}
{{- $_ := set $group "name" (printf "%s.%s" $.Release.Namespace (include "leadsd.fullname" $)) -}}
{{- range $alert := $group.rules -}}
{{- $expr := regexReplaceAll "\\b((leadsd|grpc_server|process)_[a-z0-9_]+)" $alert.expr (printf "${1}{%s}" $selector) -}}
{{- $expr = $expr | replace (printf "{%s}{" $selector) (printf "{%s," $selector) -}}
{{- if eq $alert.alert "LeadsdDown" -}}
{{- $expr = printf "%s\n  or absent(leadsd_build_info{%s})" (trim $expr) $selector -}}
{{- end -}}
{{- $_ := set $alert "expr" $expr -}}
{{- $_ := set $alert "labels" (mergeOverwrite (dict) $alert.labels $rule.alertLabels) -}}
{{- with $rule.runbookUrl -}}
{{- $_ := set $alert.annotations "runbook_url" (printf "%s#%s" . (lower $alert.alert)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $file -}}
{{- end -}}
