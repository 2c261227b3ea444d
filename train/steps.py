"""Many training steps per dispatch, on each backend.

A dispatch costs the host milliseconds, and a step of a small network takes the accelerator about as
long: so one call runs a loop of steps. Batches come from a `train.data.source.BatchSource`.

Each class here has `run(rates, batches, switches=None)`, which returns the losses and the shares of correct
answers of those steps (two arrays at least as long, which on JAX may still be computing): `rates` are their
learning rates and `switches`, ``(steps, units)``, those of a `SwitchedNetwork`; `predict_on_batch(images)`,
logits of the network as it is now; `move_statistics(images)`, a pass of the network in training mode, which
moves its statistics alone; and `sync()`, after which the variables of the model and the optimizer hold the state.
"""

import keras
import numpy as np
from keras import ops

from train.devices import ONE_DEVICE
from train.losses import CROSS_ENTROPY


def make_steps(model, optimizer, source, devices=ONE_DEVICE, loss=CROSS_ENTROPY):
    """The steps of the backend in use.

    Args:
        model: `keras.Model` from pixels to logits.
        optimizer: built for the model's trainable variables.
        source: of batches.
        devices: `train.devices.Devices`.
        loss: `train.losses.Loss`.

    Returns:
        An object with `run`, `predict_on_batch`, `move_statistics` and `sync`.
    """
    kinds = {"jax": JaxSteps, "tensorflow": TensorFlowSteps, "torch": TorchSteps}
    return kinds[keras.backend.backend()](model, optimizer, source, devices, loss=loss)


class JaxSteps:
    """A loop of pure steps; the state stays in arrays, and the old ones are given up to the new.

    On a CPU the loop is Python's: inside a compiled loop XLA's convolutions are many times slower there.
    """

    def __init__(self, model, optimizer, source, devices, compiled_loop=None, loss=CROSS_ENTROPY):
        import jax

        self._model, self._optimizer, self._source, self._loss = model, optimizer, source, loss
        self._variables = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
        self._rate_index = [v is optimizer.learning_rate for v in optimizer.variables].index(True)
        switches = getattr(model, "switches", None)
        self._switch_index = next((i for i, v in enumerate(model.non_trainable_variables) if v is switches), None)
        self._shard = devices.shard
        self._device_data = tuple(self._shard(array) for array in source.device_data)
        self._state = None
        if compiled_loop is None:
            compiled_loop = jax.default_backend() != "cpu"
        self._run = self._run_compiled if compiled_loop else self._run_one_by_one
        self._loop = jax.jit(self._many, donate_argnums=0)
        self._one = jax.jit(self._step, donate_argnums=0)
        self._predict = jax.jit(lambda t, o, images: model.stateless_call(t, o, images, training=False)[0])
        self._moved = jax.jit(lambda t, o, images: model.stateless_call(t, o, images, training=True)[1])

    def run(self, rates, batches, switches=None):
        self._begin()
        return self._run(_controls(rates, switches), _stack(batches))

    def predict_on_batch(self, images):
        self._begin()
        trainable, other, _ = self._state
        return np.asarray(self._predict(trainable, other, self._shard(images)))

    def move_statistics(self, images):
        self._begin()
        trainable, other, _ = self._state
        parts = self._source.num_shards
        images = self._shard(images, 0, parts) if parts > 1 else self._shard(images)
        self._state[1] = list(self._moved(trainable, other, images))

    def sync(self):
        for group, arrays in zip(self._variables, self._state or [], strict=False):
            for variable, array in zip(group, arrays, strict=True):
                variable.assign(array)
        self._state = None

    def _begin(self):
        if self._state is None:
            self._state = [[variable.value for variable in group] for group in self._variables]

    def _run_one_by_one(self, controls, batches):
        results = []
        for control, *batch in zip(zip(*controls, strict=True), *batches, strict=True):
            batch = [self._shard(array, 0, self._source.num_shards) for array in batch]
            self._state, *result = self._one(self._state, self._device_data, control, batch)
            results.append(result)
        return tuple(map(np.asarray, zip(*results, strict=True)))

    def _run_compiled(self, controls, batches):
        # The number of steps is a value, not a shape: one compilation serves all.
        count, most = len(controls[0]), self._source.max_steps_per_dispatch
        batches = [self._shard(_padded(array, most), 1, self._source.num_shards) for array in batches]
        controls = [self._shard(_padded(array, most)) for array in controls]
        self._state, losses, corrects = self._loop(self._state, self._device_data, np.int32(count), controls, batches)
        return losses, corrects

    def _many(self, state, device_data, count, controls, batches):
        import jax

        def body(i, carry):
            state, losses, corrects = carry
            control, batch = [array[i] for array in controls], [array[i] for array in batches]
            state, loss, correct = self._step(state, device_data, control, batch)
            return state, losses.at[i].set(loss), corrects.at[i].set(correct)

        nothing = jax.numpy.zeros(len(controls[0]))
        return jax.lax.fori_loop(0, count, body, (state, nothing, nothing))

    def _step(self, state, device_data, control, batch):
        import jax

        trainable, other, slots = state
        rate, *switches = control
        if switches:
            other = [*other]
            (other[self._switch_index],) = switches
        images, targets = self._source.augment(device_data, *batch)

        def objective(trainable):
            logits, moved = self._model.stateless_call(trainable, other, images, training=True)
            loss, correct = self._loss(targets, logits, len(images))
            with keras.StatelessScope(zip(self._optimizer.variables, slots, strict=True)):
                return self._optimizer.scale_loss(loss), (loss, correct, moved)

        gradients, (loss, correct, other) = jax.grad(objective, has_aux=True)(trainable)
        slots = [*slots]
        slots[self._rate_index] = rate
        trainable, slots = self._optimizer.stateless_apply(slots, gradients, trainable)
        return [list(trainable), list(other), list(slots)], loss, correct


