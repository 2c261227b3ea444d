"""Many training steps per dispatch, on each backend.

A dispatch takes the host milliseconds, about as long as a step of a small network takes the accelerator, so one call
runs a loop of steps. Batches come from a `train.data.source.BatchSource`.

Each class here has `run(rates, batches, switches=None)`, which returns the losses and accuracies of the steps (two
arrays at least as long, which on JAX may still be computing), where `rates` are the learning rates and `switches`,
``(steps, units)``, those of a `SwitchedNetwork`; `use(source)`, which takes the images of later steps from another
source of the same data, such as one with another image size; `predict_on_batch(images)`, which returns the logits of
the current network; `move_statistics(images)`, a forward pass in training mode that only updates moving statistics; and
`sync()`, which writes the state to the variables of the model and the optimizer.
"""

import keras
import numpy as np
from keras import ops

from train.devices import ONE_DEVICE
from train.losses import CROSS_ENTROPY
from train.optimizer import stack_optimizer
from train.stacks import group_alike, separate

STEPS_PER_LOOP = 32  # of the compiled loop: long compared with the host's overhead, short compared with a dispatch


def make_steps(model, optimizer, source, devices=ONE_DEVICE, loss=CROSS_ENTROPY):
    """Creates the steps object of the current backend.

    Args:
        model: `keras.Model` from pixels to logits.
        optimizer: optimizer built for the model's trainable variables.
        source: source of batches.
        devices: `train.devices.Devices`.
        loss: `train.losses.Loss`.

    Returns:
        An object with `run`, `predict_on_batch`, `use`, `move_statistics` and `sync`.
    """
    kinds = {"jax": JaxSteps, "tensorflow": TensorFlowSteps, "torch": TorchSteps}
    return kinds[keras.backend.backend()](model, optimizer, source, devices, loss=loss)


class JaxSteps:
    """A loop of pure steps; the state is kept in arrays, whose memory is donated to the new state.

    On an accelerator blocks of steps run in a compiled loop of static length, without involving the host in between.
    The rest of a dispatch runs step by step. The state is stored in stacks of arrays of the same shape, which take few
    launches to update.

    On a CPU the loop runs in Python and the state is not stacked, because XLA's convolutions are many times slower
    inside a compiled loop there.

    Attributes:
        block: number of steps of the compiled loop; 1 without one.
    """

    def __init__(self, model, optimizer, source, devices, compiled_loop=None, loss=CROSS_ENTROPY):
        import jax

        self._model, self._optimizer, self._loss = model, optimizer, loss
        self._variables = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
        switches = getattr(model, "switches", None)
        self._switch_index = next((i for i, v in enumerate(model.non_trainable_variables) if v is switches), None)
        self._shard = devices.shard
        self._device_data = tuple(self._shard(array) for array in source.device_data)
        self._state = self._results = None
        if compiled_loop is None:
            compiled_loop = jax.default_backend() != "cpu"
        if compiled_loop:
            self._optimizer, trainable, slots = stack_optimizer(optimizer, model.trainable_variables)
            self._stacks = (trainable, group_alike(model.non_trainable_variables), slots)
        else:
            self._stacks = tuple(map(separate, self._variables))
        self._rate_index = [v is self._optimizer.learning_rate for v in self._optimizer.variables].index(True)
        self._most_steps = source.max_steps_per_dispatch
        self.block = min(STEPS_PER_LOOP, self._most_steps) if compiled_loop else 1
        self._source = None
        self.use(source)
        self._pack = jax.jit(self._stack_state)
        self._unpack = jax.jit(self._split)
        self._predict = jax.jit(self._logits)
        self._moved = jax.jit(self._moved_statistics)

    def run(self, rates, batches, switches=None):
        return self._run_stacked(controls_of(rates, switches), stack_batches(batches))

    def _run_stacked(self, controls, batches):
        self._begin()
        first, last = 0, len(controls[0])
        while first < last:
            block = self.block > 1 and last - first >= self.block
            steps = slice(first, first + self.block) if block else first
            feeds = [self._shard(array[steps], int(block), self._source.num_shards) for array in batches]
            arguments = self._device_data, np.int32(first), [array[steps] for array in controls], feeds
            self._state, self._results = (self._loop if block else self._one)(self._state, self._results, *arguments)
            first += self.block if block else 1
        return self._results

    def predict_on_batch(self, images):
        self._begin()
        return np.asarray(self._predict(self._state, self._shard(images)))

    def use(self, source):
        import jax

        if source is not self._source:
            self._source = source
            # New functions, because compiled code is kept for each function.
            self._loop = jax.jit(lambda *arguments: self._many(*arguments), donate_argnums=0)
            self._one = jax.jit(lambda *arguments: self._step(*arguments), donate_argnums=0)

    def move_statistics(self, images):
        self._begin()
        parts = self._source.num_shards
        images = self._shard(images, 0, parts) if parts > 1 else self._shard(images)
        self._state[1] = self._moved(self._state, images)

    def sync(self):
        state = self._unpack(self._state) if self._state else []
        for group, arrays in zip(self._variables, state, strict=False):
            for variable, array in zip(group, arrays, strict=True):
                variable.assign(array)
        self._state = None

    def _begin(self):
        if self._state is None:
            self._state = self._pack([[variable.value for variable in group] for group in self._variables])
            self._results = (np.zeros(self._most_steps, "float32"),) * 2

    def _logits(self, state, images):
        trainable, other, _ = self._split(state)
        return self._model.stateless_call(trainable, other, images, training=False)[0]

    def _moved_statistics(self, state, images):
        trainable, other, _ = self._split(state)
        return self._stacks[1].stack(self._model.stateless_call(trainable, other, images, training=True)[1])

    def _many(self, state, results, device_data, first, controls, batches):
        import jax

        def body(i, carry):
            control = [_pick(array, i) for array in controls]
            return self._step(*carry, device_data, first + i, control, [array[i] for array in batches])

        return jax.lax.fori_loop(0, self.block, body, (state, results))

    def _step(self, state, results, device_data, index, control, batch):
        """Runs one step and writes its loss and accuracy to position `index` of the results."""
        import jax

        trainable, other, _ = self._split(state)
        stacks, _, slots = state
        rate, *switches = control
        if switches:
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
        stacks, slots = self._optimizer.stateless_apply(slots, self._stacks[0].stack(gradients), stacks)
        results = tuple(old.at[index].set(new) for old, new in zip(results, (loss, correct), strict=True))
        return [list(stacks), self._stacks[1].stack(other), list(slots)], results

    def _stack_state(self, state):
        """Stacks the state, given as lists of arrays with one for each variable."""
        return [stacks.stack(arrays) for stacks, arrays in zip(self._stacks, state, strict=True)]

    def _split(self, state):
        """Splits the state's stacks into lists of arrays, one for each variable."""
        return [stacks.split(arrays) for stacks, arrays in zip(self._stacks, state, strict=True)]


