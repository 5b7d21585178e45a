#!/usr/bin/env bash
# Builds the real promtool into a directory (default: bin/ at the project's root). Cached: a second run with
# the same inputs does nothing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$here/../../bin}
mkdir -p "$out"
out=$(cd "$out" && pwd)

cd "$here"
export GOFLAGS="${GOFLAGS:-} -buildvcs=false -trimpath" CGO_ENABLED=0 GOWORK=off
version=$(go list -m -f '{{.Version}}' github.com/prometheus/prometheus)
stamp=$( { cat go.mod go.sum build.sh; go version; } | sha256sum | cut -d' ' -f1)

if [ "$(cat "$out/.promtool" 2>/dev/null)" = "$stamp" ] && [ -x "$out/promtool" ]; then
  echo "promtool $version is up to date in $out"
  exit 0
fi

echo "building promtool $version into $out: 2 to 3 minutes on two cores the first time, cached afterwards"
start=$SECONDS
# Rules need no service discovery, which would bring the clients of all clouds.
go build -tags remove_all_sd -ldflags "-s -w -X github.com/prometheus/common/version.Version=$version" \
  -o "$out/promtool" github.com/prometheus/prometheus/cmd/promtool
echo "$stamp" >"$out/.promtool"
echo "promtool $version is ready in $out after $((SECONDS - start)) s"
