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

{{- /*
Mebibytes, rounded down, of a Kubernetes quantity such as 768Mi, 1G, 1e9 or 805306368, or of a size of
leadsd such as 256MiB. Empty: 0. The values' schema rejects other text.
*/ -}}
{{- define "leadsd.mebibytes" -}}
{{- $text := . | toString -}}
{{- $number := regexFind "^[0-9.]+([eE][+-]?[0-9]+)?" $text -}}
{{- $unit := $text | trimPrefix $number | trimSuffix "B" -}}
{{- $bytes := dict
  "m" 0.001 "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18
  "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976
-}}
{{- if not $number -}}0
{{- else if not (hasKey $bytes $unit) -}}
{{- fail (printf "'%s' is not a quantity of memory." $text) -}}
{{- else -}}
{{- divf (mulf (float64 $number) (get $bytes $unit)) 1048576 | floor | int64 -}}
{{- end -}}
{{- end -}}
