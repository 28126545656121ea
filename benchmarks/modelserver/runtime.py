"""The small custom runtime that MLServer serves the same ONNX model through. Runs in MLServer's own environment."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

TYPES: dict[str, Any] = {"FP32": np.float32, "INT64": np.int64, "BYTES": object}


class OnnxModel(MLModel):
    """One intra-op thread, as ours."""

    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(self.settings.parameters.uri, options)
        self._outputs = [output.name for output in self._session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        feed = {
            tensor.name: np.array(tensor.data.root, dtype=TYPES[tensor.datatype]).reshape(tensor.shape)
            for tensor in payload.inputs
        }
        arrays = self._session.run(self._outputs, feed)
        outputs = [
            ResponseOutput(name=name, shape=list(array.shape), datatype=_datatype(array), data=array.ravel().tolist())
            for name, array in zip(self._outputs, arrays, strict=True)
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)


def _datatype(array: Any) -> str:
    return "FP32" if array.dtype == np.float32 else "INT64"
