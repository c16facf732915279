{{- /* Contradictory values stop the render: all at once, one sentence each. */ -}}
{{- define "leadsd.validate" -}}
{{- $faults := concat
  (include "leadsd.faults.config" . | fromYamlArray)
  (include "leadsd.faults.vault" . | fromYamlArray)
  (include "leadsd.faults.callers" . | fromYamlArray)
  (include "leadsd.faults.pods" . | fromYamlArray)
-}}
{{- with $faults -}}
{{- fail (printf "\n\n  - %s\n" (join "\n  - " .)) -}}
{{- end -}}
{{- end -}}

{{- /* Keys that the chart computes. */ -}}
{{- define "leadsd.faults.config" -}}
{{- $config := .Values.config -}}
{{- if or (dig "grpc" "listen" "" $config) (dig "admin" "listen" "" $config) }}
- "config.grpc.listen and config.admin.listen are computed by the chart: the ports are fixed; set listenAddress for the address."
{{- end }}
{{- if dig "grpc" "tls" nil $config }}
- "config.grpc.tls follows from the values under tls: set those, which also mount the files."
{{- end }}
{{- if dig "vault" "auth" nil $config | and (ne .Values.vault.auth.method "custom") }}
- "config.vault.auth follows from vault.auth: remove it, or set vault.auth.method=custom."
{{- end }}
{{- if and (dig "vault" "ca_file" "" $config) (include "leadsd.source" .Values.vault.ca) }}
- "config.vault.ca_file and vault.ca both set Vault's CAs: keep one."
{{- end }}
{{- if and (dig "vault" "client_cert_file" "" $config) .Values.vault.clientCertificate.existingSecret }}
- "config.vault.client_cert_file and vault.clientCertificate both set a client certificate: keep one."
{{- end }}
{{- if and (dig "auth" "jwt" nil $config) .Values.callers.serviceAccounts.enabled }}
- "callers.serviceAccounts sets config.auth.jwt, which supports one issuer: keep one of them."
{{- end }}
{{- if and (dig "egress" "credentials_secret" "" $config) (not (dig "egress" "proxy" "" $config)) (not .Values.extraEnv) }}
- "config.egress.credentials_secret needs a proxy: set config.egress.proxy, or HTTPS_PROXY in extraEnv."
{{- end }}
{{- $url := dig "quota" "shared" "url" "" $config -}}
{{- if contains "@" $url }}
- "config.quota.shared.url contains a password, and a ConfigMap is not secret: put the URL into a Secret and name it in sharedQuota.existingSecret."
{{- end }}
{{- if and .Values.sharedQuota.existingSecret (or $url (dig "quota" "shared" "url_file" "" $config)) }}
- "sharedQuota.existingSecret and config.quota.shared both set the store of the shared quota: keep one."
{{- end }}
{{- $shared := or .Values.sharedQuota.existingSecret $url (dig "quota" "shared" "url_file" "" $config) }}
{{- if and (include "leadsd.source" .Values.sharedQuota.ca) (not $shared) }}
- "sharedQuota.ca is set without a store: name a Secret in sharedQuota.existingSecret, or set config.quota.shared.url."
{{- end }}
{{- if and (include "leadsd.source" .Values.sharedQuota.ca) (dig "quota" "shared" "ca_file" "" $config) }}
- "config.quota.shared.ca_file and sharedQuota.ca both set the store's CAs: keep one."
{{- end }}
{{- range $path, $source := dict "vault.ca" .Values.vault.ca "tls.clientCA" .Values.tls.clientCA "sharedQuota.ca" .Values.sharedQuota.ca "egress.ca" .Values.egress.ca }}
{{- if and $source.configMap $source.secret }}
- "{{ $path }} names a ConfigMap and a Secret: keep one."
{{- end }}
{{- end }}
{{- end -}}

{{- define "leadsd.faults.vault" -}}
{{- if not (dig "vault" "address" "" .Values.config) }}
- "config.vault.address is required: the base URL of Vault or OpenBao, which stores the HubSpot credentials."
{{- end }}
{{- with .Values.vault.auth }}
{{- if and (eq .method "kubernetes") (not .role) }}
- "vault.auth.method is kubernetes, so vault.auth.role must name a role of that auth method."
{{- end }}
{{- if and (eq .method "approle") (not .appRole.existingSecret) }}
- "vault.auth.method is approle, so vault.auth.appRole.existingSecret must name a Secret with the role id and the secret id."
{{- end }}
{{- if eq .method "token_file" }}
{{- if and .tokenFile.injector (not .role) }}
- "vault.auth.tokenFile.injector is on, so vault.auth.role must name the role that the agent logs in with."
{{- end }}
{{- if not (or .tokenFile.injector $.Values.extraVolumeMounts) }}
- "vault.auth.method is token_file, so an agent must write the token: set vault.auth.tokenFile.injector, or provide the volume with extraVolumes and extraVolumeMounts."
{{- end }}
{{- end }}
{{- if and (eq .method "custom") (not (dig "vault" "auth" nil $.Values.config)) }}
- "vault.auth.method is custom, so config.vault.auth must set the auth method."
{{- end }}
{{- end }}
{{- end -}}

