# The static binary of `make build` and nothing else.
FROM scratch
COPY bin/evictgate /evictgate
USER 65532:65532
ENTRYPOINT ["/evictgate"]
CMD ["serve"]
