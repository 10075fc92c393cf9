# syntax=docker/dockerfile:1
# The daemon alone: one static program, no shell, no user but a number. docs/deploy.md says how it is built,
# also where no registry answers.

# Alpine's C library is musl, for which Rust links statically. The compiler's own copy of it is what ends up in the
# program, so a newer compiler means a newer resolver: since Rust 1.93 it asks by TCP where an answer is cut short.
FROM docker.io/library/rust:1.95-alpine AS build
WORKDIR /source
COPY . .
ARG REVISION=unknown
# Of the machine that is asked for (TARGETARCH) without a word about it: the stage itself is of that kind.
RUN CRDB_PROXY_REVISION="$REVISION" cargo build --locked --profile image --no-default-features \
    && cp target/image/crdb-proxy /crdb-proxy

# Nothing but the copy comes from the first stage, so `--build-context build=FOLDER` can stand in for it.
FROM scratch
ARG REVISION=unknown
LABEL org.opencontainers.image.title="crdb-proxy" \
      org.opencontainers.image.description="Reach a CockroachDB Cloud Advanced cluster at localhost:26257" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="scratch"
COPY --from=build /crdb-proxy /crdb-proxy
# A number, since `runAsNonRoot` cannot judge a name. Any other user will do as well: nothing belongs to this one.
USER 65532:65532
# Applications are users of other containers, which this one cannot tell apart: the network of the pod or container is the
# wall. Where the container shares the host's network (--network host), say what holds there:
# -e CRDB_PROXY_LOCAL_ACCESS=same-user, or "local_access" of each listener in the settings.
ENV CRDB_PROXY_LOCAL_ACCESS=any
# An image in OCI format has no place for this (buildah's and podman's default; `--format docker` keeps it), and
# Kubernetes has probes of its own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["/crdb-proxy", "health"]
ENTRYPOINT ["/crdb-proxy"]
