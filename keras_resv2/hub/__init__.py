"""Weights on the Hugging Face Hub: a repository holds what a folder of `weights/` does, and a README.

- `push` uploads a version of weights, yours or one of this package.
- `pull` fetches one, verified; `keras_resv2.from_pretrained("hf://user/name")` calls it.
"""

from keras_resv2.hub.repository import PREFIX, pull, push

__all__ = ["PREFIX", "pull", "push"]
