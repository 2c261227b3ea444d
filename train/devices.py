"""Data parallelism on several devices: each processes an equal part of every batch, and gradients are summed.

On TensorFlow this is `tf.distribute` (MirroredStrategy, or MultiWorkerMirroredStrategy if TF_CONFIG lists several
machines), on JAX `keras.distribution.DataParallel` (with `jax.distributed` for several processes). Batch normalization
uses the statistics of the whole batch on both, so that the number of devices only affects rounding.
"""

import contextlib
import dataclasses
import json
import os

import keras

from keras_resv2.models.batch_norm import BatchNormalization
from keras_resv2.models.copying import copy_model
from keras_resv2.models.scan import is_rolled


class ElsewhereError(RuntimeError):
    """Raised when another process of the run failed."""


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices of a run; without arguments, the backend's default device.

    Attributes:
        count: number of devices of all processes.
        process, processes: index of this process and number of processes.
        strategy: the `tf.distribute.Strategy` of several devices on TensorFlow.
        distribution: the `keras.distribution.DataParallel` of several devices on JAX.
        mesh: the `jax.sharding.Mesh` of several devices on JAX, with a single axis "batch".
    """

    count: int = 1
    process: int = 0
    processes: int = 1
    strategy: object = None
    distribution: object = None
    mesh: object = None

    @property
    def main(self):
        """Whether this process writes files and reports."""
        return self.process == 0

    def scope(self):
        """Context manager in which to create the network and the optimizer."""
        several = self.strategy or self.distribution
        return several.scope() if several else contextlib.nullcontext()

    def any(self, flag):
        """Returns whether `flag` is true in any process; all processes must call it."""
        return any(self._of_all_processes(int(flag)))

    @contextlib.contextmanager
    def sync_errors(self, *errors):
        """Context manager that propagates `errors` of any process to all, so that no process waits for another.

        Args:
            *errors: types of exceptions. All processes must reach the end of the context.

        Raises:
            The exception of this process, or ElsewhereError if another process raised one.
        """
        problem = None
        try:
            yield
        except errors as error:
            problem = error
        anywhere = self.any(problem is not None)
        if problem is not None:
            raise problem
        if anywhere:
            raise ElsewhereError("another process stopped the run: see its message.")

    def agree(self, number):
        """Returns whether all processes have the same number; all processes must call it."""
        return len(set(self._of_all_processes(number))) == 1

    def _of_all_processes(self, number):
        if self.processes == 1:
            return [number]
        if self.strategy:
            import tensorflow as tf

            ours = self.strategy.experimental_distribute_values_from_function(lambda _: tf.constant([number], "int64"))
            return self.strategy.gather(ours, axis=0).numpy().tolist()
        import numpy as np
        from jax.experimental import multihost_utils

        return np.ravel(multihost_utils.process_allgather(np.int32(number))).tolist()

    def shard(self, array, batch_axis=None, num_shards=1):
        """Places `array` on all devices (JAX): replicated, or with `batch_axis` sharded.

        With `num_shards` > 1 each process has only its part of the batch.
        """
        import jax

        if self.mesh is None:
            return jax.numpy.asarray(array)
        axes = () if batch_axis is None else (None,) * batch_axis + ("batch",)
        sharding = jax.sharding.NamedSharding(self.mesh, jax.sharding.PartitionSpec(*axes))
        if num_shards > 1:
            return jax.make_array_from_process_local_data(sharding, array)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


ONE_DEVICE = Devices()


def use_devices(count, processes=None):
    """Initializes `count` devices; must be called before any other use of the backend.

    Args:
        count: number of devices of this process. On a machine without accelerators the CPU is divided into this many
            virtual devices, for testing.
        processes: JAX only: "ADDRESS:PORT,NUMBER,INDEX": address of the first process, number of processes, and index
            of this process. TensorFlow reads TF_CONFIG.

    Returns:
        `Devices`.

    Raises:
        ValueError: if there are fewer devices, or the backend does not support several.
    """
    backend = keras.backend.backend()
    several = processes or (backend == "tensorflow" and _workers() > 1)
    if count == 1 and not several:
        return ONE_DEVICE
    if backend == "torch":
        raise ValueError("several devices require the TensorFlow or JAX backend: set KERAS_BACKEND.")
    return (_use_tensorflow if backend == "tensorflow" else _use_jax)(count, processes)


def make_deterministic():
    """Makes runs on a CPU reproducible bit for bit, which does not reduce the speed.

    XLA on a CPU is always deterministic. Accelerators are not changed, as they would become slower.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            tf.config.experimental.enable_op_determinism()


