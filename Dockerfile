# The service and its models, nothing else: no PyTorch, no compiler, no root.
#
#   docker build -t pellucid .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#     -e PELLUCID_TOKENS="$(openssl rand -hex 24)" -v pellucid:/data -p 127.0.0.1:8080:8080 pellucid
#
# A container listens on all its addresses, and Pellucid refuses to do that without tokens: set PELLUCID_TOKENS
# (several are separated by commas) or mount a settings file and name it in PELLUCID_CONFIG.
#
# Models run on the CPU. The ONNX Runtime inside can use a GPU, but CUDA and cuDNN are not part of this image.

FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/pellucid
COPY requirements requirements
RUN /opt/pellucid/bin/pip install -r requirements/service.txt
COPY pyproject.toml README.md LICENSE ./
COPY models models
COPY service service
RUN /opt/pellucid/bin/pip install --no-deps .

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin pellucid \
  && install --directory --owner pellucid --group pellucid --mode 0700 /data
COPY --from=build /opt/pellucid /opt/pellucid
ENV PATH=/opt/pellucid/bin:$PATH \
  PYTHONDONTWRITEBYTECODE=1 \
  PYTHONUNBUFFERED=1 \
  PELLUCID_DATA_DIR=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080
# Readiness needs no token. On the first start the models are checked and loaded before it answers 200.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/v2/health/ready', timeout=4)"]
CMD ["pellucid", "serve", "--host", "0.0.0.0"]
