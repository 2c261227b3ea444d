"""ONNX Runtime with the PyTorch network, exported by another process. Inference only."""

import os
import subprocess
import sys

from benchmarks.implementation import Implementation

ON_GPU = "CUDAExecutionProvider"


class OnnxRuntime(Implementation):
    """A session for a file; without a file there is no network to build."""

    file_name = "network.onnx"

    def start(self):
        import onnxruntime

        self._runtime = onnxruntime
        on_gpu = self.gpu and ON_GPU in onnxruntime.get_available_providers()
        self._providers = [ON_GPU, "CPUExecutionProvider"] if on_gpu else ["CPUExecutionProvider"]

    def build(self):
        return None

    def save(self, network, path):
        arguments = (*(self.task[name] for name in ("depth", "activation", "width")), self.batch_size, path)
        command = [sys.executable, "-m", "benchmarks.torch_networks", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
            raise RuntimeError(f"the export to ONNX failed: {lines[-1]}")

    def load(self, path):
        options = self._runtime.SessionOptions()
        if hasattr(os, "sched_getaffinity"):  # the default also counts cores that the process may not use
            options.intra_op_num_threads = len(os.sched_getaffinity(0))
        return self._runtime.InferenceSession(path, options, providers=self._providers)

    def inference(self, network):
        images, _ = self.batch()
        name = network.get_inputs()[0].name
        return lambda: network.run(None, {name: images})[0]

    def parameters(self, network):
        return None

    def accelerator(self):
        return "CUDA" if ON_GPU in self._providers else None

    def peak_device_bytes(self):
        return None
