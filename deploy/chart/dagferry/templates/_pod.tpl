{{/* The pod of the server: of the StatefulSet, or of the Deployment. */}}
{{- define "dagferry.pod" -}}
{{- $tokens := include "dagferry.tokensSecret" . }}
{{- $issuers := include "dagferry.issuersFile" . }}
metadata:
  labels:
    {{- merge (include "dagferry.selector" (list . "server") | fromYaml) (include "dagferry.identityLabels" . | fromYaml) .Values.podLabels .Values.labels | toYaml | nindent 4 }}
  {{- with merge (dict) .Values.podAnnotations .Values.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "dagferry.serviceAccount" . | quote }}
  automountServiceAccountToken: {{ .Values.clusterIssuer.enabled }}  # to fetch the cluster's keys with
  terminationGracePeriodSeconds: {{ empty .Values.store.url | ternary 30 40 }}  # an upload that is being received is finished first, within 25 s
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  securityContext:
    {{- include "dagferry.podSecurity" . | nindent 4 }}
    {{- if not .Values.openshift }}
    fsGroup: 50000
    {{- end }}
    fsGroupChangePolicy: OnRootMismatch  # else each start walks the whole volume
  containers:
    - name: server
      image: {{ include "dagferry.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - --listen=0.0.0.0:8000
        - --admin-listen=0.0.0.0:8001
        - --deployments-file=/etc/dagferry/config/deployments.toml
        {{- if $tokens }}
        - --tokens-file=/etc/dagferry/tokens/tokens.toml
        {{- end }}
        {{- if $issuers }}
        - --issuers-file=/etc/dagferry/config/issuers.toml
        {{- end }}
        {{- with .Values.server }}
        {{- with .proxyUserHeader }}
        - --proxy-user-header={{ . }}
        - --proxy-secret-file=/etc/dagferry/proxy/proxy-secret
        {{- end }}
        {{- if .tlsSecret }}
        - --tls-cert=/etc/dagferry/tls/tls.crt
        - --tls-key=/etc/dagferry/tls/tls.key
        {{- end }}
        {{- with .maxStoreBytes }}
        - --max-store-bytes={{ toJson . | trimAll "\"" }}  # as it is written: not 1e+10
        {{- end }}
        {{- end }}
        {{- with .Values.store.url }}
        - {{ printf "--store=%s" . | quote }}
        - --max-cache-bytes={{ include "dagferry.cacheMebibytes" $ }}MiB
        - --peers={{ include "dagferry.server" $ }}-peers:8000
        - --peer-secret-file=/etc/dagferry/peers/peer-secret
        {{- end }}
        {{- with .Values.store.pollSeconds }}
        - --store-poll={{ . }}
        {{- end }}
        {{- with .Values.peers.serverName }}
        - --peer-server-name={{ . }}
        {{- end }}
        {{- with .Values.tiers }}
        - --tiers={{ . }}
        {{- end }}
        {{- if .Values.ingress.thirdPartyIngress }}
        - --third-party-ingress
        {{- end }}
        {{- with .Values.astroCli.path }}
        - --astro-cli={{ . }}
        - {{ printf "--public-url=%s" (include "dagferry.publicUrl" $) | quote }}
        {{- end }}
        {{- with .Values.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if or .Values.store.env .Values.extraEnv }}
      env:
        {{- range $name, $value := .Values.store.env }}
        - name: {{ $name }}
          value: {{ $value | quote }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      {{- with .Values.store.existingSecret }}
      envFrom:
        - secretRef:
            name: {{ . | quote }}
      {{- end }}
      ports:
        - name: http
          containerPort: 8000
        - name: admin
          containerPort: 8001
      {{- if .Values.store.url }}
      lifecycle:
        preStop:  # first every node has to learn that other servers are to be asked; `sleep` needs Kubernetes 1.30
          exec:
            command: [/opt/dagferry/bin/python, -c, "import time; time.sleep(5)"]
      {{- end }}
      startupProbe:  # reads the deploy logs of all deployments first
        httpGet:
          path: /healthz
          port: admin
        periodSeconds: 1
        failureThreshold: 300
      livenessProbe:
        httpGet:
          path: /healthz
          port: admin
        timeoutSeconds: 5
      readinessProbe:
        httpGet:
          path: /readyz
          port: admin
        periodSeconds: 5
        timeoutSeconds: 5
      resources:
        {{- empty .Values.resources | ternary (include "dagferry.tierResources" .) (toYaml .Values.resources) | nindent 8 }}
      securityContext:
        {{- include "dagferry.containerSecurity" . | nindent 8 }}
      volumeMounts:
        - name: data
          mountPath: /var/lib/dagferry
        - name: config  # folders, never subPath: so a change is seen without a restart
          mountPath: /etc/dagferry/config
          readOnly: true
        {{- if $tokens }}
        - name: tokens
          mountPath: /etc/dagferry/tokens
          readOnly: true
        {{- end }}
        {{- if .Values.store.url }}
        - name: peers
          mountPath: /etc/dagferry/peers
          readOnly: true
        {{- end }}
        {{- if .Values.server.proxySecret }}
        - name: proxy
          mountPath: /etc/dagferry/proxy
          readOnly: true
        {{- end }}
        {{- if .Values.server.tlsSecret }}
        - name: tls
          mountPath: /etc/dagferry/tls
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- if .Values.store.url }}
    - name: data  # what is being received, and copies of what the store has
      emptyDir:
        sizeLimit: {{ .Values.store.cacheSize }}
    {{- end }}
    - name: config
      configMap:
        name: {{ include "dagferry.server" . }}-config
    {{- with $tokens }}
    - name: tokens
      secret:
        secretName: {{ . | quote }}
        items:
          - key: tokens.toml
            path: tokens.toml
    {{- end }}
    {{- if .Values.store.url }}
    - name: peers
      secret:
        secretName: {{ include "dagferry.peerSecret" . | quote }}
        items:
          - key: peer-secret
            path: peer-secret
    {{- end }}
    {{- with .Values.server.proxySecret }}
    - name: proxy
      secret:
        secretName: {{ . | quote }}
    {{- end }}
    {{- with .Values.server.tlsSecret }}
    - name: tls
      secret:
        secretName: {{ . | quote }}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
  {{- else if .Values.store.url }}
  topologySpreadConstraints:
    {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - topologyKey: {{ . }}
      maxSkew: 1
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "dagferry.selector" (list $ "server") | nindent 10 }}
      matchLabelKeys: [pod-template-hash]  # in a rolling update the new pods are spread by themselves
    {{- end }}
  {{- end }}
{{- end }}
