"""The networks in plain PyTorch, eager and compiled: channels_last, bfloat16 with autocast."""

from benchmarks.implementation import Implementation


class Eager(Implementation):
    """`benchmarks.torch_networks.ResidualNetwork`, operation by operation."""

    file_name = "weights.pt"

    def start(self):
        import torch

        self._device = "cuda" if self.gpu and torch.cuda.is_available() else "cpu"
        (torch.ones(1, device=self._device) + 1).cpu()
        from benchmarks.torch_networks import ResidualNetwork

        self._network = ResidualNetwork

    def build(self):
        import torch

        network = self._network(self.task["depth"], self.task["activation"], width=self.task["width"])
        return network.to(self._device, memory_format=torch.channels_last)

    def save(self, network, path):
        import torch

        torch.save(network.state_dict(), path)

    def load(self, path):
        import torch

        network = self.build()
        network.load_state_dict(torch.load(path, map_location=self._device, weights_only=True))
        return network

    def compile(self, network):
        """Returns the network to call."""
        return network

    def inference(self, network):
        import torch

        images, _ = self._batch()
        compiled = self.compile(network.eval())

        @torch.inference_mode()
        def infer():
            with self._autocast():
                probabilities = compiled(self._place(images)).softmax(-1)
            return probabilities.float().cpu().numpy()

        return infer

    def training(self, network):
        import torch

        images, labels = self._batch()
        compiled = self.compile(network.train())
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

        def train():
            optimizer.zero_grad()
            with self._autocast():
                logits = compiled(self._place(images))
            loss = torch.nn.functional.cross_entropy(logits.float(), labels.to(self._device))
            loss.backward()
            optimizer.step()
            return loss.item()

        return train

    def wait(self):
        if self._device == "cuda":
            import torch

            torch.cuda.synchronize()

    def parameters(self, network):
        return sum(parameter.numel() for parameter in network.parameters())

    def accelerator(self):
        import torch

        return torch.cuda.get_device_name(0) if self._device == "cuda" else None

    def peak_device_bytes(self):
        import torch

        return torch.cuda.max_memory_allocated()

    def _batch(self):
        import torch

        images, labels = self.batch()
        return torch.from_numpy(images), torch.from_numpy(labels).long()

    def _place(self, images):
        """Moves images to the device as (n, 3, height, width) with channels_last memory format: the same bytes."""
        return images.to(self._device).permute(0, 3, 1, 2)

    def _autocast(self):
        import torch

        return torch.autocast(self._device, torch.bfloat16, enabled=self.task["precision"] == "bfloat16")


class Compiled(Eager):
    """The same with `torch.compile`."""

    def compile(self, network):
        import torch

        return torch.compile(network)