{{- define "leadsd.faults.callers" -}}
{{- $config := .Values.config -}}
{{- $clientCA := include "leadsd.source" .Values.tls.clientCA -}}
{{- with .Values.tls }}
{{- if and .enabled .certManager.enabled (not .certManager.issuerRef.name) }}
- "tls.certManager is enabled, so tls.certManager.issuerRef.name must name the issuer."
{{- end }}
{{- if and .enabled .certManager.enabled .existingSecret }}
- "tls.existingSecret and tls.certManager both set the certificate: keep one."
{{- end }}
{{- if and .enabled (not (or .certManager.enabled .existingSecret)) }}
- "tls.enabled needs a certificate: name a Secret in tls.existingSecret, or enable tls.certManager."
{{- end }}
{{- if and (not .enabled) (or .existingSecret .certManager.enabled $clientCA) }}
- "tls has a certificate or a CA, but tls.enabled is false: set it to true, or remove them."
{{- end }}
{{- end }}
{{- $identity := or (dig "auth" nil $config) .Values.callers.serviceAccounts.enabled (and .Values.tls.enabled $clientCA) }}
{{- if and (not (and .Values.tls.enabled $identity)) (not (dig "grpc" "insecure" false $config)) }}
- "leadsd would serve every client that reaches the pod, {{ if $identity }}without TLS{{ else if .Values.tls.enabled }}without authentication{{ else }}without TLS and without authentication{{ end }}: set tls.enabled and one of tls.clientCA, callers.serviceAccounts and config.auth, or allow it with config.grpc.insecure=true."
{{- end }}
{{- if and (not $identity) $config.policy }}
- "config.policy needs authenticated callers: set one of tls.clientCA, callers.serviceAccounts and config.auth."
{{- end }}
{{- if and $identity (not $config.policy) }}
- "config.policy is required with authenticated callers: what no policy allows is denied."
{{- end }}
{{- end -}}

{{- define "leadsd.faults.pods" -}}
{{- $limits := get (.Values.resources | default dict) "limits" | default dict -}}
{{- $limit := dig "memory" "" $limits | include "leadsd.mebibytes" | int64 -}}
{{- $buffers := dig "grpc" "max_request_memory" "" .Values.config | include "leadsd.mebibytes" | int64 -}}
{{- if and (dig "memory" "" $limits) (lt $limit 64) }}
- "resources.limits.memory must be at least 64Mi: leadsd takes 20Mi when idle, and requests need the rest."
{{- end }}
{{- if and (gt $limit 0) (ge $buffers $limit) }}
- "config.grpc.max_request_memory must be less than resources.limits.memory: leadsd would be killed before it rejects a request."
{{- end }}
{{- with .Values.autoscaling }}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) }}
- "autoscaling.minReplicas is greater than autoscaling.maxReplicas."
{{- end }}
{{- if and .enabled (not (or .targetCPU .targetMemory .metrics)) }}
- "autoscaling is enabled without a metric: set targetCPU, targetMemory or metrics."
{{- end }}
{{- end }}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) }}
- "serviceAccount.create is false, so serviceAccount.name must name an existing one."
{{- end }}
{{- if and .Values.service.nodePort (eq .Values.service.type "ClusterIP") }}
- "service.nodePort is not allowed with service.type ClusterIP."
{{- end }}
{{- if and .Values.grpcRoute.enabled (not .Values.grpcRoute.parentRefs) }}
- "grpcRoute is enabled without a gateway: name one in grpcRoute.parentRefs."
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
- "ingress is enabled without a host: set ingress.hosts."
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.networkPolicy.enabled (not .Values.networkPolicy.adminFrom) }}
- "serviceMonitor is enabled, but the NetworkPolicy blocks the metrics: set networkPolicy.adminFrom to the peers of Prometheus."
{{- end }}
{{- end -}}
