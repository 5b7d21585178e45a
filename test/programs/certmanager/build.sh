#!/usr/bin/env bash
# Builds certmanager, cert-manager's own controllers, into a directory (default: bin/ at the project's root),
# and puts cert-manager's CustomResourceDefinitions beside it. Cached: a second run with the same inputs does
# nothing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$here/../../../bin}
mkdir -p "$out"
out=$(cd "$out" && pwd)

cd "$here"
export GOFLAGS="${GOFLAGS:-} -buildvcs=false -trimpath" CGO_ENABLED=0 GOWORK=off
version=$(go list -m -f '{{.Version}}' github.com/cert-manager/cert-manager)
stamp=$( { cat go.mod go.sum build.sh main.go; go version; } | sha256sum | cut -d' ' -f1)

if [ "$(cat "$out/.certmanager" 2>/dev/null)" = "$stamp" ] && [ -x "$out/certmanager" ] && [ -d "$out/certmanager-crds" ]; then
  echo "cert-manager $version is up to date in $out"
  exit 0
fi

echo "building cert-manager $version into $out: up to 4 minutes on two cores the first time, cached afterwards"
start=$SECONDS
go build -ldflags "-s -w -X github.com/cert-manager/cert-manager/pkg/util.AppVersion=$version" -o "$out/certmanager" .
rm -rf "$out/certmanager-crds"
mkdir "$out/certmanager-crds"
install -m 644 "$(go list -m -f '{{.Dir}}' github.com/cert-manager/cert-manager)"/deploy/crds/*.yaml "$out/certmanager-crds"
echo "$stamp" >"$out/.certmanager"
echo "cert-manager $version is ready in $out after $((SECONDS - start)) s"
