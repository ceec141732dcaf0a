{{- define "spanrelay.labels" -}}
app.kubernetes.io/name: {{ .Release.Name }}
{{- end }}

{{- define "spanrelay.claim" -}}
accessModes: [ReadWriteOnce]
{{- with .Values.queue.storageClass }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ .Values.queue.size }}
{{- end }}

{{- /* The pod of both variants; with several relays, one that is not ready leaves the Service. */}}
{{- define "spanrelay.pod" -}}
{{- $several := gt (int .Values.replicas) 1 -}}
metadata:
  labels: {{- include "spanrelay.labels" . | nindent 4 }}
  annotations:
    prometheus.io/scrape: "true"
    prometheus.io/port: "13133"
    checksum/config: {{ .Values.configuration | empty | ternary "1" (sha256sum .Values.configuration) | quote }}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: {{ ternary 30 20 $several }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    seccompProfile: { type: RuntimeDefault }
  containers:
    - name: spanrelay
      image: {{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
      args: [run, --config, /etc/spanrelay/spanrelay.yaml]
      env:
        - name: OTEL_EXPORTER_OTLP_ENDPOINT
          value: {{ .Values.collector }}
        - name: SPANRELAY_TELEMETRY
          value: 0.0.0.0:13133
      envFrom:
        - secretRef: { name: {{ .Values.secret | default .Release.Name }} }
      {{- if $several }}
      # Until the endpoints no longer name the pod, it still gets connections.
      lifecycle:
        preStop:
          sleep: { seconds: 5 }
      {{- end }}
      ports:
        - { name: http, containerPort: 3000 }
        - { name: telemetry, containerPort: 13133 }
      livenessProbe:
        httpGet: { path: /healthz, port: telemetry }
      readinessProbe:
        httpGet: { path: {{ ternary "/readyz" "/healthz" $several }}, port: telemetry }
        periodSeconds: 5
      resources: {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: { drop: [ALL] }
      volumeMounts:
        - { name: configuration, mountPath: /etc/spanrelay, readOnly: true }
        - { name: queue, mountPath: /var/lib/spanrelay }
  volumes:
    - name: configuration
      configMap: { name: {{ .Values.configMap | default .Release.Name }} }
    {{- if not $several }}
    - name: queue
      persistentVolumeClaim: { claimName: {{ .Release.Name }} }
    {{- end }}
{{- end }}
