#!/usr/bin/env bash
# Builds the real helm into a directory (default: bin/ at the project's root). Cached: a second run with the
# same inputs does nothing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$here/../../bin}
mkdir -p "$out"
out=$(cd "$out" && pwd)

cd "$here"
export GOFLAGS="${GOFLAGS:-} -buildvcs=false -trimpath" CGO_ENABLED=0 GOWORK=off
version=$(go list -m -f '{{.Version}}' helm.sh/helm/v4)
stamp=$( { cat go.mod go.sum build.sh; go version; } | sha256sum | cut -d' ' -f1)

if [ "$(cat "$out/.helm" 2>/dev/null)" = "$stamp" ] && [ -x "$out/helm" ]; then
  echo "helm $version is up to date in $out"
  exit 0
fi

echo "building helm $version into $out: 2 to 3 minutes on two cores the first time, cached afterwards"
start=$SECONDS
# Helm takes the version of Kubernetes that a chart is rendered for from its own client-go.
go build -ldflags "-s -w -X helm.sh/helm/v4/internal/version.version=$version" \
  -o "$out/helm" helm.sh/helm/v4/cmd/helm
echo "$stamp" >"$out/.helm"
echo "helm $version is ready in $out after $((SECONDS - start)) s"
