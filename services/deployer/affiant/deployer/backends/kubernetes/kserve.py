"""A version as KServe's InferenceService, where `runtime` is `kserve`. Pure.

KServe makes the workload; the deployer says which model, by which image, and where the payload logger reports to: the
auditor's sink, so that predictions are on record without our model server. Each version is an InferenceService of its
own, so an address names the version (KServe's own, from its status) and changes with it.
"""

from __future__ import annotations

from affiant.deployer.backends.kubernetes import names
from affiant.deployer.backends.kubernetes.cluster import Object
from affiant.deployer.backends.kubernetes.manifests import Installation, Workload
from affiant.deployer.domain.situation import Phase


def inference_service(installation: Installation, workload: Workload) -> Object:
    """The InferenceService of a version. Its model comes from its image: KServe knows no digest of a download."""
    spec, replicas = workload.spec, workload.replicas
    notes = {names.DIGEST: spec.digest, names.MODEL_IMAGE: spec.image}
    if workload.asleep_since:
        notes[names.ASLEEP_SINCE] = workload.asleep_since
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": workload.name,
            "namespace": installation.namespace,
            "labels": names.labels(installation.name, workload.slot, spec.version),
            "annotations": notes,
        },
        "spec": {
            "predictor": {
                "minReplicas": workload.floor if replicas is None else replicas,
                "maxReplicas": workload.ceiling if replicas is None else max(replicas, 1),
                "automountServiceAccountToken": False,
                "logger": {"mode": "all", "url": installation.sink_url},
                "model": {
                    "modelFormat": {"name": "onnx"},
                    "protocolVersion": "v2",
                    "storageUri": f"oci://{spec.image}",
                    "resources": {
                        "requests": {"cpu": installation.cpu_request, "memory": installation.memory_request},
                        "limits": {"memory": installation.memory_limit},
                    },
                },
            }
        },
    }


def phase(service: Object) -> tuple[Phase, str]:
    """How an InferenceService is, and why it is not ready."""
    metadata, status = service["metadata"], service.get("status", {})
    if "deletionTimestamp" in metadata:
        return "draining", ""
    if names.ASLEEP_SINCE in metadata.get("annotations", {}):
        return "idle", ""
    current = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
    conditions = {each["type"]: each for each in status.get("conditions", [])}
    ready = conditions.get("Ready", {})
    if current and ready.get("status") == "True":
        return "ready", ""
    failure = status.get("modelStatus", {}).get("lastFailureInfo", {})
    if failure.get("message"):
        return "failed", f"KServe cannot serve it ({failure.get('reason', 'no reason')}): {failure['message']}"
    waiting = [each["message"] for each in conditions.values() if each["status"] != "True" and each.get("message")]
    return "starting", str(waiting[0]) if waiting else ""


def url(service: Object) -> str:
    """Where KServe says that it answers; empty while it does not say."""
    status = service.get("status", {})
    return str(status.get("address", {}).get("url") or status.get("url") or "")
