#!/bin/sh
# Makes a folder with all that a GPU machine without network needs to check itself, to be timed, and to train.
#
#     sh benchmarks/gpu_bundle.sh FOLDER [cifar10.npz]
#
# The machine is expected to have Python 3.12, JAX with CUDA, NumPy, h5py, absl-py, rich, Pillow, filelock, matplotlib.
# PYTHON and KERAS choose another Python for the wheels and another version of Keras. The folder holds:
#
#     repo.bundle     the commit that is checked out (`git clone` takes it; train.publish needs the commit)
#     wheels/         Keras and what it needs, for CPython 3.12 on Linux
#     data.a, data.b  the dataset, split into two files for upload limits
#     start.sh        to be run there, from the folder: installs, checks, and leaves `env.sh`
set -eu
[ $# -ge 1 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1/wheels"
folder=$(cd "$1" && pwd)
[ -z "$(git -C "$here" status --porcelain)" ] || echo "warning: changes that are not committed stay behind." >&2
git -C "$here" bundle create --quiet "$folder/repo.bundle" HEAD
"${PYTHON:-python3}" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    --abi cp312 --abi abi3 --abi none --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 \
    --dest "$folder/wheels" "keras==${KERAS:-3.15.1}" namex optree packaging typing_extensions
if [ $# -ge 2 ]; then
    rm -f "$folder"/data.?
    half=$(( ($(wc -c < "$2") + 1) / 2 ))
    head -c "$half" "$2" > "$folder/data.a"
    tail -c "+$((half + 1))" "$2" > "$folder/data.b"
fi
cat > "$folder/start.sh" <<'START'
#!/bin/sh
# Installs what came in this folder, and checks the accelerator. `. ./env.sh` afterwards for each command in repo/.
set -eu
cd "$(dirname "$0")"
[ -d packages ] || python3 -m pip install --quiet --no-index --no-deps --target packages wheels/*.whl
head=$(git bundle list-heads repo.bundle HEAD | cut -d " " -f 1)
[ "$(git -C repo rev-parse HEAD 2> /dev/null)" = "$head" ] || rm -rf repo
[ -d repo ] || git -c advice.detachedHead=false clone --quiet repo.bundle repo
[ ! -e data.b ] || cat data.a data.b > data.npz
cat > env.sh <<ENV
export KERAS_BACKEND=jax PYTHONUNBUFFERED=1 PYTHONPATH="$PWD/packages" JAX_COMPILATION_CACHE_DIR="$PWD/cache"
export XLA_FLAGS="\${XLA_FLAGS:---xla_gpu_enable_command_buffer=+WHILE,+CONVOLUTION}"
ENV
. ./env.sh
cd repo
python3 -m benchmarks.gpu_probe
START
du -sh "$folder"/* | sed "s|$folder/||"