def _pick(array, i):
    """Returns ``array[i]`` in a compiled loop: plain indexing would prevent the loop from becoming one CUDA graph."""
    import jax

    chosen = (jax.numpy.arange(len(array)) == i).reshape(-1, *[1] * (array.ndim - 1))
    return jax.numpy.sum(jax.numpy.where(chosen, array, 0), axis=0)


class TensorFlowSteps:
    """A loop in one graph. With several replicas each processes its part of the batch; gradients are summed."""

    block = 1

    def __init__(self, model, optimizer, source, devices, loss=CROSS_ENTROPY):
        import tensorflow as tf

        self._model, self._optimizer, self._source, self._loss = model, optimizer, source, loss
        self._strategy = devices.strategy or tf.distribute.get_strategy()
        self._device_data = tuple(map(self._on_every_device if devices.strategy else tf.constant, source.device_data))
        self._loop = self._specs = None
        self._predict = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
        # Each device gets all images, so that batch statistics are summed over equal parts.
        self._move = tf.function(lambda images: self._strategy.run(model, (images,), {"training": True}))

    def run(self, rates, batches, switches=None):
        import tensorflow as tf

        inputs = [tuple(map(tf.constant, arrays)) for arrays in (controls_of(rates, switches), stack_batches(batches))]
        # The number of steps is dynamic, so that one compilation is enough for batches of a shape.
        specs = [tuple(tf.TensorSpec([None, *x.shape[1:]], x.dtype) for x in arrays) for arrays in inputs]
        if self._loop is None or specs != self._specs:
            self._specs, self._loop = specs, tf.function(self._run, input_signature=specs)
        return tuple(sums.numpy() for sums in self._loop(*inputs))

    def predict_on_batch(self, images):
        return self._predict(images).numpy()

    def use(self, source):
        if source is not self._source:
            self._source, self._loop = source, None

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

    block = 1

    def __init__(self, model, optimizer, source, devices, loss=CROSS_ENTROPY):
        self._model, self._optimizer, self._source, self._loss = model, optimizer, source, loss
        self._device_data = tuple(ops.convert_to_tensor(array) for array in source.device_data)

    def run(self, rates, batches, switches=None):
        controls = zip(*controls_of(rates, switches), strict=True)
        losses, corrects = zip(*map(self._step, controls, batches), strict=True)
        return np.asarray([float(x) for x in losses], "float32"), np.asarray([float(x) for x in corrects], "float32")

    def predict_on_batch(self, images):
        import torch

        with torch.no_grad():
            return ops.convert_to_numpy(self._model(images, training=False))

    def use(self, source):
        self._source = source

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
            # Skipped units have no gradient; their weights still decay, as on the other backends.
            gradients = [torch.zeros_like(v.value) if v.value.grad is None else v.value.grad for v in variables]
            self._optimizer.apply(gradients, variables)
        return loss.detach(), correct


def controls_of(rates, switches=None):
    """Returns the inputs from the host for each step: arrays with a leading axis of steps."""
    rates = np.asarray(rates, "float32")
    return (rates,) if switches is None else (rates, np.asarray(switches, "float32"))


def stack_batches(batches):
    """Stacks the batches of several steps along a leading axis."""
    return [np.stack(arrays) for arrays in zip(*batches, strict=True)]
