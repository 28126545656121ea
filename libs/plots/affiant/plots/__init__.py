"""Plots of explanations as SVG: pure functions from an explanation to a picture, without a browser or a library.

Each picture stands alone (light, dark and in print), needs no script and escapes what it shows: names and values of
columns come from whoever sent the request.
"""

from affiant.plots.beeswarm import beeswarm as beeswarm
from affiant.plots.effects import effects as effects, importance as importance
from affiant.plots.force import force as force
from affiant.plots.waterfall import waterfall as waterfall
