"""alibi, imported the way it has to be imported.

alibi 0.9.4 is pinned: it is the last release under the Apache License; 0.9.5 and later are under the Business
Source License. With `alibi[shap]` but without `ray`, `import alibi` fails; ray is a cluster scheduler that we do not
want, so an empty module stands in for it. It takes about three seconds: only worker processes import this, and only
when alibi itself is needed.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from importlib.machinery import ModuleSpec


def _stand_in_for_ray() -> None:
    if "ray" in sys.modules or importlib.util.find_spec("ray") is not None:
        return
    module = types.ModuleType("ray", "Stands in for ray, which alibi imports but only its distributed explainers use.")
    module.__spec__ = ModuleSpec("ray", loader=None)
    sys.modules["ray"] = module


_stand_in_for_ray()

from alibi.explainers import (  # noqa: E402  # the stand-in must come first
    ALE,
    AnchorTabular,
    KernelShap,
    PartialDependence,
    PermutationImportance,
)
from alibi.explainers.anchors.anchor_tabular import TabularSampler  # noqa: E402

__all__ = [
    "ALE",
    "AnchorTabular",
    "KernelShap",
    "PartialDependence",
    "PermutationImportance",
    "TabularSampler",
]
