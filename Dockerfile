# `ookd serve` in a container. CPU by default; for CUDA: docker build --build-arg TORCH=cu130 .
ARG PYTHON=3.12
FROM python:${PYTHON}-slim AS build
ARG TORCH=cpu
ARG INDEX=https://download.pytorch.org/whl/${TORCH}
ARG EXTRAS=serve,openvino,hf
WORKDIR /source
COPY pyproject.toml README.md LICENSE NOTICE constraints.txt ./
COPY src src
# PyTorch's own index has builds with and without CUDA; constraints pin the version, not the build. INDEX can
# name a mirror.
RUN python -m venv /opt/ookd \
 && /opt/ookd/bin/pip install --no-cache-dir -c constraints.txt \
    --index-url ${INDEX} torch \
 && /opt/ookd/bin/pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]"

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --create-home --uid 10001 ookd
COPY --from=build /opt/ookd /opt/ookd
ENV PATH=/opt/ookd/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/ookd
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", \
  "import urllib.request as u; u.urlopen('http://localhost:8000/healthz', timeout=5)"]
CMD ["ookd", "serve", "--host", "0.0.0.0"]
