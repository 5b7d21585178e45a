#!/usr/bin/env bash
# Builds the real descheduler into a directory (default: bin/ at the project's root). Cached: a
# second run with the same inputs does nothing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$here/../../bin}
mkdir -p "$out"
out=$(cd "$out" && pwd)

cd "$here"
export GOFLAGS="${GOFLAGS:-} -buildvcs=false -trimpath" CGO_ENABLED=0 GOWORK=off
version=$(go list -m -f '{{.Version}}' sigs.k8s.io/descheduler)
stamp=$( { cat go.mod go.sum build.sh; go version; } | sha256sum | cut -d' ' -f1)

if [ "$(cat "$out/.descheduler" 2>/dev/null)" = "$stamp" ] && [ -x "$out/descheduler" ]; then
  echo "descheduler $version is up to date in $out"
  exit 0
fi

echo "building the descheduler $version into $out: 2 to 4 minutes on two cores the first time, cached afterwards"
# It compares its own version with the API server's, and reads it only in the form of its images' tags.
start=$SECONDS
go build -ldflags "-s -w -X sigs.k8s.io/descheduler/pkg/version.version=v19700101-$version" \
  -o "$out/descheduler" sigs.k8s.io/descheduler/cmd/descheduler
echo "$stamp" >"$out/.descheduler"
echo "descheduler $version is ready in $out after $((SECONDS - start)) s"
