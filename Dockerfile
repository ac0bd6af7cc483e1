# One image a service: docker build --target producer|predictor|monitor|store .
# Packages are those of requirements.lock, with their hashes; deploy/packages.py says which of them a target needs.
# Another build of the base, by digest: --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:…
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# The requirements of each target. A change of the lock that is none of a target's leaves that target's layers alone.
FROM ${PYTHON_IMAGE} AS requirements
WORKDIR /requirements
COPY requirements.lock /
COPY deploy/packages.py deploy/packages.toml /deploy/
RUN for target in base producer predictor monitor store; do \
      python /deploy/packages.py $target >$target.txt || exit 1; \
    done

# A virtual environment without pip, which moves as a folder; what all services need is in it.
FROM ${PYTHON_IMAGE} AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    PIP_PYTHON=/opt/repstream/bin/python PIP_NO_DEPS=1 PIP_REQUIRE_HASHES=1
RUN python -m venv --without-pip /opt/repstream
COPY --from=requirements /requirements/base.txt /requirements/
RUN --mount=type=cache,target=/root/.cache/pip pip install -r /requirements/base.txt
# The tests of the large packages are a tenth of them; others' folders of that name can be part of the program.
ENV STRIP="find /opt/repstream/lib -type d \
    -regex .*/site-packages/\\(numpy\\|pandas\\|pyarrow\\|scipy\\|sklearn\\|statsmodels\\)/.*tests -prune -exec rm -rf {} +"

FROM packages AS producer-packages
COPY --from=requirements /requirements/producer.txt /requirements/
RUN --mount=type=cache,target=/root/.cache/pip pip install -r /requirements/producer.txt && $STRIP

FROM packages AS predictor-packages
COPY --from=requirements /requirements/predictor.txt /requirements/
RUN --mount=type=cache,target=/root/.cache/pip pip install -r /requirements/predictor.txt && $STRIP

FROM packages AS monitor-packages
COPY --from=requirements /requirements/monitor.txt /requirements/
RUN --mount=type=cache,target=/root/.cache/pip pip install -r /requirements/monitor.txt && $STRIP

FROM packages AS store-packages
COPY --from=requirements /requirements/store.txt /requirements/
RUN --mount=type=cache,target=/root/.cache/pip pip install -r /requirements/store.txt && $STRIP

# Our own code, compiled here, as a container's file system is never written to. Each image gets its own service's
# alone; the monitor starts replays, too.
FROM ${PYTHON_IMAGE} AS code
WORKDIR /code
COPY cli cli
COPY monitor monitor
COPY predictor predictor
COPY producer producer
COPY repstream repstream
COPY store store
RUN python -m compileall -q --invalidation-mode unchecked-hash . && \
    for service in producer predictor store "monitor producer"; do \
      to=/of/${service%% *} && mkdir -p $to && cp -r cli repstream $service $to || exit 1; \
    done

# What all services are: a user without rights, a folder that is never written to.
FROM ${PYTHON_IMAGE} AS service
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin repstream && \
    printf '#!/bin/sh\nexec python -m repstream "$@"\n' >/usr/local/bin/repstream && chmod 755 /usr/local/bin/repstream
ENV PATH=/opt/repstream/bin:$PATH PYTHONPATH=/app/lib \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp DO_NOT_TRACK=1 REPSTREAM_METRICS_HOST=0.0.0.0
WORKDIR /app
COPY deploy/healthy.py /app/
USER 10001:10001
ENTRYPOINT ["python", "-m", "repstream"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Repstream" \
      org.opencontainers.image.description="Live exercise recognition from wearable motion sensors, on Apache Kafka" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM service AS producer
COPY --from=producer-packages /opt/repstream /opt/repstream
COPY --from=code /of/producer /app/lib
ENV REPSTREAM_METRICS_PORT=8001
EXPOSE 8001
CMD ["produce", "--help"]

FROM service AS store
COPY --from=store-packages /opt/repstream /opt/repstream
COPY --from=code /of/store /app/lib
ENV REPSTREAM_METRICS_PORT=8003
EXPOSE 8003
CMD ["store"]

FROM service AS monitor
# What a new volume for the reports takes its owner from.
USER 0
RUN install -d -o 10001 -g 10001 /reports
USER 10001:10001
COPY --from=monitor-packages /opt/repstream /opt/repstream
COPY models /app/models
COPY --from=code /of/monitor /app/lib
ENV REPSTREAM_HOST=0.0.0.0 REPSTREAM_PORT=8080 REPSTREAM_REPORTS=/reports REPSTREAM_MODELS=/app/models
EXPOSE 8080
VOLUME /reports
CMD ["monitor"]

# Last: what is built where no target is named.
FROM service AS predictor
COPY --from=predictor-packages /opt/repstream /opt/repstream
COPY models /app/models
COPY --from=code /of/predictor /app/lib
ENV REPSTREAM_METRICS_PORT=8002 REPSTREAM_MODELS=/app/models
EXPOSE 8002
CMD ["predict"]
