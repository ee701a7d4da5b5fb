{{/* The first part of all names. Short enough for the StatefulSet's pods, whose labels contain it and a hash. */}}
{{- define "dagferry.base" -}}
{{- $name := .Values.fullnameOverride | default (contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name)) -}}
{{- $name | replace "." "-" | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "dagferry.server" -}}
{{ include "dagferry.base" . }}-server
{{- end }}

{{- define "dagferry.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "dagferry.server" .) "default") -}}
{{- end }}

{{- define "dagferry.testAccount" -}}
{{ include "dagferry.base" . }}-test
{{- end }}

{{/* The labels of a component's pods that its Service and its NetworkPolicy select. They can never change. */}}
{{- define "dagferry.selector" -}}
app.kubernetes.io/name: dagferry-{{ index . 1 }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}
{{- end }}

{{/* The metadata of an object: (dict "root" ROOT "name" NAME), and if wanted "component", "labels", "annotations". */}}
{{- define "dagferry.metadata" -}}
{{- $chart := .root.Chart -}}
{{- $own := include "dagferry.selector" (list .root (.component | default "server")) | fromYaml -}}
{{- $common := dict "app.kubernetes.io/version" $chart.AppVersion "app.kubernetes.io/part-of" "dagferry" "app.kubernetes.io/managed-by" .root.Release.Service "helm.sh/chart" (printf "%s-%s" $chart.Name $chart.Version | replace "+" "_") -}}
name: {{ .name | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- merge $own $common (.labels | default dict) .root.Values.labels | toYaml | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .root.Values.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "dagferry.image" -}}
{{- with .Values.image -}}
{{ .registry }}/{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end }}

{{/* A value in TOML, on one line: a mapping becomes an inline table, without what is null. */}}
{{- define "dagferry.toml" -}}
{{- $parts := list -}}
{{- if kindIs "map" . -}}
  {{- range $key, $value := . -}}
    {{- if not (kindIs "invalid" $value) -}}
      {{- $parts = append $parts (printf "%s = %s" (regexMatch "^[A-Za-z0-9_-]+$" $key | ternary $key (include "dagferry.toml" $key)) (include "dagferry.toml" $value)) -}}
    {{- end -}}
  {{- end -}}
  {{- print "{ " (join ", " $parts) " }" -}}
{{- else if kindIs "slice" . -}}
  {{- range . -}}{{- $parts = append $parts (include "dagferry.toml" .) -}}{{- end -}}
  {{- print "[" (join ", " $parts) "]" -}}
{{- else -}}
  {{- /* JSON, but for two characters that TOML or YAML do not take as they are. */ -}}
  {{- toJson . | replace "\u007f" "\\u007f" | replace "\u0085" "\\u0085" -}}
{{- end -}}
{{- end }}

{{- define "dagferry.deploymentNames" -}}
{{- $names := list -}}
{{- range .Values.deployments -}}{{- $names = append $names .name -}}{{- end -}}
{{- toJson $names -}}
{{- end }}

{{- define "dagferry.deploymentsFile" -}}
{{- with .Values.deploymentDefaults }}
defaults = {{ include "dagferry.toml" . }}
{{- end }}
deployments = [
{{- range .Values.deployments }}
    {{ include "dagferry.toml" . }},
{{- end }}
]
{{- end }}

{{/* The cluster as an issuer, in the form of `issuers`. */}}
{{- define "dagferry.clusterIssuer" -}}
{{- $account := "/var/run/secrets/kubernetes.io/serviceaccount" -}}
name: cluster
kind: kubernetes
audience: {{ .Values.clusterIssuer.audience | quote }}
{{- with .Values.clusterIssuer.issuer }}
issuer: {{ . | quote }}
{{- end }}
jwks_url: https://kubernetes.default.svc/openid/v1/jwks
ca_file: {{ $account }}/ca.crt
bearer_token_file: {{ $account }}/token
rules:
{{- $checkers := printf "system:serviceaccount:%s:%s" .Release.Namespace (include "dagferry.checkerAccount" (list . "*")) }}
{{- range .Values.clusterIssuer.rules | default (list (dict "claims" (dict "sub" (printf "system:serviceaccount:%s:*" .Release.Namespace)) "scopes" (list "sync") "deployments" (include "dagferry.deploymentNames" . | fromJsonArray))) }}
  {{- /* A checker runs the code of candidates: its account must not get what accounts of pods get. */}}
  {{- $except := .except_claims | default dict }}
  {{- if $.Values.checkers }}
  {{- $except = set (deepCopy $except) "sub" (append (kindIs "slice" ($except.sub | default list) | ternary ($except.sub | default list) (list $except.sub)) $checkers) }}
  {{- end }}
  - {{ empty $except | ternary . (set (deepCopy .) "except_claims" $except) | toYaml | nindent 4 | trim }}
{{- end }}
  # For `helm test`, which makes a deployment of its own and deletes it.
  - claims: {sub: "system:serviceaccount:{{ .Release.Namespace }}:{{ include "dagferry.testAccount" . }}"}
    scopes: [admin, deploy]
    deployments: [{{ include "dagferry.testDeployment" . }}]
{{- range .Values.checkers }}
  - claims: {sub: "system:serviceaccount:{{ $.Release.Namespace }}:{{ include "dagferry.checkerAccount" (list $ .deployment) }}"}
    scopes: [check]
    deployments: [{{ prepend (.beside | default list) .deployment | join ", " }}]
{{- end }}
{{- end }}

{{/* The name of a checker's account and Deployment: (list ROOT DEPLOYMENT). */}}
{{- define "dagferry.checkerAccount" -}}
{{ include "dagferry.base" (index . 0) }}-checker-{{ index . 1 }}
{{- end }}

{{- define "dagferry.testDeployment" -}}
helm-test
{{- end }}

{{- define "dagferry.issuersFile" -}}
{{- $issuers := .Values.issuers -}}
{{- if .Values.clusterIssuer.enabled -}}
  {{- $issuers = prepend $issuers (include "dagferry.clusterIssuer" . | fromYaml) -}}
{{- end -}}
{{- if $issuers -}}
issuers = [
{{- range $issuers }}
    {{ include "dagferry.toml" . }},
{{- end }}
]
{{- end -}}
{{- end }}

{{/* The Secret with tokens.toml; empty if there are no tokens. */}}
{{- define "dagferry.tokensSecret" -}}
{{- if .Values.tokens.existingSecret -}}
{{ .Values.tokens.existingSecret }}
{{- else if .Values.tokens.create -}}
{{ include "dagferry.base" . }}-tokens
{{- end -}}
{{- end }}

{{/* The Secret with the token that the chart makes. */}}
{{- define "dagferry.deployTokenSecret" -}}
{{ include "dagferry.base" . }}-deploy-token
{{- end }}

{{- define "dagferry.scheme" -}}
{{- empty .Values.server.tlsSecret | ternary "http" "https" -}}
{{- end }}

{{- define "dagferry.publicUrl" -}}
{{- if .Values.publicUrl -}}
{{ .Values.publicUrl }}
{{- else if .Values.ingress.enabled -}}
{{ empty .Values.ingress.tls.secretName | ternary "http" "https" }}://{{ .Values.ingress.host }}
{{- end -}}
{{- end }}

{{- define "dagferry.tierResources" -}}
{{- $tiers := .Values.tiers | default 1 | int -}}
{{- $amount := dict "cpu" (toString $tiers) "memory" (printf "%dMi" (mul $tiers 1536)) -}}
{{- toYaml (dict "requests" $amount "limits" $amount) -}}
{{- end }}

{{- define "dagferry.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* The restricted standard of pod security. OpenShift chooses user and group by itself, and refuses fixed ones. */}}
{{- define "dagferry.podSecurity" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- if not .Values.openshift }}
runAsUser: 50000
{{- end }}
{{- end }}

{{/* The Secret that the servers know each other by. */}}
{{- define "dagferry.peerSecret" -}}
{{ .Values.peers.existingSecret | default (printf "%s-peers" (include "dagferry.base" .)) }}
{{- end }}

{{/* Half of store.cacheSize, in MiB: the other half is for what is being received. */}}
{{- define "dagferry.cacheMebibytes" -}}
{{- $size := .Values.store.cacheSize -}}
{{- $number := regexFind "^[0-9]+" $size | int64 -}}
{{- $unit := get (dict "Mi" 1 "Gi" 1024 "Ti" 1048576) (regexFind "[A-Z]i$" $size) -}}
{{- div (mul $number $unit) 2 -}}
{{- end }}

{{/* The label that makes Azure's webhook give the pod a token, if the ServiceAccount has a client id. */}}
{{- define "dagferry.identityLabels" -}}
{{- if hasKey .Values.serviceAccount.annotations "azure.workload.identity/client-id" -}}
azure.workload.identity/use: "true"
{{- end -}}
{{- end }}

{{/* The port of a store of one's own, if its URL has one that is not among networkPolicy.egressPorts. */}}
{{- define "dagferry.storePort" -}}
{{- $env := .Values.store.env -}}
{{- with $env.AWS_ENDPOINT_URL | default $env.AZURE_STORAGE_ENDPOINT -}}
{{- $parsed := urlParse . -}}
{{- $port := regexFind ":[0-9]+$" $parsed.host | trimPrefix ":" | default (eq $parsed.scheme "http" | ternary "80" "443") -}}
{{- if not (has $port (toStrings $.Values.networkPolicy.egressPorts)) -}}{{ $port }}{{- end -}}
{{- end -}}
{{- end }}

{{/* Where a cloud's agent on the node gives a pod its credentials: EKS Pod Identity, and GKE's metadata server. */}}
{{- define "dagferry.credentialAddresses" -}}
{{- $found := list -}}
{{- if and (hasPrefix "s3://" .Values.store.url) (not .Values.store.existingSecret) (not (include "dagferry.storePort" .)) -}}
  {{- $found = list (dict "cidr" "169.254.170.23/32" "port" 80) -}}
{{- else if and (hasPrefix "gs://" .Values.store.url) (not .Values.store.existingSecret) -}}
  {{- $found = list (dict "cidr" "169.254.169.254/32" "port" 80) (dict "cidr" "169.254.169.252/32" "port" 988) -}}
{{- end -}}
{{- toJson $found -}}
{{- end }}
