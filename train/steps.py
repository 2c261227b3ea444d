"""Many training steps per dispatch, on each backend.

A dispatch costs the host milliseconds, and a step of a small network takes the accelerator about as
long: so one call runs a loop of steps. Batches come from a `train.data.source.BatchSource`.

Each class here has `run(rates, batches)`, which returns the losses and the shares of correct answers of
those steps (two arrays at least as long, which on JAX may still be computing); `predict_on_batch(images)`,
logits of the network as it is now; and `sync()`, after which the variables of the model and the optimizer
hold the state.
"""

import keras
import numpy as np
from keras import ops

from train.devices import ONE_DEVICE
from train.optimizer import stack_optimizer
from train.stacks import group_alike, separate

STEPS_PER_LOOP = 32  # of the compiled loop: long beside what it costs the host, short beside a dispatch


def make_steps(model, optimizer, source, devices=ONE_DEVICE):
    """The steps of the backend in use.

    Args:
        model: `keras.Model` from pixels to logits.
        optimizer: built for the model's trainable variables.
        source: of batches.
        devices: `train.devices.Devices`.

    Returns:
        An object with `run`, `predict_on_batch` and `sync`.
    """
    kinds = {"jax": JaxSteps, "tensorflow": TensorFlowSteps, "torch": TorchSteps}
    return kinds[keras.backend.backend()](model, optimizer, source, devices)


def loss_and_correct(labels, logits, images_per_step):
    """Cross-entropy and correct answers of (a part of) a batch, each divided by the whole batch's size."""
    loss = ops.sum(ops.sparse_categorical_crossentropy(labels, logits, from_logits=True))
    correct = ops.sum(ops.cast(ops.argmax(logits, axis=-1) == ops.cast(labels, "int32"), "float32"))
    return loss / images_per_step, correct / images_per_step


class JaxSteps:
    """A loop of pure steps; the state stays in arrays, and the old ones are given up to the new.

    On an accelerator blocks of steps run in a compiled loop, of a length that the compiler knows: the host is
    asked for nothing in between. What is left of a dispatch runs step by step. The state is held in stacks of
    arrays of the same shape, which take few launches to update.

    On a processor the loop is Python's, and the state is not stacked: inside a compiled loop XLA's convolutions
    are many times slower there.
    """

    def __init__(self, model, optimizer, source, devices, compiled_loop=None):
        import jax

        self._model, self._optimizer, self._source = model, optimizer, source
        self._variables = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
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
        self._block = min(STEPS_PER_LOOP, self._most_steps) if compiled_loop else 1
        self._loop = jax.jit(self._many, donate_argnums=0)
        self._one = jax.jit(self._step, donate_argnums=0)
        self._pack = jax.jit(self._stack_state)
        self._unpack = jax.jit(self._split)
        self._predict = jax.jit(self._logits)

    def run(self, rates, batches):
        return self._run_stacked(rates, stack_batches(batches))

    def _run_stacked(self, rates, batches):
        self._begin()
        rates = np.asarray(rates, "float32")
        first, last = 0, len(rates)
        while first < last:
            block = self._block > 1 and last - first >= self._block
            steps = slice(first, first + self._block) if block else first
            feeds = [self._shard(array[steps], int(block), self._source.num_shards) for array in batches]
            run, arguments = (self._loop if block else self._one), (self._device_data, np.int32(first), rates[steps])
            self._state, self._results = run(self._state, self._results, *arguments, feeds)
            first += self._block if block else 1
        return self._results

    def predict_on_batch(self, images):
        self._begin()
        return np.asarray(self._predict(self._state, self._shard(images)))

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

    def _many(self, state, results, device_data, first, rates, batches):
        import jax

        def body(i, carry):
            # A plain index into an array is an operation that keeps a loop from being one CUDA graph.
            rate = jax.numpy.sum(jax.numpy.where(jax.numpy.arange(self._block) == i, rates, 0.0))
            return self._step(*carry, device_data, first + i, rate, [array[i] for array in batches])

        return jax.lax.fori_loop(0, self._block, body, (state, results))

    def _step(self, state, results, device_data, index, rate, batch):
        """One step, whose loss and share of correct answers become value `index` of the results."""
        import jax

        trainable, other, _ = self._split(state)
        stacks, _, slots = state
        images, labels = self._source.augment(device_data, *batch)

        def objective(trainable):
            logits, moved = self._model.stateless_call(trainable, other, images, training=True)
            loss, correct = loss_and_correct(labels, logits, len(labels))
            with keras.StatelessScope(zip(self._optimizer.variables, slots, strict=True)):
                return self._optimizer.scale_loss(loss), (loss, correct, moved)

        gradients, (loss, correct, other) = jax.grad(objective, has_aux=True)(trainable)
        slots = [*slots]
        slots[self._rate_index] = rate
        stacks, slots = self._optimizer.stateless_apply(slots, self._stacks[0].stack(gradients), stacks)
        results = tuple(old.at[index].set(new) for old, new in zip(results, (loss, correct), strict=True))
        return [list(stacks), self._stacks[1].stack(other), list(slots)], results

    def _stack_state(self, state):
        """The stacks of lists of arrays, one for each variable."""
        return [stacks.stack(arrays) for stacks, arrays in zip(self._stacks, state, strict=True)]

    def _split(self, state):
        """Lists of arrays, one for each variable, of the state's stacks."""
        return [stacks.split(arrays) for stacks, arrays in zip(self._stacks, state, strict=True)]


