# shellcheck shell=bash
# Sourced by the scripts beside it.

# Runs commands at the same time; prints the output of those that fail. Logs go to target/ci-tools.
run_parallel() {
  local job failed=0 logs=target/ci-tools
  local -A pids
  mkdir -p "$logs"
  for job in "$@"; do
    $job >"$logs/${job//[^a-zA-Z]/-}.log" 2>&1 &
    pids[$job]=$!
  done
  for job in "$@"; do
    wait "${pids[$job]}" && continue
    echo "$job failed:"
    cat "$logs/${job//[^a-zA-Z]/-}.log"
    failed=1
  done
  return $failed
}
