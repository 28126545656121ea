"""How a row is explained: anchors with alibi's answers on the model as a black box, and SHAP values.

Only here is alibi imported (`libraries`), only in the worker processes, and only by what needs alibi itself: `stock`
and `overview`. `messages` and `pool` are the service's side of the pipe and import neither numpy nor onnxruntime; the
other modules run in the workers, `explain` on top of them.

Anchors: `search` asks for samples of `sampling`, which are numbers of rows of the background's `grid`; `mixing` gives
the model the rows; `bounds` tells how sure a precision is. `trust` tells how far an explanation goes.

SHAP values: `additive` reads a sum of terms from the graph (`trees`, or a linear model; `provenance` tells the raw
columns), `exact` computes with it (`leaves`, `mixtures`); `sampled` is KernelSHAP with alibi's `coalitions`.
What needs loops at speed is `compiled`; `loops` makes it ready.
"""
