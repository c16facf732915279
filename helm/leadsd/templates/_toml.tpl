{{- /*
A tree of values as TOML, keys in alphabetical order. Helm reads numbers as floats, which TOML keeps
apart from integers, so whole ones are written as integers; texts are written as JSON does, whose
escapes TOML knows. A key without a value is left out.
*/ -}}

{{- /*
A table: its plain keys, then its tables, whose name is only written where something stands under it.
Takes a dict: path (empty for the whole file) and table.
*/ -}}
{{- define "leadsd.toml" -}}
{{- $path := .path -}}
{{- $tables := dict -}}
{{- range $key, $value := .table }}
{{- if kindIs "map" $value }}
{{- $_ := set $tables (printf "%s%s" $path (include "leadsd.toml.key" $key)) $value }}
{{- else if not (kindIs "invalid" $value) }}
{{ include "leadsd.toml.key" $key }} = {{ include "leadsd.toml.value" $value }}
{{- end }}
{{- end }}
{{- range $name, $table := $tables }}
{{- $plain := false }}
{{- range $table }}
{{- if not (kindIs "map" .) }}{{ $plain = true }}{{ end }}
{{- end }}
{{- if or $plain (and $path (not $table)) }}
[{{ $name }}]
{{- end }}
{{- include "leadsd.toml" (dict "path" (printf "%s." $name) "table" $table) }}
{{- end }}
{{- end -}}

{{- define "leadsd.toml.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toRawJson . }}{{ end -}}
{{- end -}}

{{- define "leadsd.toml.value" -}}
{{- if kindIs "string" . -}}
{{- toRawJson . -}}
{{- else if kindIs "slice" . -}}
[{{ range $index, $item := . }}{{ if $index }}, {{ end }}{{ include "leadsd.toml.value" $item }}{{ end }}]
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- printf "%.0f" . -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{- /* Seconds of a duration such as 25s, rounded up. */ -}}
{{- define "leadsd.seconds" -}}
{{- $number := regexFind "^[0-9]+" . | int64 -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- if eq $unit "ms" -}}{{ div (add $number 999) 1000 }}
{{- else -}}{{ mul $number (get (dict "s" 1 "m" 60 "h" 3600) $unit) }}
{{- end -}}
{{- end -}}

{{- /* Mebibytes of a quantity such as 256Mi or 1Gi; 0 for any other way to write it. */ -}}
{{- define "leadsd.mebibytes" -}}
{{- $text := . | toString -}}
{{- $number := regexFind "^[0-9]+" $text | int64 -}}
{{- if regexMatch "^[0-9]+Mi(B)?$" $text -}}{{ $number }}
{{- else if regexMatch "^[0-9]+Gi(B)?$" $text -}}{{ mul $number 1024 }}
{{- else -}}0
{{- end -}}
{{- end -}}
