#!/usr/bin/env bash
# Runs every fuzz target of the module for FUZZTIME (60s), one after the other. With arguments only the packages that
# they name, such as ./policies. What a target finds is kept by go test below the package's testdata/fuzz.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

time=${FUZZTIME:-60s}
# An input that reaches new code is made smaller first: for a minute by default, in which nothing else is tried.
minimize=2s
packages=("$@")
[ ${#packages[@]} -gt 0 ] || packages=(./...)
# Only packages with targets are compiled.
mapfile -t packages < <("${GO:-go}" list -f '{{.Dir}}' "${packages[@]}" | while read -r dir; do
  if grep -qls '^func Fuzz' "$dir"/*_test.go; then echo "./${dir#"$PWD"/}"; fi
done)

failed=()
for package in "${packages[@]}"; do
  targets=$("${GO:-go}" test "$package" -list '^Fuzz' | grep '^Fuzz' || true)
  for target in $targets; do
    echo "$package $target"
    if out=$("${GO:-go}" test "$package" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime "$minimize" ${FUZZFLAGS:-} 2>&1); then
      grep '^fuzz: elapsed' <<<"$out" | tail -n 1 # how many inputs were tried
    else
      echo "$out"
      failed+=("$package $target")
    fi
  done
done
if [ ${#failed[@]} -gt 0 ]; then
  printf 'found something: %s\n' "${failed[@]}" >&2
  exit 1
fi
