{{- /* The flags of a call with grpcurl: encryption, the caller, the portal. */ -}}
{{- define "leadsd.grpcurl" -}}
{{- $config := .Values.config -}}
{{- $clientCA := include "leadsd.source" .Values.tls.clientCA -}}
{{- $auth := dig "auth" (dict) $config -}}
{{- if .Values.tls.enabled -}}
-cacert leadsd-ca.crt -authority {{ include "leadsd.fullname" . }}.{{ .Release.Namespace }}
{{- else -}}
-plaintext
{{- end }}
{{- if and $clientCA (or (eq .Values.tls.clientAuth "require") (not $auth)) }} -cert client.crt -key client.key
{{- end }}
{{- with .Values.callers.serviceAccounts }}
{{- if .enabled }} -H "authorization: Bearer $(kubectl create token default --audience {{ .audience }})"
{{- else if $auth.jwt }} -H "authorization: Bearer $TOKEN"
{{- else if $auth.api_keys }} -H "x-api-key: $KEY"
{{- end }}
{{- end }}
{{- $portals := keys ($config.portals | default dict) | sortAlpha }}
{{- if and (gt (len $portals) 1) (not (has "default" $portals)) }} -H "leadsd-portal: {{ first $portals }}"
{{- end }}
{{- end -}}
