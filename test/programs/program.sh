#!/usr/bin/env bash
# program.sh NAME [DIRECTORY]: builds a real program of others, which tests need, from the nested module test/NAME
# into a directory (default: bin/ at the project's root). Cached: a second run with the same inputs does nothing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=$1 out=${2:-$here/../../bin}
mkdir -p "$out"
out=$(cd "$out" && pwd)

cd "$here/$name"
export GOFLAGS="${GOFLAGS:-} -buildvcs=false -trimpath" CGO_ENABLED=0 GOWORK=off
flags=()
case $name in
  descheduler)
    module=sigs.k8s.io/descheduler
    # It compares its own version with the API server's, and reads it only in the form of its images' tags.
    stamped=$module/pkg/version.version=v19700101- ;;
  helm) # takes the version of Kubernetes that a chart is rendered for from its own client-go
    module=helm.sh/helm/v4
    stamped=$module/internal/version.version= ;;
  opa)
    module=github.com/open-policy-agent/opa package=$module stamped= ;;
  promtool)
    module=github.com/prometheus/prometheus
    stamped=github.com/prometheus/common/version.Version=
    flags=(-tags remove_all_sd) ;; # rules need no service discovery, which would bring the clients of all clouds
  *) echo "program.sh: $name is none of descheduler, helm, opa, promtool" >&2; exit 2 ;;
esac
version=$(go list -m -f '{{.Version}}' "$module")
inputs=$( { cat go.mod go.sum "$here/program.sh"; go version; } | sha256sum | cut -d' ' -f1)
if [ "$(cat "$out/.$name" 2>/dev/null)" = "$inputs" ] && [ -x "$out/$name" ]; then
  echo "$name $version is up to date in $out"
  exit 0
fi

echo "building $name $version into $out: up to 4 minutes on two cores the first time, cached afterwards"
start=$SECONDS
go build "${flags[@]}" -ldflags "-s -w${stamped:+ -X $stamped$version}" -o "$out/$name" "${package:-$module/cmd/$name}"
echo "$inputs" >"$out/.$name"
echo "$name $version is ready in $out after $((SECONDS - start)) s"
