# Minimal image of the relay: no shell, no package manager, not root.
#
#   docker build -t spanrelay .
#   docker run -p 3000:3000 -e OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 -v spanrelay:/var/lib/spanrelay spanrelay
#
# Without a configuration file the environment configures the relay, and PORT makes it listen on all interfaces. To use a
# file, mount it and set SPANRELAY_CONFIG to its path.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
# For librdkafka, the client of the shared queue (`queue.storage: kafka`).
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential libssl-dev pkg-config \
 && rm -rf /var/lib/apt/lists/*
# Dependencies first, so that this layer is rebuilt only when they change. Cargo reads the manifests of all packages.
COPY Cargo.toml Cargo.lock build.rs ./
COPY bench bench
COPY fuzz fuzz
RUN mkdir src \
 && echo 'fn main() {}' > src/main.rs \
 && echo '#![allow(missing_docs)]' > src/lib.rs \
 && cargo build --release --locked --features kafka --bin spanrelay
# The commit in `spanrelay --version`: --build-arg COMMIT=$(git rev-parse HEAD).
ARG COMMIT
ENV SPANRELAY_COMMIT=${COMMIT}
COPY src src
COPY config config
# Newer modification times than the placeholders, so that cargo rebuilds them.
RUN touch src/main.rs src/lib.rs \
 && cargo build --release --locked --features kafka --bin spanrelay \
 && mkdir /data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/spanrelay /usr/local/bin/spanrelay
COPY --from=build --chown=65532:65532 /data /var/lib/spanrelay
# Directory of the queue: accepted data survives the container with this volume.
VOLUME /var/lib/spanrelay
WORKDIR /var/lib/spanrelay
# For platforms whose volumes belong to root (fly.io): --build-arg RUN_AS=0:0.
ARG RUN_AS=65532:65532
USER ${RUN_AS}
ENV PORT=3000
EXPOSE 3000
# Requests /healthz and not /readyz: a full queue is no reason to restart the container.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/usr/local/bin/spanrelay", "--health"]
# Draining takes up to ten seconds, the default timeout of `docker stop`; `--stop-timeout 15` leaves a margin.
ENTRYPOINT ["/usr/local/bin/spanrelay"]
