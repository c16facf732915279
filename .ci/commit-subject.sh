# shellcheck shell=bash
# Sourced by the scripts beside it.

# Maximum characters of a subject: what `git log --oneline` shows in 80 columns.
max_subject=72

# Imperatives that end like a past tense, a gerund or a third person.
imperative='bring|embed|exceed|feed|need|proceed|ring|seed|shed|speed|spring|string|succeed'
imperative+='|alias|bias|canvas|focus'

# Prints why a subject is not `area: imperative sentence` with one area; prints nothing if it is.
subject_fault() {
  local subject=$1 area='[a-z0-9][a-z0-9_./-]*' sentence first
  if [ "${#subject}" -gt "$max_subject" ]; then
    echo "${#subject} characters (limit $max_subject)"
  elif ! [[ $subject =~ ^$area:\ ([^ ].*)$ ]]; then
    echo "not \`area: imperative sentence\` with one area in lower case"
  else
    sentence=${BASH_REMATCH[1]}
    first=$(tr '[:upper:]' '[:lower:]' <<<"${sentence%%[^[:alnum:]]*}")
    if [[ $sentence == *[.!?] ]]; then
      echo "ends with punctuation"
    elif [[ $sentence != *' '* ]]; then
      echo "no sentence after the area"
    elif ! [[ $first =~ ^($imperative)$ ]] && [[ $first =~ (ed|ing|[^su]s)$ ]]; then
      echo "\"$first\" is not an imperative: write \"add\", not \"added\", \"adding\" or \"adds\""
    fi
  fi
}
