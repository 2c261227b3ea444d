// Reads an ONNX file: its operators, constants and metadata. Field numbers are those of onnx.proto (opset 17).
const FLOAT = 1, INT64 = 7, FLOAT16 = 10;

/** The fields of a protocol buffer, one after another, as [number, value]: numbers, or bytes. */
function* fields(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const varint = () => {
    let value = 0n, shift = 0n, byte;
    do {
      byte = bytes[at++];
      value |= BigInt(byte & 127) << shift;
      shift += 7n;
    } while (byte & 128);
    return Number(BigInt.asIntN(64, value));
  };
  while (at < bytes.length) {
    const key = varint(), type = key & 7;
    if (type === 0) yield [key >> 3, varint()];
    else if (type === 2) {
      const size = varint();
      yield [key >> 3, bytes.subarray(at, at += size)];
    } else if (type === 5) yield [key >> 3, view.getFloat32((at += 4) - 4, true)];
    else if (type === 1) yield [key >> 3, view.getFloat64((at += 8) - 8, true)];
    else throw new Error("The file is damaged, or is not an ONNX file.");
  }
}

const text = (bytes) => new TextDecoder().decode(bytes);

/** Whole numbers of a repeated field, which may be packed into bytes. */
function integers(value) {
  if (typeof value === "number") return [value];
  const found = [];
  for (let at = 0; at < value.length;) {
    let number = 0, shift = 1, byte;
    do {
      byte = value[at++];
      number += (byte & 127) * shift;
      shift *= 128;
    } while (byte & 128);
    found.push(number);
  }
  return found;
}

/** float32 values of float16 ones. */
export function fromHalf(halves) {
  return Float32Array.from(halves, (half) => {
    const sign = half & 0x8000 ? -1 : 1, exponent = (half >> 10) & 31, fraction = half & 1023;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : sign * 2 ** -14 * (fraction / 1024);
  });
}

function tensor(bytes) {
  let dims = [], type, raw, name;
  for (const [field, value] of fields(bytes)) {
    if (field === 1) dims = dims.concat(integers(value));
    else if (field === 2) type = value;
    else if (field === 8) name = text(value);
    else if (field === 9) raw = value.slice().buffer; // aligned
  }
  const values = {
    [FLOAT]: () => new Float32Array(raw),
    [FLOAT16]: () => fromHalf(new Uint16Array(raw)),
    [INT64]: () => Float32Array.from(new BigInt64Array(raw), Number),
  }[type];
  if (!values) throw new Error(`The constant ${name} has a type that this page does not read.`);
  return { name, dims, values: values() };
}

function attribute(bytes) {
  let name, value, list = [];
  for (const [field, content] of fields(bytes)) {
    if (field === 1) name = text(content);
    else if (field === 2 || field === 3) value = content;
    else if (field === 4) value = text(content);
    else if (field === 8) list = list.concat(integers(content));
  }
  return [name, value ?? list];
}

function node(bytes) {
  const found = { inputs: [], outputs: [], attributes: {} };
  for (const [field, value] of fields(bytes)) {
    if (field === 1) found.inputs.push(text(value));
    else if (field === 2) found.outputs.push(text(value));
    else if (field === 4) found.kind = text(value);
    else if (field === 5) {
      const [name, content] = attribute(value);
      found.attributes[name] = content;
    }
  }
  return found;
}

/** { nodes, constants, metadata } of the bytes of an ONNX file. */
export function parse(bytes) {
  const model = { nodes: [], constants: new Map(), metadata: {} };
  for (const [field, value] of fields(bytes)) {
    if (field === 7) {
      for (const [inner, content] of fields(value)) {
        if (inner === 1) model.nodes.push(node(content));
        else if (inner === 5) {
          const { name, dims, values } = tensor(content);
          model.constants.set(name, { dims, values });
        }
      }
    } else if (field === 14) {
      const [[, key], [, content]] = [...fields(value)];
      model.metadata[text(key)] = text(content);
    }
  }
  return model;
}
