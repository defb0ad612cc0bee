# The service and its models, nothing else: no PyTorch, no compiler, no root.
#
#   docker build -t pellucid:0.1.0 .                           models run on the CPU
#   docker build -t pellucid:0.1.0-gpu --target gpu .          models run on an NVIDIA GPU
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --stop-timeout 60 \
#     -e PELLUCID_TOKENS="$(openssl rand -hex 24)" -v pellucid:/data -p 127.0.0.1:8080:8080 pellucid:0.1.0
#
# A container listens on all its addresses, and Pellucid refuses to do that without tokens: set PELLUCID_TOKENS
# (several are separated by commas) or mount a settings file and name it in PELLUCID_CONFIG. More: deploy/README.md.

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

FROM build AS build-gpu
COPY deploy/container/gpu.txt ./
RUN /opt/pellucid/bin/pip install --no-deps -r gpu.txt

FROM python:3.11-slim-bookworm AS base
# dicom3tools: dciodvfy, which validates result objects at run time. Debian keeps only the newest build of a package,
# so a version here would soon name one that is gone.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install -y --no-install-recommends dicom3tools \
  && rm -rf /var/lib/apt/lists/* \
  && useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin pellucid \
  && install --directory --owner pellucid --group pellucid --mode 0700 /data
ENV PATH=/opt/pellucid/bin:$PATH \
  PYTHONDONTWRITEBYTECODE=1 \
  PYTHONUNBUFFERED=1 \
  PELLUCID_DATA_DIR=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
# HTTP with DICOMweb, and DICOM.
EXPOSE 8080 11112
# Readiness needs no token. On the first start the models are checked and loaded before it answers 200.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/v2/health/ready', timeout=4)"]
CMD ["pellucid", "serve", "--host", "0.0.0.0"]

FROM base AS gpu
COPY --from=build-gpu /opt/pellucid /opt/pellucid
# ONNX Runtime looks for CUDA and cuDNN where the loader looks; libcuda.so.1 comes from the host's driver.
ENV LD_LIBRARY_PATH=/opt/pellucid/lib/python3.11/site-packages/nvidia/cu13/lib:/opt/pellucid/lib/python3.11/site-packages/nvidia/cudnn/lib \
  NVIDIA_VISIBLE_DEVICES=all \
  NVIDIA_DRIVER_CAPABILITIES=compute,utility \
  PELLUCID_PROVIDER=cuda

FROM base AS cpu
COPY --from=build /opt/pellucid /opt/pellucid
