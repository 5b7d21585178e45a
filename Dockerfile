# The static binary of `make build`, which holds time zones and CA roots, and what it is made of; nothing else.
# `make image` lays it out in bin/rootfs first, with the modes that it has in the image.
FROM scratch
ARG VERSION=devel
ARG REVISION=
ARG CREATED=
LABEL org.opencontainers.image.title="evictgate" \
      org.opencontainers.image.description="Decides every Kubernetes eviction by policy, and says why" \
      org.opencontainers.image.source="https://github.com/evictgate/evictgate" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
COPY bin/rootfs/ /
USER 65532:65532
ENTRYPOINT ["/evictgate"]
