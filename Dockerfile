# Server, trainer and client in one small image without a shell or a package
# manager: target cpu, and target cuda for NVIDIA GPUs.
#
#   docker build --target cpu -t latticed:cpu --build-arg REVISION=$(git describe --always) .
#   docker build --target cuda -t latticed:cuda --build-arg REVISION=$(git describe --always) .
#
# Any other registry's Debian 12 will do as base. The packages, and the wheels
# of the CUDA libraries, are those of scripts/packages.txt.
ARG BASE=docker.io/library/debian:12-slim

FROM ${BASE} AS packages
COPY scripts/install-deps scripts/packages.txt /src/scripts/
RUN /src/scripts/install-deps build
WORKDIR /src

FROM packages AS build-cpu
ARG REVISION=unknown
COPY . /src
RUN --mount=type=cache,target=/root/.cache/ccache \
    cmake --preset release -DCMAKE_INSTALL_PREFIX=/usr \
      -DLATTICED_REVISION=${REVISION} && \
    cmake --build --preset release && \
    DESTDIR=/image cmake --install build/release --strip && \
    scripts/image-root /image ${REVISION}

# LibTorch and NVIDIA's libraries are those of PyPI's wheels, as is the toolkit
# that LibTorch's CMake package asks for; the driver is the host's.
FROM packages AS build-cuda
COPY scripts/cuda-wheels /src/scripts/
RUN --mount=type=cache,target=/root/.cache/pip \
    /src/scripts/install-deps cuda && scripts/cuda-wheels /opt/cuda
ARG REVISION=unknown
COPY . /src
RUN --mount=type=cache,target=/root/.cache/ccache \
    cmake --preset cuda -DCMAKE_INSTALL_PREFIX=/usr \
      -DLATTICED_REVISION=${REVISION} $(scripts/cuda-wheels /opt/cuda) && \
    cmake --build --preset cuda && \
    DESTDIR=/image cmake --install build/cuda --strip && \
    scripts/image-root /image ${REVISION} /opt/cuda

FROM scratch AS common
LABEL org.opencontainers.image.title="Latticed" \
      org.opencontainers.image.description="Draws of lattice field configurations from normalizing flows, over gRPC" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.documentation="file:///usr/share/doc/latticed/README.md"
ENV PATH=/usr/bin
USER 65532:65532
VOLUME ["/models", "/state"]
# gRPC; admin, for this container alone; metrics, probes and the status page.
EXPOSE 7410 7412
STOPSIGNAL SIGTERM
# The process, whatever it has to serve; --model NAME asks for draws. A server
# with TLS, and a trainer, set their own or none.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
  CMD ["/usr/bin/latticectl", "health", "--alive"]
# It listens on the container's own loopback until told to listen elsewhere,
# with TLS and tokens or with --insecure_allow_remote: docs/operations.md. It
# handles signals itself and starts no processes: no init is needed.
ENTRYPOINT ["/usr/bin/latticed"]
CMD ["--repository=/models", "--state_directory=/state"]

# The revision's label comes after the files: buildah would keep a cached one.
FROM common AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /image /
ARG REVISION=unknown
LABEL org.opencontainers.image.revision="${REVISION}"

FROM common AS cpu
COPY --from=build-cpu /image /
ARG REVISION=unknown
LABEL org.opencontainers.image.revision="${REVISION}"
