# One image for each role: docker build --build-arg SERVICE=forecaster -t microopt-forecaster .
# SERVICE is collector, forecaster, router, auditor, optimizer or actuator. Only the optimizer's image holds PyTorch;
# --build-arg TORCH_INDEX_URL=... takes it from another index, such as PyTorch's own of CPU builds.

FROM python:3.12-slim AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY services services
COPY testbed testbed
RUN pip wheel --quiet --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:3.12-slim AS install
ARG SERVICE
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX_URL=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN : "${SERVICE:?name a role: --build-arg SERVICE=forecaster}"; python -m venv --without-pip /opt/microopt
# PyTorch has a layer of its own: a change of the code does not download it again.
RUN if [ "$SERVICE" = optimizer ]; then \
      pip --python /opt/microopt/bin/python install --quiet --no-deps \
        ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "$TORCH"; \
    fi
COPY constraints.txt /tmp/constraints.txt
COPY --from=wheel /dist /dist
# Router and auditor need what every agent needs, and no extra.
RUN set -eu; \
    what="$(ls /dist/*.whl)"; \
    case "$SERVICE" in router|auditor) ;; *) what="$what[$SERVICE]" ;; esac; \
    pip --python /opt/microopt/bin/python install --quiet --constraint /tmp/constraints.txt "$what"
# What differs between roles is settled here, so that the entry point and the health check do not: a build argument
# is gone when the container runs.
RUN set -eu; cd /opt/microopt; \
    test -x "bin/microopt-$SERVICE"; \
    ln -s "microopt-$SERVICE" bin/microopt-agent; \
    bin/python -c 'import sys; from microopt.runtime import DEFAULT_HTTP_PORT; print(DEFAULT_HTTP_PORT[sys.argv[1]])' \
      "$SERVICE" > http-port

FROM python:3.12-slim
ARG SERVICE
LABEL org.opencontainers.image.title="microopt-$SERVICE" \
      org.opencontainers.image.description="The $SERVICE of microopt, which holds 5G network slices to their SLAs" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin microopt
COPY --from=install /opt/microopt /opt/microopt
COPY deploy/microopt.toml /etc/microopt/microopt.toml
ENV PATH="/opt/microopt/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MICROOPT_CONFIG=/etc/microopt/microopt.toml
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["sh", "-c", "exec python -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=4)' \"http://127.0.0.1:${MICROOPT_HTTP_PORT:-$(cat /opt/microopt/http-port)}/healthz\""]
ENTRYPOINT ["microopt-agent"]
