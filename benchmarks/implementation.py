"""The interface of implementations."""


class Implementation:
    """One network in one implementation, on one device.

    Args:
        task: dictionary returned by `benchmarks.plan.Contender.task`.
        batch_size: images per call.
        gpu: whether to run on an accelerator.
    """

    file_name = "weights.h5"

    def __init__(self, task, batch_size, gpu):
        self.task, self.batch_size, self.gpu = task, batch_size, gpu

    def start(self):
        """Imports the libraries and starts the device; timed as "import"."""
        raise NotImplementedError

    def build(self):
        """Builds the network with random weights; None if it needs a file."""
        raise NotImplementedError

    def save(self, network, path):
        """Writes the weight file of a network returned by `build`."""
        raise NotImplementedError

    def load(self, path):
        """Builds the network with the weights of the file."""
        raise NotImplementedError

    def inference(self, network):
        """Returns a function without arguments that maps images in host memory to probabilities in host memory."""
        raise NotImplementedError

    def training(self, network):
        """Returns a function without arguments that runs one step on images in host memory and returns the loss."""
        raise NotImplementedError

    def wait(self):
        """Blocks until the device has finished all work."""

    def parameters(self, network):
        """Returns the number of trainable parameters; None if unknown."""
        raise NotImplementedError

    def accelerator(self):
        """Returns the name of the accelerator in use, or None."""
        raise NotImplementedError

    def peak_device_bytes(self):
        """Returns the peak memory of the accelerator in bytes, or None if unknown."""
        raise NotImplementedError

    def size_and_classes(self):
        """Returns height and width of the images, and number of classes, of the network."""
        from keras_resv2.models.config import STEMS, resolve_layout

        dataset = STEMS[resolve_layout(self.task["depth"]).stem].dataset
        return dataset.image_shape[0], dataset.classes

    def batch(self):
        """Returns the same random images and labels for every contender: uint8 (n, height, width, 3), int32 (n,)."""
        import numpy as np

        size, classes = self.size_and_classes()
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (self.batch_size, size, size, 3), dtype="uint8")
        return images, rng.integers(0, classes, self.batch_size, dtype="int32")
