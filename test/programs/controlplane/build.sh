#!/usr/bin/env bash
# Builds the real control plane into a directory (default: bin/ at the project's root) and
# prints one line per program. Cached: a second run with the same inputs does nothing; after
# that Go's own build cache makes a rebuild a matter of linking.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$here/../../../bin}
mkdir -p "$out"
out=$(cd "$out" && pwd)

cd "$here"
export GOFLAGS="${GOFLAGS:-} -buildvcs=false -trimpath" CGO_ENABLED=0 GOWORK=off
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
kwok_version=v0.8.0
stamp=$( { cat go.mod go.sum build.sh; go version; } | sha256sum | cut -d' ' -f1)

programs=(etcd kube-apiserver kube-controller-manager kube-scheduler kubectl kwok)
if [ "$(cat "$out/.controlplane" 2>/dev/null)" = "$stamp" ] && [ -d "$out/kwok-stages" ]; then
  complete=yes
  for p in "${programs[@]}"; do [ -x "$out/$p" ] || complete=no; done
  if [ $complete = yes ]; then
    echo "control plane $version is up to date in $out"
    exit 0
  fi
fi

echo "building the control plane $version into $out: 5 to 15 minutes on two cores the first time, cached afterwards"
# All Kubernetes programs print the version they are given at link time.
set_version="-s -w"
for pkg in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  set_version+=" -X $pkg.gitVersion=$version -X $pkg.gitMajor=1 -X $pkg.gitMinor=$(echo "$version" | cut -d. -f2)"
  set_version+=" -X $pkg.gitTreeState=archive -X $pkg.buildDate=1970-01-01T00:00:00Z"
done

step() { # step NAME COMMAND...: runs it and says how long it took
  local name=$1 start=$SECONDS
  shift
  step_no=$((${step_no:-0} + 1))
  printf '[%d/%d] %-24s ... ' "$step_no" "${#programs[@]}" "$name"
  if ! "$@" >"$out/.build.log" 2>&1; then
    printf 'failed\n'
    cat "$out/.build.log" >&2
    exit 1
  fi
  printf '%4d s\n' $((SECONDS - start))
}

install_kwok() { # kwok wants a module graph of its own, so it is installed by version
  GOBIN="$out" go install -ldflags '-s -w' "sigs.k8s.io/kwok/cmd/kwok@$kwok_version"
  local dir
  dir=$(cd / && go mod download -json "sigs.k8s.io/kwok@$kwok_version" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  rm -rf "$out/kwok-stages"
  mkdir -p "$out/kwok-stages"
  local stage
  for stage in node/fast/node-initialize.yaml node/heartbeat-with-lease/node-heartbeat-with-lease.yaml \
    pod/fast/pod-ready.yaml pod/fast/pod-complete.yaml pod/fast/pod-delete.yaml; do
    install -m 0644 "$dir/kustomize/stage/$stage" "$out/kwok-stages/"
  done
}

step etcd go build -ldflags '-s -w' -o "$out/etcd" go.etcd.io/etcd/server/v3
for name in kube-apiserver kube-controller-manager kube-scheduler kubectl; do
  step "$name" go build -ldflags "$set_version" -o "$out/$name" "k8s.io/kubernetes/cmd/$name"
done
step kwok install_kwok
rm -f "$out/.build.log"
echo "$stamp" >"$out/.controlplane"
echo "control plane $version is ready in $out"
