// A network that keras_resv2.export(..., unit_switches=True) wrote, run by TensorFlow.js' WebAssembly kernels:
// unit by unit, so that units can be left out or run in another order.
import { parse } from "./onnx.js";

const script = (address) => new Promise((resolve, reject) => {
  const element = Object.assign(document.createElement("script"), { src: address, onload: resolve });
  element.onerror = () => reject(new Error(`${address} did not load`));
  document.head.append(element);
});

/** TensorFlow.js, from a folder of this site. */
export async function startRuntime(folder) {
  await script(`${folder}tf-core.min.js`);
  await script(`${folder}tf-backend-wasm.min.js`);
  const tf = globalThis.tf;
  tf.wasm.setWasmPaths(folder);
  await tf.setBackend("wasm");
  await tf.ready();
  return tf;
}

/** ONNX keeps channels first, TensorFlow.js last. */
const lastAxis = ([n, c, h, w]) => [n, h, w, c];

const OPERATORS = {
  Cast: (net, node, [x]) => x,
  Transpose: (net, node, [x]) => x, // into the layout that is not used here
  Identity: (net, node, [x]) => x,
  Add: (net, node, [a, b]) => (a === 0 ? b : b === 0 ? a : net.tf.add(a, b)),
  Sub: (net, node, [a, b]) => (typeof b === "number" ? 1 - b : net.tf.sub(a, b)),
  Mul: (net, node, [a, b]) => net.tf.mul(a, b),
  Relu: (net, node, [x]) => net.tf.relu(x),
  BatchNormalization: (net, node, [x, gamma, beta, mean, variance]) =>
    net.tf.batchNorm(x, mean, variance, beta, gamma, node.attributes.epsilon),
  Conv(net, node, [x, kernel, bias]) {
    const { strides, pads, auto_pad: auto, group = 1, dilations } = node.attributes;
    const same = auto === "SAME_UPPER" || (pads && pads.some(Boolean));
    const odd = pads && pads.some((side) => side !== (kernel.shape[0] - 1) / 2);
    if (group !== 1 || dilations || (same && odd)) throw new Error("This page does not run such a convolution.");
    const { activation } = node;
    return net.tf.fused.conv2d({ x, filter: kernel, strides, pad: same ? "same" : "valid", bias, activation });
  },
  Pad(net, node, [x]) {
    const pads = [...net.model.constants.get(node.inputs[1]).values];
    const before = lastAxis(pads.slice(0, 4)), after = lastAxis(pads.slice(4));
    return net.tf.pad(x, before.map((size, axis) => [size, after[axis]]));
  },
  MaxPool(net, node, [x]) {
    const { kernel_shape: size, strides } = node.attributes;
    if (Math.max(...size) === 1) return net.tf.stridedSlice(x, [0, 0, 0, 0], x.shape, [1, ...strides, 1]);
    return net.tf.maxPool(x, size, strides, node.attributes.auto_pad === "SAME_UPPER" ? "same" : "valid");
  },
  GlobalAveragePool: (net, node, [x]) => net.tf.mean(x, [1, 2], true),
  Flatten: (net, node, [x]) => net.tf.reshape(x, [x.shape[0], -1]),
  Gemm: (net, node, [x, kernel, bias]) => net.tf.add(net.tf.matMul(x, kernel), bias),
  Softmax: (net, node, [x]) => net.tf.softmax(x),
};

export class Network {
  /**
   * @param tf TensorFlow.js, as startRuntime gives it.
   * @param bytes of the ONNX file.
   */
  constructor(tf, bytes) {
    this.tf = tf;
    this.model = parse(bytes);
    this.classNames = JSON.parse(this.model.metadata.class_names);
    this.units = JSON.parse(this.model.metadata.unit_switches);
    this.order = this.units.map((_, index) => index); // as built
    this.makers = new Map();
    for (const node of this.model.nodes) node.outputs.forEach((name) => this.makers.set(name, node));
    this.switchNames = new Map(this.units.filter(({ switch: s }) => s !== null).map((u) => [`${u.name}/switch`, u]));
    this.pooling = this.model.nodes.find(({ kind }) => kind === "GlobalAveragePool");
    this.classifier = this.model.nodes.findLast(({ kind }) => kind === "Gemm");
    this.tensors = new Map();
    this.#castConstants();
    this.#fuse();
  }

