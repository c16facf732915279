# The image of leadsd contains only the binary, the libraries that it links, and the public CAs.
# docs/IMAGE.md explains why, and how to reproduce the build.

# The official Rust image on Debian. Pin it by digest for reproducible images.
ARG RUST_IMAGE=docker.io/library/rust:1.95.0-bookworm
FROM ${RUST_IMAGE} AS build
# The image's toolchain is the one of rust-toolchain.toml, without the components for development.
ENV RUSTUP_TOOLCHAIN=1.95.0
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /src
COPY . .
# Shown by `leadsd version`. Set them to the commit and its date, so that builds stay reproducible.
ARG REVISION=unknown
ARG BUILD_DATE=unknown
ENV LEADSD_COMMIT=${REVISION} LEADSD_BUILD_DATE=${BUILD_DATE}
# Names of leadsd's own functions stay for readable backtraces; the paths in them are those of the sources.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    RUSTFLAGS="--remap-path-prefix=/usr/local/cargo=cargo --remap-path-prefix=/src=leadsd" \
    cargo build --locked --release \
 && mkdir -p /image/etc/ssl/certs \
 && install --directory --mode=1777 /image/tmp \
 && objcopy --strip-unneeded --wildcard --keep-symbol='*leadsd*' target/release/leadsd /image/leadsd \
 && ldd /image/leadsd | grep -o '/[^ ]*' | xargs cp --dereference --parents --target-directory=/image \
 && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
 && echo 'hosts: files dns' >/image/etc/nsswitch.conf

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="leadsd" \
      org.opencontainers.image.description="HubSpot CRM leads for every service of a company, over gRPC" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image /
# A numeric user, so that Kubernetes can verify that it is not root.
USER 65532:65532
EXPOSE 50051 9090
# Uses the admin port, which needs neither TLS nor a certificate, unlike the gRPC port.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/leadsd", "health", "--admin", "127.0.0.1:9090"]
ENTRYPOINT ["/leadsd"]
CMD ["serve", "--config", "/etc/leadsd/leadsd.toml"]
