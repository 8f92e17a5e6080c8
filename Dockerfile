# docker build -t compoundwatch .
# docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" compoundwatch watch sites.geojson --out result
FROM python:3.12-slim AS build
WORKDIR /source
COPY . .
RUN python -m venv /opt/compoundwatch && /opt/compoundwatch/bin/pip install --no-cache-dir '.[lights,evidence,places]'

FROM python:3.12-slim
# libexpat1: the wheels of GDAL expect it from the system.
RUN apt-get update && apt-get install -y --no-install-recommends libexpat1 && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home watch
COPY --from=build /opt/compoundwatch /opt/compoundwatch
# Whoever runs it with an id of their own, to own the results, has no home: caches go where everybody may write.
ENV PATH=/opt/compoundwatch/bin:$PATH NUMBA_CACHE_DIR=/tmp/numba MPLCONFIGDIR=/tmp/matplotlib
USER watch
WORKDIR /data
ENTRYPOINT ["compoundwatch"]
CMD ["--help"]