  /** Kernels in float16 were read as float32: their casts are done. */
  #castConstants() {
    for (const node of this.model.nodes) {
      const constant = node.kind === "Cast" && this.model.constants.get(node.inputs[0]);
      if (constant) this.model.constants.set(node.outputs[0], constant);
    }
  }

  /** Batch normalization and ReLU behind a convolution go into it, where nothing else reads what lies between. */
  #fuse() {
    const readers = new Map();
    this.model.nodes.forEach((node) => node.inputs.forEach((x) => readers.set(x, (readers.get(x) ?? 0) + 1)));
    const borders = new Set(this.units.flatMap(({ input, output }) => [input, output]));
    const inside = (name) => readers.get(name) === 1 && !borders.has(name);
    for (const node of this.model.nodes) {
      const before = this.makers.get(node.inputs[0]);
      if (before?.kind !== "Conv" || before.activation || !inside(node.inputs[0])) continue;
      if (node.kind === "Relu") this.makers.set(node.outputs[0], { ...before, activation: "relu" });
      if (node.kind === "BatchNormalization") this.makers.set(node.outputs[0], this.#normalised(before, node));
    }
  }

  #normalised(conv, { inputs, attributes }) {
    const [gamma, beta, mean, variance] = inputs.slice(1).map((name) => this.model.constants.get(name).values);
    const factors = gamma.map((value, c) => value / Math.sqrt(variance[c] + attributes.epsilon));
    const { dims, values } = this.model.constants.get(conv.inputs[1]);
    const old = conv.inputs[2] && this.model.constants.get(conv.inputs[2]).values;
    const size = values.length / dims[0]; // output channels come first
    const [kernel, bias] = ["kernel", "bias"].map((part) => `${conv.outputs[0]}/normalised_${part}`);
    this.model.constants.set(kernel, { dims, values: values.map((v, i) => v * factors[Math.floor(i / size)]) });
    const shifted = beta.map((value, c) => value + ((old ? old[c] : 0) - mean[c]) * factors[c]);
    this.model.constants.set(bias, { dims: [dims[0]], values: shifted });
    return { ...conv, inputs: [conv.inputs[0], kernel, bias] };
  }

  /** A constant as a tensor, made once: kernels as height, width, input, output. */
  #constant(name) {
    if (!this.tensors.has(name)) {
      const { dims, values } = this.model.constants.get(name);
      const shape = dims.length === 3 ? [dims[0]] : dims; // one value per channel
      const made = this.tf.tidy(() => {
        const x = this.tf.tensor(values, shape, "float32");
        return this.tf.keep(dims.length === 4 ? this.tf.transpose(x, [2, 3, 1, 0]) : x);
      });
      this.tensors.set(name, made);
    }
    return this.tensors.get(name);
  }

  /** The value of a name in the graph; what it needs is computed first, and kept in `values`. */
  #value(name, values, on) {
    if (values.has(name)) return values.get(name);
    if (this.switchNames.has(name)) return on ? 1 : 0;
    if (this.model.constants.has(name)) return this.#constant(name);
    const node = this.makers.get(name);
    const operator = OPERATORS[node.kind];
    if (!operator) throw new Error(`This page has no operator ${node.kind}.`);
    let y;
    const last = node.kind === "Mul" ? this.#value(node.inputs[1], values, on) : null;
    if (last === 0) y = 0; // a branch that is switched off is not computed
    else if (last === 1) y = this.#value(node.inputs[0], values, on);
    else {
      const inputs = node.kind === "Pad" ? node.inputs.slice(0, 1) : node.inputs;
      y = operator(this, node, inputs.map((input) => this.#value(input, values, on)));
    }
    values.set(name, y);
    return y;
  }

  stem(pixels) {
    return this.tf.tidy(() => this.#value(this.units[0].input, new Map([["pixels", pixels]]), true));
  }

  /** The unit at a position of `units`, or what its deletion leaves of it. */
  unit(index, x, on = true) {
    const { input, output } = this.units[index];
    // Cloned: a deleted unit may hand on x itself, and x is disposed of.
    return this.tf.tidy(() => this.#value(output, new Map([[input, x]]), on).clone());
  }

  /** { maps, logits, probabilities }: maps are what the pooling reads. */
  head(x) {
    return this.tf.tidy(() => {
      const values = new Map([[this.units.at(-1).output, x]]);
      const probabilities = this.#value("probabilities", values, true);
      const maps = this.#value(this.pooling.inputs[0], values, true).clone();
      return { probabilities, logits: values.get(this.classifier.outputs[0]), maps };
    });
  }

  /** Grad-CAM below average pooling and a linear classifier: feature maps times the weights of a class. */
  cam(maps, label) {
    return this.tf.tidy(() => {
      const kernel = this.#constant(this.classifier.inputs[1]);
      const weights = this.tf.reshape(this.tf.slice(kernel, [0, label], [kernel.shape[0], 1]), [1, 1, 1, -1]);
      const sums = this.tf.relu(this.tf.sum(this.tf.mul(maps, weights), 3));
      return this.tf.div(sums, maps.shape[1] * maps.shape[2]);
    });
  }

  /** Whether a unit can be deleted. */
  deletable(index) {
    return this.units[index].switch !== null;
  }

  /**
   * Runs the network.
   * @param pixels float32 tensor (n, 32, 32, 3), from 0 to 255.
   * @param off Set of positions of deleted units.
   * @param order positions of the units in the order in which they are run.
   * @param pause async function that is called between units.
   * @returns { probabilities: Float32Array, stages: [tensor], maps: tensor }; dispose of the tensors.
   */
  async run(pixels, { off = new Set(), order = this.order, pause } = {}) {
    let x = this.stem(pixels);
    const stages = [];
    try {
      for (const [position, index] of order.entries()) {
        const y = this.unit(index, x, !off.has(index));
        if (!stages.includes(x)) x.dispose();
        x = y;
        const next = order[position + 1];
        if (next === undefined || this.units[next].stage !== this.units[index].stage) stages.push(x);
        if (pause) await pause();
      }
    } catch (error) { // `pause` ends a run that is not wanted any more
      this.tf.dispose([x, ...stages]);
      throw error;
    }
    const { probabilities, logits, maps } = this.head(x);
    const values = await probabilities.data();
    this.tf.dispose([probabilities, logits]);
    return { probabilities: values, stages, maps };
  }

  /** Probabilities without each unit in turn: yields [position, Float32Array]. Beginnings are computed once. */
  async *deletions(pixels, pause = async () => {}) {
    let x = this.stem(pixels), y = null;
    const replaced = (old, index, on) => {
      const next = this.unit(index, old, on);
      old.dispose();
      return next;
    };
    try {
      for (const index of this.order) {
        if (this.deletable(index)) {
          y = this.unit(index, x, false);
          for (let later = index + 1; later < this.units.length; later++) {
            y = replaced(y, later);
            await pause();
          }
          const { probabilities, logits, maps } = this.head(y);
          const values = await probabilities.data();
          this.tf.dispose([probabilities, logits, maps, y]);
          yield [index, values];
        }
        x = replaced(x, index);
      }
    } finally {
      this.tf.dispose([x, y]);
    }
  }

  dispose() {
    this.tf.dispose([...this.tensors.values()]);
    this.tensors.clear();
  }
}
