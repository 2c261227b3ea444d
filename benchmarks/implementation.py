"""What every implementation gives to its worker."""


class Implementation:
    """One network in one implementation, on one device.

    Args:
        task: dictionary as `benchmarks.plan.Contender.task` makes it.
        batch_size: images per call.
        gpu: whether it is to run on an accelerator.
    """

    file_name = "weights.h5"

    def __init__(self, task, batch_size, gpu):
        self.task, self.batch_size, self.gpu = task, batch_size, gpu

    def start(self):
        """Imports the libraries and starts the device: what "import" times."""
        raise NotImplementedError

    def build(self):
        """The network with random weights; None where there is none without a file."""
        raise NotImplementedError

    def save(self, network, path):
        """Writes the weight file of what `build` made."""
        raise NotImplementedError

    def load(self, path):
        """The network, built and with the weights of the file."""
        raise NotImplementedError

    def inference(self, network):
        """Function without arguments: images in the host's memory to probabilities there."""
        raise NotImplementedError

    def training(self, network):
        """Function without arguments: one step on images in the host's memory; returns the loss."""
        raise NotImplementedError

    def wait(self):
        """Returns when the device has done all that it was told."""

    def parameters(self, network):
        """Number of trainable parameters; None where it cannot tell."""
        raise NotImplementedError

    def accelerator(self):
        """Name of the accelerator in use, or None."""
        raise NotImplementedError

    def peak_device_bytes(self):
        """Most bytes of the accelerator's memory that were in use, or None where it cannot tell."""
        raise NotImplementedError

    def size_and_classes(self):
        """Height and width of an image, and number of classes, that the network is made for."""
        from keras_resv2.models.config import STEMS, resolve_layout

        dataset = STEMS[resolve_layout(self.task["depth"]).stem].dataset
        return dataset.image_shape[0], dataset.classes

    def batch(self):
        """The same random images and labels for everyone: uint8 (n, height, width, 3), int32 (n,)."""
        import numpy as np

        size, classes = self.size_and_classes()
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (self.batch_size, size, size, 3), dtype="uint8")
        return images, rng.integers(0, classes, self.batch_size, dtype="int32")
