# Python with the package `haulage`, to build on: for handlers in Python, and
# for programs in any language that need more than the worker image has.
# docs/containers.md has its build arguments.

# Where the wheel is compiled. With WHEEL, any image that has a shell.
ARG RUST_BASE=rust:1.95-slim-bookworm
# What the image is made of: Python 3.9 or newer, or a Debian or Ubuntu on which
# to install it, such as nvidia/cuda:12.9.1-cudnn-runtime-ubuntu24.04.
ARG PYTHON_BASE=python:3.13-slim-bookworm

FROM ${RUST_BASE} AS build
# A wheel in the build context to take as it is, such as one of `make dist`.
# Default: the wheel is compiled here.
ARG WHEEL
# A file in the build context with what to install besides. Default: nothing.
ARG REQUIREMENTS
ARG PIP_INDEX_URL
WORKDIR /src
COPY . .
RUN sh images/wheel.sh /out

FROM ${PYTHON_BASE}
ARG PIP_INDEX_URL
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="haulage-python" \
      org.opencontainers.image.description="Durable queue for long, asynchronous compute jobs: Python workers" \
      org.opencontainers.image.source="https://github.com/haulage/haulage" \
      org.opencontainers.image.documentation="https://github.com/haulage/haulage/blob/main/docs/containers.md" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out /opt/haulage-install
RUN sh /opt/haulage-install/install.sh
# What the base has on its PATH stays there, such as that of CUDA or conda.
ENV PATH=/opt/venv/bin:$PATH \
    VIRTUAL_ENV=/opt/venv \
    PYTHONUNBUFFERED=1 \
    HOME=/data \
    HAULAGE_URL=sqlite:///data/haulage.db \
    HAULAGE_HTTP_LISTEN=127.0.0.1:9464
WORKDIR /app
USER 65532:65532
# Running jobs may finish within --shutdown-grace-period; the rest is given back.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["haulage", "health"]
# Process 1 takes note of the end of what handlers leave behind, and passes
# signals on, whatever the command is.
ENTRYPOINT ["tini", "--"]
CMD ["haulage", "worker"]
