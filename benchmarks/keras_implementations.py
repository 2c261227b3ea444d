"""The networks in Keras: those of this package, of stock layers, and of keras.applications."""

import math

from benchmarks.implementation import Implementation

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


class KerasImplementation(Implementation):
    """The base class, with the default inference and training of `keras.Model`."""

    file_name = "model.weights.h5"

    def start(self):
        import keras

        keras.config.set_dtype_policy(POLICIES[self.task["precision"]])
        keras.ops.convert_to_numpy(keras.ops.ones(1) + 1)

    def save(self, network, path):
        network.save_weights(path)

    def load(self, path):
        network = self.build()
        network.load_weights(path)
        return network

    def inference(self, network):
        images, _ = self.batch()
        return lambda: network.predict_on_batch(images)

    def training(self, network):
        import keras

        images, labels = self.batch()
        network.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
        self._trained = network
        return lambda: network.train_on_batch(images, labels)

    def wait(self):
        import keras

        if keras.backend.backend() == "jax" and hasattr(self, "_trained"):
            import jax

            jax.block_until_ready([variable.value for variable in self._trained.trainable_variables])

    def parameters(self, network):
        return sum(math.prod(variable.shape) for variable in network.trainable_variables)

    def accelerator(self):
        from train.environment import accelerators

        return next(iter(accelerators()), None)

    def peak_device_bytes(self):
        import keras

        backend = keras.backend.backend()
        if backend == "tensorflow":
            import tensorflow as tf

            return tf.config.experimental.get_memory_info("GPU:0")["peak"]
        if backend == "jax":
            import jax

            return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
        import torch

        return torch.cuda.max_memory_allocated()


class KerasResv2(KerasImplementation):
    """This package, with its own weight file."""

    file_name = "weights.h5"
    rolled = False

    def start(self):
        super().start()
        import keras_resv2.resnet

        self._builder = keras_resv2.resnet.ResNet

    def build(self, weights=None):
        network = {name: self.task[name] for name in ("depth", "activation", "width")}
        return self._builder(**network, weights=weights, rolled=self.rolled)

    def save(self, network, path):
        from keras_resv2.storage.weight_file import save_weights

        save_weights(network, path)

    def load(self, path):
        return self.build(path)


class Folded(KerasResv2):
    """Its inference form."""

    def build(self, weights=None):
        from keras_resv2.models.folding import fold

        return fold(super().build(weights))

    def save(self, network, path):
        super().save(KerasResv2.build(self), path)  # the file of the plain network


class Rolled(KerasResv2):
    """Its units as loops."""

    rolled = True


class Stock(KerasImplementation):
    """The same network built from Keras' own layers."""

    def start(self):
        super().start()
        import benchmarks.stock_networks

        self._builder = benchmarks.stock_networks.residual_network

    def build(self):
        return self._builder(self.task["depth"], self.task["activation"], self.task["width"])


class Applications(KerasImplementation):
    """The network of keras.applications, behind its own preprocessing."""

    def build(self):
        import keras

        name = self.task["application"]
        module = keras.applications.resnet_v2 if name.endswith("V2") else keras.applications.resnet
        pixels = keras.Input((224, 224, 3))
        network = getattr(module, name)(weights=None)
        return keras.Model(pixels, network(module.preprocess_input(pixels)))

    def size_and_classes(self):
        return 224, 1000
