"""How a row is explained: Alibi's AnchorTabular and KernelShap on the ONNX model as a black box.

Only here is alibi imported, and only in the worker processes: `libraries`, `anchors`, `shap`, `explain` and `worker`
run there. `messages` and `pool` are the service's side of the pipe and import none of it; `table` and
`predictor` need numpy and onnxruntime.
"""
