# The program `haulage` alone, in an empty image: for workers that ask a model
# server (`--http`), for the command line, and to copy the program from.
# docs/containers.md has its build arguments.

# Where the program is compiled. With PROGRAM, any image that has a shell and
# certificates.
ARG RUST_BASE=rust:1.95-alpine
FROM ${RUST_BASE} AS build
# A program in the build context to take as it is, such as one of `make dist`.
# Default: the program is compiled here.
ARG PROGRAM
WORKDIR /src
COPY . .
RUN sh images/program.sh /out

FROM scratch
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="haulage" \
      org.opencontainers.image.description="Durable queue for long, asynchronous compute jobs: worker and command line" \
      org.opencontainers.image.source="https://github.com/haulage/haulage" \
      org.opencontainers.image.documentation="https://github.com/haulage/haulage/blob/main/docs/containers.md" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/etc /etc
COPY --from=build /out/usr /usr
COPY --from=build --chown=65532:65532 /out/data /data
COPY --from=build --chown=65532:65532 /out/tmp /tmp
ENV PATH=/usr/local/bin \
    HOME=/data \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    HAULAGE_URL=sqlite:///data/haulage.db \
    HAULAGE_HTTP_LISTEN=127.0.0.1:9464
WORKDIR /data
USER 65532:65532
# Running jobs may finish within --shutdown-grace-period; the rest is given back.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["haulage", "health"]
ENTRYPOINT ["haulage"]
CMD ["worker"]
