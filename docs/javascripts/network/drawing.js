// Figures: feature maps and Grad-CAM on canvases, bars as SVG.

/** Makes an element: attributes by name, children as nodes or text. */
export function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "rect", "line", "text", "path", "circle", "title"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Cividis (Nuñez, Anderton, Renslow 2018): readable with any color vision, lighter where larger.
const CIVIDIS = ["00224e", "123570", "3b496c", "575d6d", "707173", "8a8678", "a59c74", "c3b369", "e1cc55", "fee838"].map(
  (hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));

function colour(share) {
  const place = Math.min(Math.max(share, 0), 1) * (CIVIDIS.length - 1);
  const low = Math.min(Math.floor(place), CIVIDIS.length - 2);
  return CIVIDIS[low].map((value, c) => value + (CIVIDIS[low + 1][c] - value) * (place - low));
}

/** Feature maps side by side, each from its own minimum (dark) to its own maximum (light). */
export function drawMaps(canvas, values, [height, width, channels]) {
  const columns = Math.ceil(Math.sqrt(channels)), rows = Math.ceil(channels / columns);
  canvas.width = columns * (width + 1) - 1;
  canvas.height = rows * (height + 1) - 1;
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  for (let c = 0; c < channels; c++) {
    let low = Infinity, high = -Infinity;
    for (let i = c; i < values.length; i += channels) {
      low = Math.min(low, values[i]);
      high = Math.max(high, values[i]);
    }
    const left = (c % columns) * (width + 1), top = Math.floor(c / columns) * (height + 1);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const value = values[(y * width + x) * channels + c];
        const rgb = colour(high > low ? (value - low) / (high - low) : 0);
        image.data.set([...rgb, 255], ((top + y) * canvas.width + left + x) * 4);
      }
    }
  }
  context.putImageData(image, 0, 0);
}

/** The image, dark where nothing speaks for the class: `cam` is size x size, or null for the image alone. */
export function drawImage(canvas, pixels, cam, size) {
  canvas.width = canvas.height = 256;
  const context = canvas.getContext("2d");
  const small = new OffscreenCanvas(32, 32), image = new ImageData(32, 32);
  for (let i = 0; i < 1024; i++) image.data.set([pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2], 255], 4 * i);
  small.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, 256, 256);
  if (!cam) return;
  const highest = Math.max(...cam), shade = new ImageData(size, size);
  cam.forEach((value, i) => shade.data.set([0, 0, 0, 205 * (1 - (highest > 0 ? value / highest : 0))], 4 * i));
  const mask = new OffscreenCanvas(size, size);
  mask.getContext("2d").putImageData(shade, 0, 0);
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(mask, 0, 0, 256, 256);
}

/** Binomial coefficients n over 0 to n. */
export function pathsByLength(units) {
  const counts = [1];
  for (let k = 0; k < units; k++) counts.push((counts[k] * (units - k)) / (k + 1));
  return counts.map(Math.round);
}

export function bigNumber(value) {
  if (value < 1e6) return value.toLocaleString("en");
  const exponent = Math.floor(Math.log10(value));
  const digits = [...String(exponent)].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("");
  return `${(value / 10 ** exponent).toFixed(1)} × 10${digits}`;
}

const WIDTH = 480, HEIGHT = 210, LEFT = 62, BOTTOM = 42, TOP = 12;

function axes(title, across, up, ticks, numbers) {
  const bottom = HEIGHT - BOTTOM;
  const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title, class: "rn-chart" });
  for (const [share, label] of ticks) {
    const y = bottom - share * (bottom - TOP);
    svg.append(
      make("line", { x1: LEFT, x2: WIDTH, y1: y, y2: y, class: "rn-grid" }),
      make("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, label));
  }
  for (const [x, label] of numbers) svg.append(make("text", { x, y: bottom + 15, "text-anchor": "middle" }, label));
  svg.append(
    make("text", { x: (LEFT + WIDTH) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, across),
    make("text", { x: 12, y: (TOP + bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(TOP + bottom) / 2})` }, up));
  return svg;
}

/** Paths of each length: those of the whole network as outlines, those that are left filled. */
export function pathsChart(units, on) {
  const all = pathsByLength(units), left = pathsByLength(on), highest = Math.max(...all);
  const step = (WIDTH - LEFT) / all.length, bottom = HEIGHT - BOTTOM, every = Math.ceil(all.length / 10);
  const middle = (k) => LEFT + (k + 0.5) * step;
  const label = `Paths by length: ${bigNumber(2 ** on)} of ${bigNumber(2 ** units)} are left`;
  const svg = axes(label, "length of a path (branches on it)", "paths", [[0, "0"], [0.5, bigNumber(highest / 2)], [1, bigNumber(highest)]],
    all.map((_, k) => [middle(k), k]).filter(([, k]) => k % every === 0));
  const bar = (k, count, className) => make("rect", {
    x: middle(k) - step * 0.4, width: step * 0.8, y: bottom - (count / highest) * (bottom - TOP),
    height: (count / highest) * (bottom - TOP), class: className,
  }, make("title", {}, `${bigNumber(count)} paths of length ${k}`));
  all.forEach((count, k) => svg.append(bar(k, count, "rn-outline")));
  left.forEach((count, k) => svg.append(bar(k, count, "rn-fill rn-blue")));
  return svg;
}

/** Error without each unit: a bar per network and unit; null where a unit cannot be deleted. */
export function errorsChart(names, series) {
  const step = (WIDTH - LEFT) / names.length, bottom = HEIGHT - BOTTOM, every = Math.ceil(names.length / 9);
  const svg = axes("Error on the sample images without each unit", "deleted unit (stage.unit)", "error (%)",
    [0, 50, 100].map((percent) => [percent / 100, percent]),
    names.map((name, i) => [LEFT + (i + 0.5) * step, name]).filter((_, i) => i % every === 0));
  const width = (step * 0.8) / series.length;
  series.forEach(({ errors, intact, colour: className, title }, number) => {
    errors.forEach((error, i) => {
      const x = LEFT + (i + 0.1) * step + number * width;
      if (error === null) {
        svg.append(make("text", { x: x + width / 2, y: bottom - 4, "text-anchor": "middle", class: "rn-none" }, "–"));
      } else if (error !== undefined) {
        const height = Math.max((error / 100) * (bottom - TOP), 1.5);
        svg.append(make("rect", { x, y: bottom - height, width, height, class: `rn-fill ${className}` },
          make("title", {}, `${title} without ${names[i]}: ${error} %`)));
      }
    });
    const y = bottom - (intact / 100) * (bottom - TOP);
    svg.append(make("line", { x1: LEFT, x2: WIDTH, y1: y, y2: y, class: `rn-intact ${className}` }));
  });
  return svg;
}
