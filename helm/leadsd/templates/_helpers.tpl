{{- define "leadsd.name" -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "leadsd.selector" -}}
app.kubernetes.io/name: leadsd
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "leadsd.labels" -}}
{{ include "leadsd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "leadsd.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "leadsd.name" .) -}}
{{- end -}}

{{- /* Values that contradict each other stop the render with a sentence. */ -}}
{{- define "leadsd.validate" -}}
{{- if not .Values.vault.address -}}
{{- fail "vault.address is required: the base URL of Vault or OpenBao, where the HubSpot credentials are." -}}
{{- end -}}
{{- if and (eq .Values.vault.auth.method "approle") (not .Values.vault.auth.approle.secretName) -}}
{{- fail "vault.auth.method is approle, so vault.auth.approle.secretName must name a Secret with the keys role-id and secret-id." -}}
{{- end -}}
{{- if and (eq .Values.vault.auth.method "kubernetes") (not .Values.vault.auth.kubernetes.role) -}}
{{- fail "vault.auth.method is kubernetes, so vault.auth.kubernetes.role must name a role of that auth method." -}}
{{- end -}}
{{- if and (eq .Values.vault.auth.method "token_file") (not .Values.podVolumeMounts) -}}
{{- fail "vault.auth.method is token_file, so podVolumes and podVolumeMounts must bring in the volume that holds the file." -}}
{{- end -}}
{{- end -}}
