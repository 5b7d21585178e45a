#!/usr/bin/env bash
# Builds the real control plane into a directory (default: bin/ at the project's root) and
# prints one line per program. Cached: a second run with the same inputs does nothing; after
# that Go's own build cache makes a rebuild a matter of linking.
#
# With KUBE=1.34 or KUBE=1.34.4 it builds that version into kube-VERSION below the directory, beside the same etcd and kwok;
# tests run on it with EVICTGATE_BIN=DIRECTORY/kube-VERSION.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$here/../../../bin}
mkdir -p "$out"
out=$(cd "$out" && pwd)

cd "$here"
export GOFLAGS="${GOFLAGS:-} -buildvcs=false -trimpath" CGO_ENABLED=0 GOWORK=off
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)

# another_module writes the module of another version of Kubernetes to the directory $2. Published as a module,
# Kubernetes names the repositories that it is made of without a version; they are released as 0.MINOR.PATCH.
another_module() {
  local version=$1 dir=$2 name
  mkdir -p "$dir"
  cd "$dir"
  rm -f go.mod go.sum
  GOFLAGS='' go mod init github.com/evictgate/evictgate/test/programs/controlplane/another
  local mod
  mod=$(go mod download -json "k8s.io/kubernetes@$version" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
  for name in $(sed -n 's/^[[:space:]]*\(k8s\.io\/[a-z-]*\) => \.\/staging\/.*/\1/p' "$mod"); do
    go mod edit -replace "$name=$name@v0.${version#v1.}"
  done
  GOFLAGS=-mod=mod go get -tool "k8s.io/kubernetes/cmd/"{kube-apiserver,kube-controller-manager,kube-scheduler,kubectl}"@$version"
}

if [ -n "${KUBE:-}" ]; then
  KUBE='' "$here/build.sh" "$out"
  newest=$(go list -m -versions k8s.io/kubernetes | tr ' ' '\n' | grep -E "^v${KUBE//./\\.}(\.[0-9]+)?$" | sort -V | tail -1)
  if [ -z "$newest" ]; then
    echo "no release of Kubernetes is named by KUBE=$KUBE: expected something like 1.34 or 1.34.4" >&2
    exit 2
  fi
  version=$newest
  mkdir -p "$out/kube-${version#v}"
  for shared in etcd kwok kwok-stages; do
    ln -sfn "../$shared" "$out/kube-${version#v}/$shared"
  done
  out=$out/kube-${version#v}
  another_module "$version" "$out/module" >"$out/.build.log" 2>&1 || { cat "$out/.build.log" >&2; exit 1; }
fi
kwok_version=v0.8.0
stamp=$( { cat go.mod go.sum "$here/build.sh"; go version; } | sha256sum | cut -d' ' -f1)

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

[ -L "$out/etcd" ] || step etcd go build -ldflags '-s -w' -o "$out/etcd" go.etcd.io/etcd/server/v3
for name in kube-apiserver kube-controller-manager kube-scheduler kubectl; do
  step "$name" go build -ldflags "$set_version" -o "$out/$name" "k8s.io/kubernetes/cmd/$name"
done
[ -L "$out/kwok" ] || step kwok install_kwok
rm -f "$out/.build.log"
echo "$stamp" >"$out/.controlplane"
echo "control plane $version is ready in $out"
