"""The recipes: one table, a row a way of training.

Weight decay is L2 regularisation added to the gradient, ``wd * w``, as in the papers' code.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        steps: updates of the weights.
        batch_size: images per step.
        schedule: ((step, learning rate), ...): corners of the learning rate, steps as fractions of
            the whole.
        interpolate: whether the rate runs linearly between corners, or jumps at each.
        warmup_steps: first steps that take `warmup_rate` instead.
        warmup_rate: learning rate of those steps.
        momentum, nesterov: of SGD.
        weight_decay: L2, on the weights that `decay` names.
        decay: "all" (every trainable weight, as the papers' code) or "kernels" (no BN, no biases).
        pad: pixels of padding before the random crop.
        pad_mode: "mean" (zeros after normalisation, as the papers) or "reflect".
        flip: "random", or "alternating": each image is flipped every other epoch.
        dtype: Keras dtype policy.
    """

    steps: int
    batch_size: int
    schedule: tuple[tuple[float, float], ...]
    interpolate: bool
    warmup_steps: int = 0
    warmup_rate: float = 0.0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay: str = "all"
    pad: int = 4
    pad_mode: str = "mean"
    flip: str = "random"
    dtype: str = "float32"

    def learning_rate(self, step):
        """The rate of step `step`, counted from 0."""
        if step < self.warmup_steps:
            return self.warmup_rate
        done = step / self.steps
        before = [corner for corner in self.schedule if corner[0] <= done]
        after = [corner for corner in self.schedule if corner[0] > done]
        start, low = before[-1]
        if not self.interpolate or not after:
            return low
        end, high = after[0]
        return low + (high - low) * (done - start) / (end - start)


RECIPES = {
    # He et al. 2016, section 4 and appendix: 64k steps, divided by 10 at 32k and 48k, 400 steps of 0.01.
    "paper": Recipe(
        steps=64_000,
        batch_size=128,
        schedule=((0, 0.1), (0.5, 0.01), (0.75, 0.001)),
        interpolate=False,
        warmup_steps=400,
        warmup_rate=0.01,
    ),
    # 50 epochs of one cycle in bfloat16: under an hour on two cores for a 20-layer network.
    "fast": Recipe(
        steps=19_500,
        batch_size=128,
        schedule=((0, 0.02), (0.2, 0.2), (1, 0.0)),
        interpolate=True,
        nesterov=True,
        weight_decay=5e-4,
        decay="kernels",
        pad_mode="reflect",
        flip="alternating",
        dtype="mixed_bfloat16",
    ),
}
