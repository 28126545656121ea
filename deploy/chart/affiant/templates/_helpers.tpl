{{- define "affiant.name" -}}
{{- printf "%s-%s" .Release.Name .part | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "affiant.keys" -}}{{ .Values.bus.keys | default .Release.Name }}{{- end -}}

{{- define "affiant.people" -}}{{ .Values.auth.peopleSecret | default (printf "%s-people" (include "affiant.keys" .)) }}{{- end -}}

{{- define "affiant.busUrl" -}}
{{- if .Values.bus.enabled -}}
{{ if .Values.bus.tls.enabled }}tls{{ else }}nats{{ end }}://{{ .Release.Name }}-nats.{{ .Release.Namespace }}.svc:4222
{{- else -}}
{{ required "bus.url is needed with bus.enabled: false" .Values.bus.url }}
{{- end -}}
{{- end -}}

{{- define "affiant.labels" -}}
app.kubernetes.io/name: affiant
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ .part }}
app.kubernetes.io/part-of: affiant
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "affiant.selector" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "affiant.image" -}}
{{- $digest := index .Values.image.digests .part -}}
{{ .Values.image.registry }}/{{ .part }}{{ if $digest }}@{{ $digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end -}}

{{- define "affiant.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "affiant.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "affiant.placement" -}}
{{- if .Values.topologySpread }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "affiant.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Settings that all four services share, and each its own. The names are checked against the services' code by a test. */}}
{{- define "affiant.settings" -}}
{{- $prefix := printf "AFFIANT_%s" (upper .part) -}}
{{- $oidc := .Values.auth.oidc -}}
{{- $url := printf "http://%s-%s.%s.svc:8400" .Release.Name "%s" .Release.Namespace -}}
- {name: {{ $prefix }}_NATS_URL, value: {{ include "affiant.busUrl" . | quote }}}
- {name: {{ $prefix }}_NATS_NKEY_FILE, value: /etc/affiant/bus/seed}
- {name: {{ $prefix }}_NATS_API, value: AFFIANT.API}
{{- if .Values.bus.tls.enabled }}
- {name: {{ $prefix }}_NATS_CA_FILE, value: /etc/affiant/bus/ca.crt}
{{- end }}
- {name: {{ $prefix }}_HTTP_HOST, value: 0.0.0.0}
- {name: {{ $prefix }}_HTTP_PORT, value: "8400"}
- {name: {{ $prefix }}_DATA_DIR, value: /var/lib/affiant}
- {name: {{ $prefix }}_PEOPLE_FILE, value: /etc/affiant/people/people.json}
- {name: {{ $prefix }}_SERVICE_TOKEN_FILE, value: /etc/affiant/token/token}
- {name: {{ $prefix }}_LOG_FORMAT, value: {{ .Values.log.format }}}
{{- if $oidc.issuer }}
- {name: {{ $prefix }}_OIDC_ISSUER, value: {{ $oidc.issuer | quote }}}
- {name: {{ $prefix }}_OIDC_AUDIENCE, value: {{ required "auth.oidc.audience is needed with an issuer" $oidc.audience | quote }}}
- {name: {{ $prefix }}_OIDC_NAME_CLAIM, value: {{ $oidc.nameClaim | quote }}}
- {name: {{ $prefix }}_OIDC_ROLES_CLAIM, value: {{ $oidc.rolesClaim | quote }}}
{{- with $oidc.roles }}
- {name: {{ $prefix }}_OIDC_ROLES, value: {{ join "," . | quote }}}
{{- end }}
{{- end }}
{{- if and .Values.postgresql.existingSecret (ne .part "explainer") }}
- name: {{ $prefix }}_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.postgresql.existingSecret }}, key: {{ .part }}-url}}
{{- end }}
{{- if or (eq .part "deployer") (eq .part "explainer") }}
- {name: {{ $prefix }}_REGISTRY_URL, value: {{ printf $url "registry" | quote }}}
{{- end }}
{{- if eq .part "explainer" }}
- {name: {{ $prefix }}_AUDITOR_URL, value: {{ printf $url "auditor" | quote }}}
{{- end }}
{{- if eq .part "auditor" }}
- {name: {{ $prefix }}_WITNESS_DIR, value: /var/lib/affiant/witness}
{{- if .Values.auditor.signingKeySecret }}
- {name: {{ $prefix }}_SIGNING_KEY_FILE, value: /etc/affiant/signing/signing.key}
{{- end }}
{{- end }}
{{- if eq .part "deployer" }}
{{- $models := .Values.models }}
- {name: {{ $prefix }}_BACKEND, value: kubernetes}
- {name: {{ $prefix }}_NAMESPACE, value: {{ $models.namespace | default .Release.Namespace | quote }}}
- {name: {{ $prefix }}_INSTALLATION, value: {{ .Release.Name | quote }}}
- {name: {{ $prefix }}_MODELSERVER_IMAGE, value: {{ printf "%s/modelserver@%s" .Values.image.registry (required "image.digests.modelserver is needed: model servers are named by digest, never by tag" .Values.image.digests.modelserver) | quote }}}
- {name: {{ $prefix }}_MODELSERVER_NATS_NKEY_FILE, value: /etc/affiant/bus/seed}
- {name: {{ $prefix }}_MODELSERVER_SECRET, value: {{ include "affiant.keys" . }}-nats-modelserver}
- {name: {{ $prefix }}_REGISTRY_SECRET, value: {{ include "affiant.keys" . }}-token-deployer}
{{- if $models.requireToken }}
- {name: {{ $prefix }}_MODELS_TOKEN_FILE, value: /etc/affiant/bus/token}
{{- end }}
- {name: {{ $prefix }}_MODEL_DELIVERY, value: {{ $models.delivery }}}
- {name: {{ $prefix }}_MIN_REPLICAS, value: {{ $models.minReplicas | quote }}}
- {name: {{ $prefix }}_MAX_REPLICAS, value: {{ $models.maxReplicas | quote }}}
- {name: {{ $prefix }}_RUNTIME, value: {{ $models.runtime }}}
{{- with $models.gateway }}
- {name: {{ $prefix }}_GATEWAY, value: {{ . | quote }}}
- {name: {{ $prefix }}_GATEWAY_DOMAIN, value: {{ required "models.gatewayDomain is needed with models.gateway" $models.gatewayDomain | quote }}}
{{- end }}
{{- with $models.auditSinkUrl }}
- {name: {{ $prefix }}_AUDIT_SINK_URL, value: {{ . | quote }}}
{{- end }}
{{- with .Values.image.pullSecrets }}
- {name: {{ $prefix }}_PULL_SECRET, value: {{ first . | quote }}}
{{- end }}
{{- end }}
{{- end -}}
