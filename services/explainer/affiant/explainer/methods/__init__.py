"""How a row is explained: alibi's AnchorTabular on the model as a black box, and SHAP values.

Only here is alibi imported, and only in the worker processes: `libraries`, `anchors`, `shap`, `explain` and `worker`
run there. `messages` and `pool` are the service's side of the pipe and import none of it; `table` and
`predictor` need numpy and onnxruntime.

SHAP values: `additive` reads a sum of terms from the graph (`trees`, or a linear model; `provenance` tells the raw
columns), `exact` computes with it (`leaves`, `mixtures`); `sampled` is KernelSHAP with alibi's `coalitions`.
What needs loops at speed is `compiled`.
"""
