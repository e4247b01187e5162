{{- define "driver.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "driver.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "driver.labels" -}}
{{ include "driver.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/component: {{ .Values.driver }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "driver.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* What the driver calls itself: the name in slices, claims and sockets. */}}
{{- define "driver.driverName" -}}
{{- $names := dict "gpu" "gpu.example.com" "pizza" "dra.pizza" "cpu" "dra.cpu" "memory" "dra.memory" "blockdev" "dra.blockdev" "net" "dra.net" "nvidia" "gpu.nvidia.com" "device-plugin" "dra.device-plugin" -}}
{{- if not (hasKey $names .Values.driver) -}}
{{- fail (printf "driver %q: this chart has %s" .Values.driver (keys $names | sortAlpha | join ", ")) -}}
{{- end -}}
{{- .Values.driverName | default (get $names .Values.driver) -}}
{{- end }}

{{- define "driver.className" -}}
{{ .Values.deviceClass.name | default (include "driver.driverName" .) }}
{{- end }}