class TensorFlowSteps:
    """A loop in one graph. With several replicas each takes its part of the batch; gradients are summed."""

    def __init__(self, model, optimizer, source, devices):
        import tensorflow as tf

        self._model, self._optimizer, self._source = model, optimizer, source
        self._strategy = devices.strategy or tf.distribute.get_strategy()
        self._device_data = tuple(map(self._on_every_device if devices.strategy else tf.constant, source.device_data))
        self._loop = None
        self._predict = tf.function(lambda images: model(images, training=False), reduce_retracing=True)

    def run(self, rates, batches):
        import tensorflow as tf

        batches = tuple(tf.constant(array) for array in stack_batches(batches))
        if self._loop is None:  # the number of steps is open: one compilation serves all
            specs = tuple(tf.TensorSpec([None, *array.shape[1:]], array.dtype) for array in batches)
            self._loop = tf.function(self._run, input_signature=[tf.TensorSpec([None], "float32"), specs])
        return tuple(sums.numpy() for sums in self._loop(tf.constant(rates, "float32"), batches))

    def predict_on_batch(self, images):
        return self._predict(images).numpy()

    def sync(self):
        pass

    def _run(self, rates, batches):
        import tensorflow as tf

        count = tf.shape(rates)[0]
        losses, corrects = (tf.TensorArray("float32", count) for _ in range(2))
        for i in tf.range(count):
            self._optimizer.learning_rate = rates[i]
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
        images, labels = self._source.augment(device_data, *(array[first : first + part] for array in batch))
        with tf.GradientTape() as tape:
            loss, correct = loss_and_correct(labels, self._model(images, training=True), images_per_step)
            scaled = self._optimizer.scale_loss(loss)
        variables = self._model.trainable_variables
        self._optimizer.apply(tape.gradient(scaled, [v.value for v in variables]), variables)
        return loss, correct


class TorchSteps:
    """One step after another."""

    def __init__(self, model, optimizer, source, devices):
        self._model, self._optimizer, self._source = model, optimizer, source
        self._device_data = tuple(ops.convert_to_tensor(array) for array in source.device_data)

    def run(self, rates, batches):
        losses, corrects = zip(*map(self._step, rates, batches), strict=True)
        return np.asarray([float(x) for x in losses], "float32"), np.asarray([float(x) for x in corrects], "float32")

    def predict_on_batch(self, images):
        import torch

        with torch.no_grad():
            return ops.convert_to_numpy(self._model(images, training=False))

    def sync(self):
        pass

    def _step(self, rate, batch):
        import torch

        self._optimizer.learning_rate = rate
        self._model.zero_grad()
        images, labels = self._source.augment(self._device_data, *map(ops.convert_to_tensor, batch))
        loss, correct = loss_and_correct(labels, self._model(images, training=True), len(labels))
        self._optimizer.scale_loss(loss).backward()
        variables = self._model.trainable_variables
        with torch.no_grad():
            self._optimizer.apply([v.value.grad for v in variables], variables)
        return loss.detach(), correct


def stack_batches(batches):
    """Feeds of several steps as one: arrays get a leading axis of steps."""
    return [np.stack(arrays) for arrays in zip(*batches, strict=True)]
