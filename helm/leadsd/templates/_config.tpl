{{- /*
The one configuration file: `config` as it is written in the values, and the keys that follow from
what Kubernetes brings in. A key that is computed here may not be in `config`; _validate.tpl says so.
*/ -}}

{{- define "leadsd.port.grpc" -}}50051{{- end -}}
{{- define "leadsd.port.admin" -}}9090{{- end -}}

{{- /* Where the files that Kubernetes brings in are: one folder per volume. */ -}}
{{- define "leadsd.folder" -}}/var/run/secrets/leadsd{{- end -}}

{{- /* leadsd's own defaults of what the pod's times follow from; a test compares them with the binary. */ -}}
{{- define "leadsd.drainDelay" -}}
{{- include "leadsd.seconds" (dig "grpc" "drain_delay" "5s" .Values.config) -}}
{{- end -}}
{{- define "leadsd.shutdownGrace" -}}
{{- include "leadsd.seconds" (dig "grpc" "shutdown_grace" "25s" .Values.config) -}}
{{- end -}}

{{- /* Maximum number of pods, except during upgrades. */ -}}
{{- define "leadsd.replicas" -}}
{{- ternary .Values.autoscaling.maxReplicas .Values.replicas .Values.autoscaling.enabled -}}
{{- end -}}

{{- define "leadsd.config" -}}
{{- $computed := dict
  "grpc" (include "leadsd.config.grpc" . | fromYaml)
  "admin" (dict "listen" (printf "%s:%s" .Values.listenAddress (include "leadsd.port.admin" .)))
  "vault" (include "leadsd.config.vault" . | fromYaml)
  "quota" (include "leadsd.config.quota" . | fromYaml)
-}}
{{- if include "leadsd.source" .Values.egress.ca -}}
{{- $file := printf "%s/egress-ca/ca.crt" (include "leadsd.folder" .) -}}
{{- $files := append (dig "egress" "ca_files" (list) .Values.config) $file -}}
{{- $_ := set $computed "egress" (dict "ca_files" $files) -}}
{{- end -}}
{{- if .Values.callers.serviceAccounts.enabled -}}
{{- $_ := set $computed "auth" (dict "jwt" (include "leadsd.config.jwt" . | fromYaml)) -}}
{{- end -}}
{{- if not (or .Values.config.portals .Values.config.portal_discovery) -}}
{{- $_ := set $computed "portals" (dict "default" (dict)) -}}
{{- end -}}
{{- include "leadsd.toml" (dict "path" "" "table" (mergeOverwrite (deepCopy .Values.config) $computed)) -}}
{{- end -}}

