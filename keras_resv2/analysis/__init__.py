"""Experiments of the papers, for any residual network of this package.

- `propagate`: signals and gradients unit by unit (He et al. 2016, section 2).
- `delete_each`, `delete_random`, `reorder`: lesions (Veit et al. 2016, section 4).
- `grad_cam`: the positions that support a class (Selvaraju et al. 2017).
- `paths_by_length`, `share_left`, `path_gradients`: the network as a collection of paths (section 5).

`keras-resv2 analyze` runs them from the command line.
"""

from keras_resv2.analysis.dissection import dissect
from keras_resv2.analysis.grad_cam import GradCam, grad_cam
from keras_resv2.analysis.lesions import delete_each, delete_random, kendall_tau, reorder
from keras_resv2.analysis.paths import path_gradients, paths_by_length, share_left
from keras_resv2.analysis.propagation import propagate

__all__ = [
    "GradCam",
    "delete_each",
    "delete_random",
    "dissect",
    "grad_cam",
    "kendall_tau",
    "path_gradients",
    "paths_by_length",
    "propagate",
    "reorder",
    "share_left",
]
