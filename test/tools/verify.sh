#!/usr/bin/env bash
# Holds the tree to its own rules: formatting, vet, lint, licences, generated files, go.mod. Nothing is changed;
# what differs is printed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
golangci=v2.15.0
failed=0

check() { # check NAME COMMAND...: the command's output, if any, is what is wrong
  local name=$1 out
  shift
  if ! out=$("$@" 2>&1) || [ -n "$out" ]; then
    printf 'verify: %s\n%s\n' "$name" "$out"
    failed=1
  else
    printf 'verify: %s ok\n' "$name"
  fi
}

vet() {
  local dir
  for dir in . $(git ls-files 'test/*.go' | xargs -n1 dirname | sort -u); do
    [ -f "$dir/go.mod" ] || continue
    (cd "$dir" && go vet ./... 2>&1) | { grep -v '^go: downloading ' || true; }
  done
}

lint() {
  local tool=bin/golangci-lint-$golangci
  if [ ! -x "$tool" ]; then
    GOBIN="$PWD/bin" CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -buildvcs=false" go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$golangci" >/dev/null 2>&1 || {
      echo "golangci-lint $golangci could not be built"
      return 1
    }
    mv bin/golangci-lint "$tool"
  fi
  "$tool" run ./... | { grep -v '^0 issues' || true; }
}

# The generated files are made again in a copy, and compared.
generated() {
  local copy
  copy=$(mktemp -d)
  git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$copy"
  (cd "$copy" && make --no-print-directory generate >/dev/null 2>&1) || { echo "make generate fails"; rm -rf "$copy"; return 1; }
  local file
  for file in policies/schema/input.json policies/schema/capabilities.json webhook/record/schema docs/commands.md docs/evictionpolicy.md docs/input.md docs/limits.md docs/metrics.md docs/policies docs/suites.md policies/v1alpha1/zz_generated.deepcopy.go config/crd/evictgate.dev_evictionpolicies.yaml config/rbac/cluster_role.yaml config/selfsigned/role.yaml config/prometheus/prometheus_rule.yaml config/helm/evictgate/files; do
    diff -ruN "$file" "$copy/$file" || true
  done
  rm -rf "$copy"
}

# Every module that is linked, by the licence files in the module cache.
licences() {
  (cd test/tools/release && CGO_ENABLED=0 go run . licences 2>&1) | { grep -v '^go: downloading ' || true; }
}

tidy() {
  local dir
  for dir in . $(git ls-files 'test/*/go.mod' | xargs -n1 dirname); do
    # The first run downloads modules and says so, which is not a finding.
    (cd "$dir" && go mod tidy -diff 2>&1) | { grep -v '^go: downloading ' || true; }
  done
}

check formatting gofmt -l certs cmd policies test webhook
check vet vet
check lint lint
check licences licences
check generated generated
check go.mod tidy
exit $failed