class TensorFlowSteps:
    """A loop in one graph. With several replicas each takes its part of the batch; gradients are summed."""

    def __init__(self, model, optimizer, source, devices, loss=CROSS_ENTROPY):
        import tensorflow as tf

        self._model, self._optimizer, self._source, self._loss = model, optimizer, source, loss
        self._strategy = devices.strategy or tf.distribute.get_strategy()
        self._device_data = tuple(map(self._on_every_device if devices.strategy else tf.constant, source.device_data))
        self._loop = None
        self._predict = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
        # Each device takes all images, so that statistics of the whole batch are summed over equal parts.
        self._move = tf.function(lambda images: self._strategy.run(model, (images,), {"training": True}))

    def run(self, rates, batches, switches=None):
        import tensorflow as tf

        inputs = [tuple(map(tf.constant, arrays)) for arrays in (_controls(rates, switches), _stack(batches))]
        if self._loop is None:  # the number of steps is open: one compilation serves all
            specs = [tuple(tf.TensorSpec([None, *x.shape[1:]], x.dtype) for x in arrays) for arrays in inputs]
            self._loop = tf.function(self._run, input_signature=specs)
        return tuple(sums.numpy() for sums in self._loop(*inputs))

    def predict_on_batch(self, images):
        return self._predict(images).numpy()

    def move_statistics(self, images):
        self._move(images)

    def sync(self):
        pass

    def _run(self, controls, batches):
        import tensorflow as tf

        rates, *switches = controls
        count = tf.shape(rates)[0]
        losses, corrects = (tf.TensorArray("float32", count) for _ in range(2))
        for i in tf.range(count):
            self._optimizer.learning_rate = rates[i]
            if switches:
                self._model.switches.assign(switches[0][i])
            batch = tuple(array[i] for array in batches)
            loss, correct = self._strategy.run(self._step, args=(batch, self._device_data))
            losses = losses.write(i, self._strategy.reduce("SUM", loss, axis=None))
            corrects = corrects.write(i, self._strategy.reduce("SUM", correct, axis=None))
        return losses.stack(), corrects.stack()

    def _on_every_device(self, array):
        import tensorflow as tf

        places = self._strategy.extended.worker_devices

        def copy(context):
            with tf.device(places[context.replica_id_in_sync_group % len(places)]):
                return tf.constant(array)

        return self._strategy.experimental_distribute_values_from_function(copy)

    def _step(self, batch, device_data):
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        images_per_step = batch[0].shape[0] * self._source.num_shards
        part = images_per_step // context.num_replicas_in_sync
        first = context.replica_id_in_sync_group * part % batch[0].shape[0]
        images, targets = self._source.augment(device_data, *(array[first : first + part] for array in batch))
        with tf.GradientTape() as tape:
            loss, correct = self._loss(targets, self._model(images, training=True), images_per_step)
            scaled = self._optimizer.scale_loss(loss)
        variables = self._model.trainable_variables
        self._optimizer.apply(tape.gradient(scaled, [v.value for v in variables]), variables)
        return loss, correct


class TorchSteps:
    """One step after another."""

    def __init__(self, model, optimizer, source, devices, loss=CROSS_ENTROPY):
        self._model, self._optimizer, self._source, self._loss = model, optimizer, source, loss
        self._device_data = tuple(ops.convert_to_tensor(array) for array in source.device_data)

    def run(self, rates, batches, switches=None):
        controls = zip(*_controls(rates, switches), strict=True)
        losses, corrects = zip(*map(self._step, controls, batches), strict=True)
        return np.asarray([float(x) for x in losses], "float32"), np.asarray([float(x) for x in corrects], "float32")

    def predict_on_batch(self, images):
        import torch

        with torch.no_grad():
            return ops.convert_to_numpy(self._model(images, training=False))

    def move_statistics(self, images):
        import torch

        with torch.no_grad():
            self._model(images, training=True)

    def sync(self):
        pass

    def _step(self, control, batch):
        import torch

        rate, *switches = control
        self._optimizer.learning_rate = rate
        if switches:
            self._model.switches.assign(switches[0])
        self._model.zero_grad()
        images, targets = self._source.augment(self._device_data, *map(ops.convert_to_tensor, batch))
        loss, correct = self._loss(targets, self._model(images, training=True), len(images))
        self._optimizer.scale_loss(loss).backward()
        variables = self._model.trainable_variables
        with torch.no_grad():
            # Units that were left out have no gradient; their weights decay, as on the other backends.
            gradients = [torch.zeros_like(v.value) if v.value.grad is None else v.value.grad for v in variables]
            self._optimizer.apply(gradients, variables)
        return loss.detach(), correct


def _controls(rates, switches):
    """What the host sets at each step: arrays with a leading axis of steps."""
    rates = np.asarray(rates, "float32")
    return (rates,) if switches is None else (rates, np.asarray(switches, "float32"))


def _stack(batches):
    """Feeds of several steps as one: arrays get a leading axis of steps."""
    return [np.stack(arrays) for arrays in zip(*batches, strict=True)]


def _padded(array, length):
    """`array` with its first axis filled up to `length` with zeros."""
    return np.pad(array, [(0, length - len(array))] + [(0, 0)] * (array.ndim - 1))
