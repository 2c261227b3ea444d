"""Trains several seeds of a network in one compiled program (JAX).

For a deep network on small images, the time of a step is dominated by kernel launches, and most kernels leave most of
the accelerator idle. Here all seeds share the launches of everything but the convolutions.
"""

import functools

import numpy as np

from keras_resv2.models.scan import is_rolled
from train.devices import ONE_DEVICE
from train.losses import CROSS_ENTROPY
from train.steps import JaxSteps, controls_of, stack_batches

__all__ = ["JaxSeedSteps", "StepsOfSeed", "unroll_convolutions"]


class JaxSeedSteps(JaxSteps):
    """Steps of several networks that differ only in their weights and batches.

    The networks keep their own variables, so that each is saved, restored and evaluated as if trained alone.

    Args:
        models: a `keras.Model` for each seed, all of the same architecture, not rolled.
        optimizers: an optimizer for each seed, built for its model's trainable variables.
        sources: a source of batches for each seed, over the same images: those of the first one are kept on the device.
        compiled_loop, loss: see `train.steps.JaxSteps`.

    Raises:
        ValueError: if the models or the images differ, or the networks are rolled or skip units.

    Example:

    >>> steps = JaxSeedSteps(models, optimizers, sources)  # doctest: +SKIP
    >>> batches = [list(itertools.islice(source.batches(0), 10)) for source in sources]  # doctest: +SKIP
    >>> losses, corrects = steps.run([0.1] * 10, batches)  # (seeds, steps) each  # doctest: +SKIP
    """

    def __init__(self, models, optimizers, sources, compiled_loop=None, loss=CROSS_ENTROPY):
        import jax

        _check_alike(models, sources)
        super().__init__(models[0], optimizers[0], sources[0], ONE_DEVICE, compiled_loop, loss)
        self._all_variables = [
            (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
            for model, optimizer in zip(models, optimizers, strict=True)
        ]
        self._pack = jax.jit(jax.vmap(self._stack_state))
        self._unpack = jax.jit(jax.vmap(self._split))
        self._predict = jax.jit(lambda state, images, seed: self._logits(_of_seed(state, seed), images))

    def run(self, rates, batches):
        """Runs steps of all seeds.

        Args:
            rates: learning rate of each step, for all seeds.
            batches: a list of batches for each seed, one per step.

        Returns:
            ``(losses, corrects)``, each ``(seeds, steps)`` with at least as many steps.
        """
        seeds = [stack_batches(of_seed) for of_seed in batches]
        return self._run_stacked(controls_of(rates), [np.stack(arrays, 1) for arrays in zip(*seeds, strict=True)])

    def predict_on_batch(self, images, seed=0):
        """Returns the logits of one network, by its index."""
        self._begin()
        return np.asarray(self._predict(self._state, self._shard(images), seed))

    def sync(self):
        """Writes the state to the variables of all seeds' models and optimizers."""
        state = self._unpack(self._state) if self._state else None
        for seed, variables in enumerate(self._all_variables if state else []):
            for group, arrays in zip(variables, state, strict=True):
                for variable, array in zip(group, arrays, strict=True):
                    variable.assign(array[seed])
        self._state = None

    def _begin(self):
        if self._state is None:
            alike = zip(*self._all_variables, strict=True)
            kinds = [zip(*groups, strict=True) for groups in alike]
            values = [[np.stack([variable.value for variable in same]) for same in kind] for kind in kinds]
            self._state = self._pack(values)
            self._results = (np.zeros((len(self._all_variables), self._most_steps), "float32"),) * 2

    def _step(self, state, results, device_data, index, control, batch):
        import jax

        one = unroll_convolutions(super()._step)
        return jax.vmap(one, in_axes=(0, 0, None, None, None, 0))(state, results, device_data, index, control, batch)


class StepsOfSeed:
    """One network of `JaxSeedSteps`, for evaluation.

    Args:
        steps: `JaxSeedSteps`.
        index: index of the network.
    """

    def __init__(self, steps, index):
        self._steps, self._index = steps, index

    def predict_on_batch(self, images):
        return self._steps.predict_on_batch(images, self._index)

    def sync(self):
        self._steps.sync()


def _of_seed(state, seed):
    return [[array[seed] for array in group] for group in state]


def _check_alike(models, sources):
    shapes = [[(v.shape, v.dtype) for v in model.variables] for model in models]
    if any(other != shapes[0] for other in shapes):
        raise ValueError("seeds trained together must have the same network.")
    if hasattr(models[0], "switches"):
        raise ValueError("networks that skip units are trained one seed after another: each seed skips other units.")
    if is_rolled(models[0]):
        raise ValueError("a rolled network is trained one seed after another: its convolutions are inside a loop.")
    for source in sources[1:]:
        for one, other in zip(source.device_data, sources[0].device_data, strict=True):
            if not np.array_equal(one, other):
                raise ValueError("seeds trained together must be trained on the same images.")


def unroll_convolutions(function):
    """Makes `jax.vmap` of a function run its convolutions one after another, and everything else batched.

    Otherwise `jax.vmap` turns them into grouped convolutions. For the gradient of a kernel, this is one with a window
    of the whole image, for which cuDNN has no fast kernel.

    Args:
        function: traceable function of arrays (in lists, tuples, dictionaries). Gradients may be taken inside it, but
            not of it. Convolutions inside loops and conditionals are not changed.

    Returns:
        Function with the same arguments and results.
    """
    import jax

    @functools.wraps(function)
    def unrolled(*arguments):
        traced, results = jax.make_jaxpr(function, return_shape=True)(*arguments)
        values = _evaluate(traced.jaxpr, traced.consts, jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(results), values)

    return unrolled


def _evaluate(jaxpr, constants, arguments):
    """Evaluates traced operations, with convolutions by `_convolve`."""
    from jax.extend.core import Literal

    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments], strict=True))

    def read(variable):
        return variable.val if isinstance(variable, Literal) else values[variable]

    for equation in jaxpr.eqns:
        inputs, primitive = [read(variable) for variable in equation.invars], equation.primitive
        if primitive.name == "conv_general_dilated":
            outputs = [_convolve(equation.params)(*inputs)]
        elif primitive.name in ("jit", "pjit"):  # a nested compiled function
            inner = equation.params["jaxpr"]
            outputs = _evaluate(inner.jaxpr, inner.consts, inputs)
        else:
            parameters = primitive.get_bind_params(equation.params)
            functions, parameters = parameters if isinstance(parameters, tuple) else ((), parameters)  # until JAX 0.9
            outputs = primitive.bind(*functions, *inputs, **parameters)
            outputs = outputs if primitive.multiple_results else [outputs]
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _convolve(parameters):
    """Creates a convolution that `jax.vmap` unrolls."""
    import jax

    @jax.custom_batching.custom_vmap
    def convolve(images, kernel):
        return jax.lax.conv_general_dilated_p.bind(images, kernel, **parameters)

    @convolve.def_vmap
    def one_by_one(count, batched, images, kernel):
        pairs = [(images[i] if batched[0] else images, kernel[i] if batched[1] else kernel) for i in range(count)]
        return jax.numpy.stack([convolve(*pair) for pair in pairs]), True

    return convolve
