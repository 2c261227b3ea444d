"""Files of earlier versions, from before modules were renamed, open and have the same outputs as then."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

SAVED = pathlib.Path(__file__).parent / "saved"
OUTPUTS = json.loads((SAVED / "outputs.json").read_text())
OPEN = """
import sys, keras, keras_resv2, numpy as np
images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype="uint8")
for path in sys.argv[2:]:
    model = keras.saving.load_model(path)
    run = model.predict_on_batch if keras.backend.backend() == "jax" else model  # `predict` traces a graph
    np.save(f"{sys.argv[1]}/{path.rsplit('/')[-1]}.npy", keras.ops.convert_to_numpy(run(images)))
    print(type(getattr(model, "optimizer", None)).__name__)
"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Returns outputs of saved models in a process that has only imported Keras and the package."""
    folder = tmp_path_factory.mktemp("opened")
    command = [sys.executable, "-c", OPEN, str(folder), *(str(SAVED / name) for name in OUTPUTS)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return {name: np.load(folder / f"{name}.npy") for name in OUTPUTS}, done.stdout.split()


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_model_of_0_1_gives_the_outputs_that_it_gave(opened, name):
    np.testing.assert_allclose(opened[0][name], OUTPUTS[name], atol=1e-4)


def test_a_fine_tuned_model_keeps_its_optimizer(opened):
    assert opened[1][list(OUTPUTS).index("compiled.keras")] == "DiscriminativeAdam"