{{- define "leadsd.config.grpc" -}}
{{- $folder := include "leadsd.folder" . -}}
listen: {{ printf "%s:%s" .Values.listenAddress (include "leadsd.port.grpc" .) | quote }}
{{- if eq .Values.drain.wait "preStop" }}
drain_delay: 0s
{{- end }}
{{- $limits := get (.Values.resources | default dict) "limits" | default dict }}
{{- $limit := dig "memory" "" $limits | include "leadsd.mebibytes" | int64 }}
{{- if and (gt $limit 0) (not (dig "grpc" "max_request_memory" "" .Values.config)) }}
{{- /* The binary accepts at most 64 GiB. */}}
max_request_memory: {{ div $limit 3 | max 1 | min 65536 }}MiB
{{- end }}
{{- if .Values.tls.enabled }}
tls:
  cert_file: {{ $folder }}/tls/tls.crt
  key_file: {{ $folder }}/tls/tls.key
  {{- if include "leadsd.source" .Values.tls.clientCA }}
  client_ca_file: {{ $folder }}/client-ca/ca.crt
  client_auth: {{ .Values.tls.clientAuth }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "leadsd.config.vault" -}}
{{- $folder := include "leadsd.folder" . -}}
{{- if include "leadsd.source" .Values.vault.ca }}
ca_file: {{ $folder }}/vault-ca/ca.crt
{{- end }}
{{- if .Values.vault.clientCertificate.existingSecret }}
client_cert_file: {{ $folder }}/vault-client/tls.crt
client_key_file: {{ $folder }}/vault-client/tls.key
{{- end }}
{{- with .Values.vault.auth }}
{{- if ne .method "custom" }}
auth:
  method: {{ .method }}
  {{- if and .mount (ne .method "token_file") }}
  mount: {{ .mount | quote }}
  {{- end }}
  {{- if has .method (list "kubernetes" "jwt") }}
  {{- with .role }}
  role: {{ . | quote }}
  {{- end }}
  jwt_file: {{ $folder }}/vault/token
  {{- else if eq .method "approle" }}
  role_id_file: {{ $folder }}/approle/role-id
  {{- if .appRole.secretIdKey }}
  secret_id_file: {{ $folder }}/approle/secret-id
  {{- end }}
  {{- else }}
  file: {{ .tokenFile.path | quote }}
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* Number of replicas that is assumed until their store has reported it. */ -}}
{{- define "leadsd.config.quota" -}}
{{- $folder := include "leadsd.folder" . -}}
{{- $shared := dig "quota" "shared" (dict) .Values.config -}}
{{- if or .Values.sharedQuota.existingSecret $shared.url $shared.url_file -}}
shared:
  expected_replicas: {{ $shared.expected_replicas | default (include "leadsd.replicas" .) }}
  {{- if .Values.sharedQuota.existingSecret }}
  url_file: {{ $folder }}/quota/url
  {{- end }}
  {{- if include "leadsd.source" .Values.sharedQuota.ca }}
  ca_file: {{ $folder }}/quota-ca/ca.crt
  {{- end }}
{{- end -}}
{{- end -}}

{{- define "leadsd.config.jwt" -}}
{{- $folder := include "leadsd.folder" . -}}
{{- with .Values.callers.serviceAccounts -}}
issuer: {{ .issuer | quote }}
audience: {{ .audience | quote }}
jwks_url: {{ .jwksUrl | quote }}
ca_file: {{ $folder }}/cluster/ca.crt
token_file: {{ $folder }}/cluster/token
{{- end -}}
{{- end -}}

{{- /* A file out of a ConfigMap or a Secret, as the items of a projected volume; empty for none. */ -}}
{{- define "leadsd.source" -}}
{{- if or .configMap .secret -}}
- {{ if .configMap }}configMap{{ else }}secret{{ end }}:
    name: {{ .configMap | default .secret }}
    items: [{key: {{ .key | quote }}, path: ca.crt}]
{{- end -}}
{{- end -}}

{{- /* Everything in the folder of files: a volume is mounted under its own name. */ -}}
{{- define "leadsd.volumes" -}}
{{- with .Values.vault.auth }}
{{- if or (has .method (list "kubernetes" "jwt")) (and (eq .method "token_file") .tokenFile.injector) }}
# A token that is good for Vault alone, that the kubelet renews.
- name: vault
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          audience: {{ .audience | quote }}
          expirationSeconds: {{ .tokenExpirationSeconds }}
{{- end }}
{{- if eq .method "approle" }}
- name: approle
  secret:
    secretName: {{ .appRole.existingSecret }}
    defaultMode: 0440
    items:
      - {key: {{ .appRole.roleIdKey | quote }}, path: role-id}
      {{- with .appRole.secretIdKey }}
      - {key: {{ . | quote }}, path: secret-id}
      {{- end }}
{{- end }}
{{- end }}
{{- with include "leadsd.source" .Values.vault.ca }}
- name: vault-ca
  projected:
    sources:
      {{- . | nindent 6 }}
{{- end }}
{{- with include "leadsd.source" .Values.egress.ca }}
- name: egress-ca
  projected:
    sources:
      {{- . | nindent 6 }}
{{- end }}
{{- with .Values.vault.clientCertificate.existingSecret }}
- name: vault-client
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- if .Values.tls.enabled }}
# A folder and no single file: the kubelet renews it, and leadsd sees that.
- name: tls
  secret:
    secretName: {{ .Values.tls.existingSecret | default (printf "%s-tls" (include "leadsd.fullname" .)) }}
    defaultMode: 0440
{{- with include "leadsd.source" .Values.tls.clientCA }}
- name: client-ca
  projected:
    sources:
      {{- . | nindent 6 }}
{{- end }}
{{- end }}
{{- if .Values.sharedQuota.existingSecret }}
- name: quota
  secret:
    secretName: {{ .Values.sharedQuota.existingSecret }}
    defaultMode: 0440
    items:
      - {key: {{ .Values.sharedQuota.key | quote }}, path: url}
{{- end }}
{{- with include "leadsd.source" .Values.sharedQuota.ca }}
- name: quota-ca
  projected:
    sources:
      {{- . | nindent 6 }}
{{- end }}
{{- if .Values.callers.serviceAccounts.enabled }}
# To ask the API server for the keys that callers' tokens are signed with.
- name: cluster
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3600
      - configMap:
          name: kube-root-ca.crt
          items: [{key: ca.crt, path: ca.crt}]
{{- end }}
{{- end -}}

