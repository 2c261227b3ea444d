"""Batch normalization on JAX in few passes over the feature maps.

Written as separate operations, as in Keras, it takes one pass over the feature maps for the mean, another for the
variance and, for the gradient, one for each sum. On an accelerator a pass is one or two kernel launches, and launches
dominate the run time of deep networks on small images. Here each pass computes two sums, in the forward and the
backward pass.
"""

import functools

import jax
import jax.numpy as jnp

__all__ = ["batch_norm"]


def batch_norm(
    x: jax.Array, gamma: jax.Array, beta: jax.Array, axis: int, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalizes a batch by its own statistics, computed in float32.

    The sums are taken over the differences from the first value f of each channel, which avoids cancellation in the
    variance where the mean m is large: the relative rounding error grows with ``(f - m)^2 / variance``, which is about
    1 and cannot exceed the number of values. Shifting by the moving mean has no such bound, because it is 0 before the
    first step.

    Args:
        x: feature maps, float32, bfloat16 or float16, of any rank.
        gamma: scale, float32 ``(channels,)``.
        beta: offset, float32 ``(channels,)``.
        axis: channel axis, non-negative.
        epsilon: constant added to the variance.

    Returns:
        ``(y, mean, variance)``: normalized feature maps of the shape and dtype of `x`, and float32 ``(channels,)``
        each, the variance without Bessel's correction. Mean and variance are not differentiable, and `y` only once.

    Source:
        Ioffe and Szegedy 2015 (arXiv 1502.03167), algorithm 1, and the gradient below it.

    Example:

    >>> x = jnp.arange(8.0).reshape(4, 2)
    >>> y, mean, variance = batch_norm(x, jnp.ones(2), jnp.zeros(2), axis=1, epsilon=0.0)
    >>> mean.tolist(), variance.tolist()
    ([3.0, 4.0], [5.0, 5.0])
    """
    y, mean, variance = _batch_norm(x, gamma, beta, axis, epsilon)
    return y, jax.lax.stop_gradient(mean), jax.lax.stop_gradient(variance)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _batch_norm(x, gamma, beta, axis, epsilon):
    return _forward(x, gamma, beta, axis, epsilon)[0]


def _forward(x, gamma, beta, axis, epsilon):
    count, maps = _count(x, axis), functools.partial(_like_maps, rank=x.ndim, axis=axis)
    shift = x[tuple(slice(None) if i == axis else 0 for i in range(x.ndim))].astype("float32")
    difference = x.astype("float32") - maps(shift)
    first, second = _sums(difference, difference * difference, axis)
    offset = first / count
    mean, variance = shift + offset, jnp.maximum(second / count - offset * offset, 0.0)
    inverse = jax.lax.rsqrt(variance + epsilon)
    y = (x.astype("float32") - maps(mean)) * maps(inverse * gamma) + maps(beta)
    return (y.astype(x.dtype), mean, variance), (x, mean, inverse, gamma)


def _backward(axis, epsilon, kept, cotangents):
    x, mean, inverse, gamma = kept
    dy = cotangents[0].astype("float32")
    count, maps = _count(x, axis), functools.partial(_like_maps, rank=x.ndim, axis=axis)
    normalized = (x.astype("float32") - maps(mean)) * maps(inverse)
    dbeta, dgamma = _sums(dy, dy * normalized, axis)
    dx = maps(gamma * inverse) * (dy - maps(dbeta / count) - normalized * maps(dgamma / count))
    return dx.astype(x.dtype), dgamma, dbeta


_batch_norm.defvjp(_forward, _backward)


def _count(x, axis):
    """Returns the number of values per channel."""
    return x.size // x.shape[axis]


def _like_maps(values, rank, axis):
    """Reshapes ``(channels,)`` to broadcast against feature maps."""
    return values.reshape([-1 if i == axis else 1 for i in range(rank)])


def _sums(one, other, axis):
    """Sums two arrays over all axes but one, in the same pass."""
    axes = [i for i in range(one.ndim) if i != axis]
    return jax.lax.platform_dependent(
        one,
        other,
        # On a CPU, XLA does not vectorize a reduction of two arrays.
        cpu=lambda one, other: (one.sum(axes), other.sum(axes)),
        default=lambda one, other: _sums_together(one, other, axes),
    )


def _sums_together(one, other, axes):
    def add(sums, values):
        return sums[0] + values[0], sums[1] + values[1]

    return tuple(jax.lax.reduce((one, other), (jnp.float32(0), jnp.float32(0)), add, axes))
