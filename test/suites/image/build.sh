#!/usr/bin/env bash
# Builds the image $IMAGE of the program in $BIN, which is for $ARCH, into the builder's own store, and an OCI layout of it
# into bin/image, which tests read; `build.sh which` says with what. Two runs on the same sources with the same builder
# give the same digest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
: "${IMAGE:=evictgate:dev}" "${VERSION:=devel}" "${REVISION:=}" "${SOURCE_DATE_EPOCH:=0}" "${BIN:=bin}" "${ARCH:=$(go env GOARCH)}"

# builder prints the program that can build here: $BUILDER, or the first that is there.
builder() {
  if [ -n "${BUILDER:-}" ]; then echo "$BUILDER"
  elif command -v buildah >/dev/null; then echo buildah
  elif command -v podman >/dev/null; then echo podman
  elif command -v docker >/dev/null && docker info >/dev/null 2>&1; then echo docker
  fi
}
builder=$(builder)
[ "${1:-}" != which ] || { echo "$builder"; exit 0; }
[ -n "$builder" ] || { echo "no image builder is here: install buildah (apt-get install buildah), podman, or docker with its daemon" >&2; exit 1; }

# Modes are set here, so that neither a umask nor a checkout's bits reach the image.
rootfs=bin/rootfs
rm -rf "$rootfs" bin/image
install -d -m 0755 "$rootfs" "$rootfs/licenses"
install -m 0755 "$BIN/evictgate" "$rootfs/evictgate"
install -m 0644 LICENSE bin/THIRD-PARTY-NOTICES "$rootfs/licenses/"
install -m 0644 "$BIN/evictgate.spdx.json" "$rootfs/evictgate.spdx.json"

created=$(TZ=UTC0 printf '%(%FT%TZ)T' "$SOURCE_DATE_EPOCH")
arguments=(--platform "linux/$ARCH" --build-arg "VERSION=$VERSION" --build-arg "REVISION=$REVISION" --build-arg "CREATED=$created" --file Dockerfile --tag "$IMAGE")

case $builder in
  buildah | podman)
    tool=("$builder")
    build() {
      "${tool[@]}" build --quiet --isolation chroot --format oci --timestamp "$SOURCE_DATE_EPOCH" --identity-label=false --layers=false --iidfile bin/image.id "${arguments[@]}" . >/dev/null
    }
    last() { "${tool[@]}" images --quiet "$IMAGE" 2>/dev/null || true; }
    before=$(last)
    if [ "$builder" != buildah ]; then build
    elif ! build 2>/dev/null; then # in a container overlay mounts may be refused; this way needs none
      tool+=(--storage-driver vfs)
      before=$(last)
      build
    fi
    image=$(<bin/image.id)
    rm bin/image.id
    "${tool[@]}" push --quiet "${image#sha256:}" "oci:bin/image:$IMAGE" >/dev/null
    # The image of the last run has lost its name, and would stay for ever.
    [ -z "$before" ] || [[ $image = *"$before"* ]] || "${tool[@]}" rmi "$before" >/dev/null 2>&1 || true
    ;;
  docker)
    # BuildKit takes SOURCE_DATE_EPOCH from the environment; an archive of docker 25 or newer is an OCI layout.
    docker build --quiet --provenance=false --build-arg "SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH" "${arguments[@]}" . >/dev/null
    mkdir bin/image
    docker save "$IMAGE" | tar -x -C bin/image
    ;;
  *) echo "BUILDER=$builder is none of buildah, podman and docker" >&2; exit 2 ;;
esac
echo "built $IMAGE with ${tool[*]:-$builder}, and bin/image: $(du -sh bin/image | cut -f1)"