{{- /* Annotations that make Vault's injector add an agent that writes the token file. */ -}}
{{- define "leadsd.injector" -}}
{{- with .Values.vault.auth }}
{{- if and (eq .method "token_file") .tokenFile.injector -}}
vault.hashicorp.com/agent-inject: "true"
vault.hashicorp.com/agent-inject-token: "true"
vault.hashicorp.com/role: {{ .role | quote }}
vault.hashicorp.com/auth-path: auth/{{ .mount | default "kubernetes" }}
vault.hashicorp.com/agent-service-account-token-volume-name: vault
# The same user, or leadsd could not read what the agent writes.
{{- if $.Values.podSecurityContext.runAsUser }}
vault.hashicorp.com/agent-run-as-user: {{ $.Values.podSecurityContext.runAsUser | int64 | quote }}
vault.hashicorp.com/agent-run-as-group: {{ $.Values.podSecurityContext.runAsGroup | default $.Values.podSecurityContext.runAsUser | int64 | quote }}
{{- else }}
vault.hashicorp.com/agent-set-security-context: "false"
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* The ports that leadsd connects to, as the configuration has them. */ -}}
{{- define "leadsd.peers" -}}
{{- $config := .Values.config -}}
- "{{ include "leadsd.urlPort" (dig "hubspot" "base_url" "https://api.hubapi.com" $config) }}"
{{- range $name, $portal := dig "portals" dict $config }}
{{- with dig "base_url" "" ($portal | default dict) }}
- "{{ include "leadsd.urlPort" . }}"
{{- end }}
{{- end }}
- "{{ include "leadsd.urlPort" (dig "vault" "address" "" $config) }}"
{{- with dig "egress" "proxy" "" $config }}
- "{{ include "leadsd.urlPort" . }}"
{{- end }}
{{- with dig "quota" "shared" "url" "" $config }}
- "{{ include "leadsd.urlPort" . }}"
{{- end }}
{{- if or .Values.sharedQuota.existingSecret (dig "quota" "shared" "url_file" "" $config) }}
- "{{ .Values.sharedQuota.port | int }}"
{{- end }}
{{- with dig "trace" "otlp_endpoint" "" $config }}
- "{{ include "leadsd.urlPort" . }}"
{{- end }}
{{- with dig "auth" "jwt" "jwks_url" "" $config }}
- "{{ include "leadsd.urlPort" . }}"
{{- end }}
{{- if .Values.callers.serviceAccounts.enabled }}
- "{{ include "leadsd.urlPort" .Values.callers.serviceAccounts.jwksUrl }}"
# Where the API server itself listens: policies are checked behind its Service.
- "6443"
{{- end }}
{{- end -}}

{{- define "leadsd.urlPort" -}}
{{- $url := urlParse . -}}
{{- regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (get (dict "http" "80" "https" "443" "redis" "6379" "rediss" "6379") $url.scheme) -}}
{{- end -}}
