# The broker and its worker: one image, two commands. It holds no key and no site software.
FROM python:3.11-slim-bookworm AS build
WORKDIR /source
RUN python -m venv /opt/build && python -m venv /opt/linkage
COPY requirements/build.lock requirements/broker.lock requirements/
# --no-deps: the locks are complete, and nothing that is not in them may come in.
RUN /opt/build/bin/pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: \
        -r requirements/build.lock \
    && /opt/linkage/bin/pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: \
        -r requirements/broker.lock
COPY pyproject.toml README.md LICENSE ./
COPY linkage linkage
COPY broker broker
COPY sites sites
COPY configs configs
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir dist . \
    && /opt/linkage/bin/pip install --no-deps --no-index dist/*.whl \
    # The broker's image cannot encode, not even by mistake.
    && rm -r /opt/linkage/lib/python3.11/site-packages/sites \
             /opt/linkage/lib/python3.11/site-packages/linkage/encoding \
             /opt/linkage/bin/linkage-site /opt/linkage/bin/linkage-cohort

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 linkage \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin linkage \
    # Fresh named volumes take over owner and mode of the folders they are mounted on.
    && install -d -m 0700 -o 10001 -g 10001 /broker /broker/blobs /broker/worker
COPY --from=build /opt/linkage /opt/linkage
COPY docker/set-up /usr/local/bin/linkage-set-up
COPY docker/healthy /usr/local/bin/linkage-healthy
COPY docker/worker /usr/local/bin/linkage-worker
ENV PATH=/opt/linkage/bin:$PATH \
    LINKAGE_BROKER_HOME=/broker \
    NUMBA_CACHE_DIR=/tmp/numba \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
VOLUME ["/broker"]
EXPOSE 8400 9101 9102
CMD ["linkage-broker", "serve"]
