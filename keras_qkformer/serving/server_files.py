"""The files beside a model that start a server for it."""

import re
from pathlib import Path

FOLDER = "server"
IMAGE = "tensorflow/serving:2.20.0"
"""The newest one whose binary was known when this was written."""

_MODELS = """\
# Read by --model_config_file. A label must stand for a version that is there: export
# the next one first, then move the label.
model_config_list {
  config {
    name: "@NAME@"
    base_path: "/models/@NAME@"
    model_platform: "tensorflow"
    model_version_policy { all {} }
    version_labels { key: "stable" value: @VERSION@ }
  }
}
"""

_BATCHING = """\
# Read by --batching_parameters_file: requests that arrive together are answered
# together. Then a bad item of one client is an error for all of its batch: let clients
# call predict_lenient or predict_events_lenient.
max_batch_size { value: @MOST@ }
batch_timeout_micros { value: 0 }
num_batch_threads { value: 2 }
max_enqueued_batches { value: 100 }
enable_large_batch_splitting { value: true }
max_execution_batch_size { value: @LARGEST@ }
pad_variable_length_inputs: true
@SIZES@
"""

_MONITORING = """\
prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }
"""

_PROMETHEUS = """\
scrape_configs:
  - job_name: tf-serving
    scrape_interval: 5s
    metrics_path: /monitoring/prometheus/metrics
    static_configs:
      - targets: ["serving:8501"]
"""

# The image has neither curl nor wget.
_HEALTH = (
    "exec 3<>/dev/tcp/127.0.0.1/8501 && "
    "printf 'GET /v1/models/@NAME@ HTTP/1.0\\r\\n\\r\\n' >&3 && "
    "grep -q AVAILABLE <&3"
)

_COMPOSE = """\
# docker compose --profile cpu up       on a CPU
# docker compose --profile gpu up       on an NVIDIA GPU
# REST on 8501, gRPC on 8500, Prometheus on 9090, all on this machine alone. For others,
# put a proxy with TLS in front of 8501; gRPC has --ssl_config_file.
x-serving: &serving
  command:
    - --model_config_file=/models/@NAME@/server/models.config
    - --model_config_file_poll_wait_seconds=30
    - --enable_batching=true
    - --batching_parameters_file=/models/@NAME@/server/batching.config
    - --monitoring_config_file=/models/@NAME@/server/monitoring.config
    - --rest_api_timeout_in_ms=30000
  environment:
    TF_CPP_MIN_LOG_LEVEL: "1"
  volumes:
    - ..:/models/@NAME@:ro
  ports:
    - "127.0.0.1:8500:8500"
    - "127.0.0.1:8501:8501"
  networks:
    default:
      aliases: [serving]
  healthcheck:
    test: ["CMD", "bash", "-c", "@HEALTH@"]
    interval: 5s
    timeout: 5s
    retries: 3
    start_period: 120s
  restart: unless-stopped

services:
  cpu:
    <<: *serving
    profiles: [cpu]
    image: @IMAGE@
    mem_limit: 8g
  gpu:
    <<: *serving
    profiles: [gpu]
    image: @IMAGE@-gpu
    deploy:
      resources:
        reservations:
          devices:
            - {driver: nvidia, count: 1, capabilities: [gpu]}
  prometheus:
    profiles: [cpu, gpu]
    image: prom/prometheus:v3.5.0
    volumes:
      - ./prometheus.yml:/etc/prometheus/prometheus.yml:ro
    ports:
      - "127.0.0.1:9090:9090"
"""

_KUBERNETES = """\
# kubectl create configmap @DNS@-config --from-file=models.config \\
#   --from-file=batching.config --from-file=monitoring.config
# kubectl apply -f kubernetes.yaml
# The volume claim @DNS@-models must hold the model's folder as @NAME@/. TLS: end it at
# an Ingress or Gateway in front of the service.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: @DNS@
spec:
  replicas: 2
  selector:
    matchLabels: {app: @DNS@}
  template:
    metadata:
      labels: {app: @DNS@}
      annotations:
        prometheus.io/scrape: "true"
        prometheus.io/port: "8501"
        prometheus.io/path: /monitoring/prometheus/metrics
    spec:
      containers:
        - name: serving
          image: @IMAGE@
          args:
            - --model_config_file=/config/models.config
            - --enable_batching=true
            - --batching_parameters_file=/config/batching.config
            - --monitoring_config_file=/config/monitoring.config
            - --rest_api_timeout_in_ms=30000
          ports:
            - {name: grpc, containerPort: 8500}
            - {name: rest, containerPort: 8501}
          # The model's status, not the open port: that says nothing of the model.
          startupProbe: &status
            exec:
              command: ["bash", "-c", "@HEALTH@"]
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 120
          readinessProbe:
            <<: *status
            failureThreshold: 3
          livenessProbe:
            <<: *status
            periodSeconds: 15
            failureThreshold: 4
          resources:
            requests: {cpu: "2", memory: 2Gi}
            limits: {cpu: "4", memory: 8Gi}
          volumeMounts:
            - {name: models, mountPath: /models, readOnly: true}
            - {name: config, mountPath: /config, readOnly: true}
      volumes:
        - name: models
          persistentVolumeClaim: {claimName: @DNS@-models, readOnly: true}
        - name: config
          configMap: {name: @DNS@-config}
---
apiVersion: v1
kind: Service
metadata:
  name: @DNS@
spec:
  selector: {app: @DNS@}
  ports:
    - {name: grpc, port: 8500, targetPort: grpc}
    - {name: rest, port: 8501, targetPort: rest}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: @DNS@
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: @DNS@}
  minReplicas: 2
  maxReplicas: 10
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: 70}
"""

_FILES = {
    "models.config": _MODELS,
    "batching.config": _BATCHING,
    "monitoring.config": _MONITORING,
    "prometheus.yml": _PROMETHEUS,
    "compose.yaml": _COMPOSE,
    "kubernetes.yaml": _KUBERNETES,
}


def write_server_files(out, name, version, batch_sizes):
    """Write what is not there yet of a server's files into `out/server/`.

    A file that is there may be someone's work, so it stays. TF Serving passes over the
    folder, because its name is no number.

    Args:
        out: str or path of the model's folder.
        name: str. The model's name.
        version: int. The version that gets the label `stable`.
        batch_sizes: growing ints.
    """
    folder = Path(out) / FOLDER
    folder.mkdir(exist_ok=True)
    health = _HEALTH.replace("\\", "\\\\")  # It stands inside a quoted YAML text.
    values = {
        "HEALTH": health,
        "NAME": name,
        # Names in Kubernetes have no _ and no capitals.
        "DNS": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model",
        "VERSION": version,
        "LARGEST": batch_sizes[-1],
        "MOST": max(64, batch_sizes[-1]),  # A larger request is answered in parts.
        "SIZES": "\n".join(f"allowed_batch_sizes: {size}" for size in batch_sizes),
        "IMAGE": IMAGE,
    }
    for file, text in _FILES.items():
        path = folder / file
        if not path.exists():
            for key, value in values.items():
                text = text.replace(f"@{key}@", str(value))
            path.write_text(text)