def check_recipe(recipe, devices):
    """Raises ValueError unless a recipe can run on the devices."""
    if recipe.batch_size % devices.count:
        raise ValueError(
            f"a batch of {recipe.batch_size} images cannot be divided equally among {devices.count} devices."
        )
    if recipe.mixup and recipe.batch_size // devices.count % 2:
        part = recipe.batch_size // devices.count
        raise ValueError(f"mixup needs pairs of images, but {part} per device is odd: change batch_size.")
    if devices.strategy and recipe.dtype == "mixed_float16":
        # Keras checks the gradients of only one replica for overflow.
        raise ValueError("mixed_float16 on several devices requires the JAX backend; mixed_bfloat16 runs on both.")
    if devices.strategy and recipe.leaves_units_out:
        # Synchronized batch normalization cannot be inside a conditional operation.
        raise ValueError("units_per_batch and survival on several devices require the JAX backend: set KERAS_BACKEND.")


def sync_batch_norm(model, devices):
    """Synchronizes batch statistics across devices.

    Args:
        model: a functional `keras.Model`.
        devices: `train.devices.Devices`.

    Returns:
        With several devices on TensorFlow, a copy of the model with the same layer names and weights, whose batch
        normalization is synchronized and whose dropout draws separately on each device. Otherwise the model itself,
        because JAX computes statistics over the whole batch.

    Raises:
        ValueError: if the model is rolled and there are several devices on TensorFlow.
    """
    if devices.strategy is None:
        return model
    if is_rolled(model):
        raise ValueError("on TensorFlow a rolled network trains on only one device; for several use KERAS_BACKEND=jax.")

    def replace(layer):
        if isinstance(layer, BatchNormalization):
            return BatchNormalization.from_config({**layer.get_config(), "synchronized": True})
        if type(layer) is keras.layers.Dropout:
            return ReplicaDropout.from_config(layer.get_config())
        return None

    return copy_model(model, replace)


class ReplicaDropout(keras.layers.Dropout):
    """`keras.layers.Dropout` that draws a different mask on each device of a `tf.distribute` strategy.

    Otherwise all devices would draw the same mask, because they share the state of the seed.
    """

    def call(self, inputs, training=False):
        if not training or not self.rate:
            return inputs
        return keras.random.dropout(inputs, self.rate, self.noise_shape, _SeedsOfReplica(self.seed_generator))


class _SeedsOfReplica(keras.random.SeedGenerator):
    """The seeds of another generator, offset by the index of the current device."""

    APART = 1_000_003

    def __init__(self, seeds):
        self._seeds = seeds  # holds the state

    def next(self, ordered=True):
        import tensorflow as tf

        seed, context = self._seeds.next(ordered), tf.distribute.get_replica_context()
        replica = context.replica_id_in_sync_group if context else 0
        return seed + tf.cast(replica, seed.dtype) * tf.constant([self.APART, 0], seed.dtype)


def _workers():
    """Returns the number of machines in TF_CONFIG."""
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster", {})
    except (ValueError, AttributeError):
        raise ValueError("TF_CONFIG is not a JSON object with cluster and task.") from None
    if set(cluster) - {"worker"}:
        raise ValueError(f"TF_CONFIG has tasks {', '.join(sorted(cluster))}: all machines must be workers.")
    return len(cluster.get("worker", []))


def _use_tensorflow(count, processes):
    import tensorflow as tf

    if processes:
        raise ValueError("--processes is for JAX; TensorFlow reads the machines from TF_CONFIG.")
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        _check_count(count, len(gpus))
        tf.config.set_visible_devices(gpus[:count], "GPU")
    else:
        part = tf.config.LogicalDeviceConfiguration()
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [part] * count)
    if _workers() > 1:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        return Devices(strategy.num_replicas_in_sync, strategy.cluster_resolver.task_id, _workers(), strategy)
    used = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return Devices(count, strategy=tf.distribute.MirroredStrategy([device.name for device in used]))


def _use_jax(count, processes):
    import jax

    jax.config.update("jax_num_cpu_devices", count)
    if processes:
        try:
            address, number, index = processes.split(",")
            number, index = int(number), int(index)
        except ValueError:
            raise ValueError(f"--processes must be ADDRESS:PORT,NUMBER,INDEX, not {processes!r}.") from None
        jax.distributed.initialize(address, number, index)
    _check_count(count, len(jax.local_devices()))
    chosen = [d for process in range(jax.process_count()) for d in jax.local_devices(process)[:count]]
    distribution = keras.distribution.DataParallel(devices=[f"{d.platform}:{d.id}" for d in chosen])
    mesh = jax.sharding.Mesh(chosen, ("batch",))
    return Devices(len(chosen), jax.process_index(), jax.process_count(), distribution=distribution, mesh=mesh)


def _check_count(count, found):
    if count > found:
        raise ValueError(f"--devices={count}, but there are only {found}.")
