"""Several devices: each takes an equal part of every batch, and the gradients are summed.

On TensorFlow this is `tf.distribute` (MirroredStrategy, or MultiWorkerMirroredStrategy where TF_CONFIG
names several machines), on JAX `keras.distribution.DataParallel` (with `jax.distributed` for several
processes). Statistics of batch normalisation are those of the whole batch on both, so that the number of
devices changes nothing but rounding.
"""

import contextlib
import dataclasses
import json
import os

import keras

from keras_resv2.models.batch_norm import BatchNormalization
from keras_resv2.models.copying import copy_model
from keras_resv2.models.scan import RolledUnits


class ElsewhereError(RuntimeError):
    """Another process of the run cannot go on."""


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices of a run; without arguments, the one that the backend uses by itself.

    Attributes:
        count: of devices, over all processes.
        process, processes: index of this process, and how many there are.
        strategy: of several devices on TensorFlow, the `tf.distribute.Strategy`.
        distribution: of several devices on JAX, the `keras.distribution.DataParallel`.
        mesh: of several devices on JAX, the `jax.sharding.Mesh` with the one axis "batch".
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
        """Context in which the network and the optimizer are made."""
        several = self.strategy or self.distribution
        return several.scope() if several else contextlib.nullcontext()

    def any(self, flag):
        """Whether `flag` is true in any process; all must ask."""
        return any(self._of_all_processes(int(flag)))

    @contextlib.contextmanager
    def sync_errors(self, *errors):
        """Context that all processes leave alike: where one of `errors` ends it in any, none waits for another.

        Args:
            *errors: kinds of exceptions. All processes must come to the end of the context.

        Raises:
            the exception of this process; or ElsewhereError where it is another's.
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
            raise ElsewhereError("another process stopped the run: its message says why.")

    def agree(self, number):
        """Whether all processes have the same number; all must ask."""
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
        """`array` on all devices (JAX): whole, or its `batch_axis` split over them.

        With `num_shards` > 1 each process has its part of the batch alone.
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
    """Gets `count` devices ready; to be called before anything else touches the backend.

    Args:
        count: devices of this process. On a machine without accelerators the processor is divided
            into so many virtual devices, to try it out.
        processes: JAX only: "ADDRESS:PORT,NUMBER,INDEX", the first process's address, how many
            processes there are, and which this is. TensorFlow reads TF_CONFIG.

    Returns:
        `Devices`.

    Raises:
        ValueError: there are fewer devices, or the backend has no way to use several.
    """
    backend = keras.backend.backend()
    several = processes or (backend == "tensorflow" and _workers() > 1)
    if count == 1 and not several:
        return ONE_DEVICE
    if backend == "torch":
        raise ValueError("several devices need the TensorFlow or the JAX backend: set KERAS_BACKEND.")
    return (_use_tensorflow if backend == "tensorflow" else _use_jax)(count, processes)


def make_deterministic():
    """On a processor the same run gives the same bits: it costs no speed there.

    XLA on a processor does so by itself. On an accelerator it would cost speed, and is left out.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            tf.config.experimental.enable_op_determinism()


def check_recipe(recipe, devices):
    """Raises ValueError unless a recipe can be run on the devices."""
    if recipe.batch_size % devices.count:
        raise ValueError(f"a batch of {recipe.batch_size} images does not divide over {devices.count} devices.")
    if recipe.mixup and recipe.batch_size // devices.count % 2:
        part = recipe.batch_size // devices.count
        raise ValueError(f"mixup takes images in pairs, and {part} per device is an odd number: change batch_size.")
    if devices.strategy and recipe.dtype == "mixed_float16":
        # Keras looks for overflow in the gradients of one replica only.
        raise ValueError("mixed_float16 on several devices needs the JAX backend; mixed_bfloat16 runs on both.")


def sync_batch_norm(model, devices):
    """`model` with statistics over all devices' parts of the batch.

    Args:
        model: a functional `keras.Model`.
        devices: `train.devices.Devices`.

    Returns:
        With several devices on TensorFlow a copy of the model whose batch normalisation synchronises them, and whose
        dropout draws for each device by itself, with the same layer names and weights. Else the model itself: JAX
        computes over the whole batch anyway.

    Raises:
        ValueError: the model is rolled, and there are several devices on TensorFlow.
    """
    if devices.strategy is None:
        return model
    if any(isinstance(layer, RolledUnits) for layer in model.layers):
        raise ValueError("a rolled network trains on one device of TensorFlow; on several use KERAS_BACKEND=jax.")

    def replace(layer):
        if isinstance(layer, BatchNormalization):
            return BatchNormalization.from_config({**layer.get_config(), "synchronized": True})
        if type(layer) is keras.layers.Dropout:
            return ReplicaDropout.from_config(layer.get_config())
        return None

    return copy_model(model, replace)


class ReplicaDropout(keras.layers.Dropout):
    """`keras.layers.Dropout` that draws another mask on each device of a `tf.distribute` strategy.

    The state of its seed is the same on all of them, and so would be the masks: half of the batch would lose the same
    values as the other half.
    """

    def call(self, inputs, training=False):
        if not training or not self.rate:
            return inputs
        return keras.random.dropout(inputs, self.rate, self.noise_shape, _SeedsOfReplica(self.seed_generator))


class _SeedsOfReplica(keras.random.SeedGenerator):
    """The seeds of another generator, moved by the number of the device that asks."""

    APART = 1_000_003

    def __init__(self, seeds):
        self._seeds = seeds  # which has the state

    def next(self, ordered=True):
        import tensorflow as tf

        seed, context = self._seeds.next(ordered), tf.distribute.get_replica_context()
        replica = context.replica_id_in_sync_group if context else 0
        return seed + tf.cast(replica, seed.dtype) * tf.constant([self.APART, 0], seed.dtype)


def _workers():
    """How many machines TF_CONFIG names."""
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster", {})
    except (ValueError, AttributeError):
        raise ValueError("TF_CONFIG is not a JSON object of cluster and task.") from None
    if set(cluster) - {"worker"}:
        raise ValueError(f"TF_CONFIG has tasks {', '.join(sorted(cluster))}: all machines are to be workers.")
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
            raise ValueError(f"--processes is ADDRESS:PORT,NUMBER,INDEX, not {processes!r}.") from None
        jax.distributed.initialize(address, number, index)
    _check_count(count, len(jax.local_devices()))
    chosen = [d for process in range(jax.process_count()) for d in jax.local_devices(process)[:count]]
    distribution = keras.distribution.DataParallel(devices=[f"{d.platform}:{d.id}" for d in chosen])
    mesh = jax.sharding.Mesh(chosen, ("batch",))
    return Devices(len(chosen), jax.process_index(), jax.process_count(), distribution=distribution, mesh=mesh)


def _check_count(count, found):
    if count > found:
        raise ValueError(f"--devices={count}, but there are {found}.")
