// The page "The network in the browser". Everything is computed here; nothing is sent anywhere.
import { bigNumber, drawImage, drawMaps, errorsChart, make, pathsChart } from "./drawing.js";
import { Network, startRuntime } from "./engine.js";
import { fetched, pixelsOf, SIDE, takeImages } from "./images.js";
import { probabilityBars, score, shortName, thumbnails, unitRow } from "./parts.js";

const FILES = new URL("../../network/", import.meta.url).href;
const AUTOMATIC = 9; // units up to which each is deleted in turn without being asked
const CANCELLED = Symbol("a newer computation has started");
const root = document.getElementById("rn");
const state = { off: new Set(), order: [], mode: "delete", chosen: null, selected: 0, own: null, label: null, right: null, turn: 0, choice: 0 };
const opened = new Map(), studies = new Map();
let tf, index, images, samples, main, plain, places;

const start = async () => {
  if (location.protocol === "file:") throw new Error("Browsers load files like these from a server only: make docs-serve.");
  index = await (await fetched(`${FILES}networks.json`)).json();
  if (!index.runtime) throw new Error("This copy of the site was built without the network's runtime, which npm fetches.");
  if (!index.images.length) throw new Error("This copy of the site was built without sample images, which the package foolbox contains.");
  [tf] = await Promise.all([startRuntime(`${FILES}runtime/`), loadImages()]);
  samples = tf.tensor(Float32Array.from(images.flatMap(({ pixels }) => [...pixels])), [images.length, SIDE, SIDE, 3]);
  layOut();
  await choose(index.networks[0].name);
};

async function loadImages() {
  images = index.images.map(({ file, label }) => ({ address: FILES + file, label }));
  await Promise.all(images.map(async (image) => {
    image.pixels = await pixelsOf(await (await fetched(image.address)).blob());
  }));
}

/** A network and what the index says of it; loaded once. */
async function open(entry) {
  if (!opened.has(entry.name)) {
    const bytes = new Uint8Array(await (await fetched(FILES + entry.file)).arrayBuffer());
    const net = new Network(tf, bytes);
    const { stages, maps } = await net.run(tf.tidy(() => tf.slice(samples, 0, 1))); // the first run prepares kernels
    tf.dispose([...stages, maps]);
    opened.set(entry.name, { ...entry, net });
  }
  return opened.get(entry.name);
}

async function choose(name) {
  const entry = index.networks.find((one) => one.name === name);
  const choice = ++state.choice;
  say(`Loading ${entry.title}, ${(entry.bytes / 1e6).toFixed(1)} MB …`);
  const found = await open(entry), beside = entry.plain ? await open(index.plain) : null;
  if (choice !== state.choice) return;
  [main, plain] = [found, beside];
  Object.assign(state, { off: new Set(), order: main.net.order, chosen: null });
  renew(places.networks, ...networkButtons());
  places.plainOnly.forEach((element) => (element.hidden = !plain));
  networks().forEach(({ title, error }, i) => renew(places.headings[i], title, make("small", {}, ` ${error} % error on the 10,000 test images`)));
  root.classList.toggle("rn-large", main.net.units.length <= AUTOMATIC);
  await update();
  showStudies();
  if (main.net.units.length <= AUTOMATIC && !studies.has(main.name)) await deleteEach();
}

const networks = () => (plain ? [main, plain] : [main]);
const say = (text) => (places.status.textContent = text);

/** New content, with the focus on the button that has the same place. */
function renew(container, ...children) {
  const place = [...container.querySelectorAll("button")].indexOf(document.activeElement);
  container.replaceChildren(...children);
  if (place >= 0) container.querySelectorAll("button")[place]?.focus();
}

/** Lets the browser answer between units, and stops where `current` is no longer true. */
function breathing(current) {
  let last = performance.now();
  return async () => {
    if (performance.now() - last < 25) return;
    await new Promise((resolve) => setTimeout(resolve));
    last = performance.now();
    if (!current()) throw CANCELLED;
  };
}

/** Computes and shows everything that depends on the switches and the image. */
async function update() {
  const turn = ++state.turn, pause = breathing(() => turn === state.turn);
  showUnits();
  try {
    await showAnswers(turn);
    const right = [];
    for (const one of networks()) {
      const { probabilities, stages, maps } = await one.net.run(samples, { ...lesion(one), pause });
      tf.dispose([...stages, maps]);
      right.push(rightOnes(probabilities));
    }
    if (turn !== state.turn) return;
    right.forEach((one, number) => renew(places.scores[number], ...score(one)));
    state.right = right[0];
    showThumbnails();
    root.dataset.done = turn;
  } catch (error) {
    if (error !== CANCELLED) throw error;
  }
}

/** Deleted units and order for a network: a plain one keeps units that cannot be deleted. */
const lesion = ({ net }) => ({ order: state.order, off: new Set([...state.off].filter((unit) => net.deletable(unit))) });

const rightOnes = (probabilities) => images.map(({ label }, number) => {
  const row = [...probabilities.slice(10 * number, 10 * number + 10)];
  return row.indexOf(Math.max(...row)) === label;
});

async function showAnswers(turn) {
  const pixels = state.own ?? images[state.selected].pixels;
  const label = state.own ? null : images[state.selected].label;
  const x = tf.tensor(pixels, [1, SIDE, SIDE, 3]);
  for (const [number, one] of networks().entries()) {
    const begin = performance.now();
    const { probabilities, stages, maps } = await one.net.run(x, lesion(one));
    const took = performance.now() - begin;
    if (turn !== state.turn) {
      tf.dispose([...stages, maps, x]);
      throw CANCELLED;
    }
    const best = probabilities.indexOf(Math.max(...probabilities)), chosen = state.label ?? best;
    const click = number ? null : (c) => { state.label = c; update(); };
    renew(places.answers[number], probabilityBars(one.net.classNames, probabilities, label, number ? null : chosen, click));
    if (!number) {
      const cam = one.net.cam(maps, chosen);
      drawImage(places.image, pixels, null);
      drawImage(places.cam, pixels, await cam.data(), maps.shape[1]);
      places.camName.textContent = `Grad-CAM: what speaks for “${one.net.classNames[chosen]}”`;
      for (const [stage, values] of stages.entries()) {
        const [height, width, channels] = values.shape.slice(1);
        drawMaps(places.maps[stage], await values.data(), [height, width, channels]);
        places.mapNames[stage].textContent = `Stage ${stage + 1}: ${channels} feature maps of ${height} × ${width}`;
      }
      cam.dispose();
      root.dataset.milliseconds = took.toFixed(1);
      say(`${one.net.units.length} units, ${(one.bytes / 1e6).toFixed(1)} MB; this image took ${took.toFixed(0)} ms on this machine.`);
    }
    tf.dispose([...stages, maps]);
  }
  x.dispose();
}

function showThumbnails() {
  renew(places.thumbs, thumbnails(images, main.net.classNames, state.own ? null : state.selected, state.right, select));
}

function showUnits() {
  const { net } = main, count = net.units.length, on = count - state.off.size;
  networks().forEach((one, number) => renew(places.rows[number], unitRow(one.net, { ...state, ...lesion(one) }, number === 1, act)));
  const moved = state.order.some((unit, position) => unit !== position);
  const parts = [`${on} of ${count} units are on`, `${bigNumber(2 ** on)} of ${bigNumber(2 ** count)} paths are left`];
  if (moved) parts.push(`order: Kendall's tau ${kendallTau(state.order).toFixed(3)}`);
  places.summary.textContent = `${parts.join(" · ")}.`;
  renew(places.paths, pathsChart(count, on));
  const broken = plain && [...state.off].some((unit) => plain.net.deletable(unit));
  places.plainPath.textContent = broken ? "Without shortcuts there is one path, and it is broken." : "Without shortcuts there is one path, through every unit.";
}

function kendallTau(order) {
  let sum = 0;
  order.forEach((a, i) => order.slice(i + 1).forEach((b) => (sum += Math.sign(b - a))));
  return sum / ((order.length * (order.length - 1)) / 2);
}

/** A unit was clicked. */
function act(unit) {
  if (state.mode === "delete") {
    if (!state.off.delete(unit)) state.off.add(unit);
  } else if (state.chosen === null || main.net.units[state.chosen].stage !== main.net.units[unit].stage) {
    state.chosen = unit;
    showUnits();
    return;
  } else {
    swap(state.chosen, unit);
    state.chosen = null;
  }
  update();
}

function swap(a, b) {
  state.order = state.order.map((unit) => (unit === a ? b : unit === b ? a : unit));
}

const pick = (list) => list[Math.floor(Math.random() * list.length)];

const actions = {
  "Delete one at random"() {
    const on = main.net.order.filter((unit) => !state.off.has(unit) && (plain ?? main).net.deletable(unit));
    if (on.length) state.off.add(pick(on));
  },
  "Swap two at random"() {
    const { units } = main.net, movable = main.net.order.filter((unit) => !units[unit].changes_size);
    const pairs = movable.flatMap((a) => movable.filter((b) => a < b && units[a].stage === units[b].stage).map((b) => [a, b]));
    if (pairs.length) swap(...pick(pairs));
  },
  Reset() {
    Object.assign(state, { off: new Set(), order: main.net.order, chosen: null });
  },
};

function select(number) {
  Object.assign(state, { selected: number, own: null, label: null });
  showThumbnails();
  update();
}

async function takeOwn(file) {
  const pixels = await pixelsOf(file).catch(() => null);
  if (!pixels) return say(`${file.name} is not an image that this browser reads.`);
  Object.assign(state, { own: pixels, label: null });
  showThumbnails();
  return update();
}

/** Each unit deleted in turn: what `keras_resv2.analysis.delete_each` measures, on the sample images. */
async function deleteEach() {
  for (const one of networks()) {
    if (studies.has(one.name)) continue;
    const here = main, errors = one.net.units.map((_, unit) => (one.net.deletable(unit) ? undefined : null));
    try {
      const pause = breathing(() => main === here);
      const { probabilities, stages, maps } = await one.net.run(samples, { pause });
      tf.dispose([...stages, maps]);
      const study = { errors, intact: errorOf(probabilities) };
      for await (const [unit, found] of one.net.deletions(samples, pause)) {
        errors[unit] = errorOf(found);
        showStudies(new Map([[one.name, study]]));
      }
      studies.set(one.name, study);
    } catch (error) {
      if (error !== CANCELLED) throw error;
      return;
    }
  }
  showStudies();
}

const errorOf = (probabilities) => 100 * (1 - rightOnes(probabilities).filter(Boolean).length / images.length);

function showStudies(running = new Map()) {
  const found = (one) => studies.get(one.name) ?? running.get(one.name);
  const series = networks().filter(found).map((one) => ({
    ...found(one), title: one.title, colour: one === plain ? "rn-orange" : "rn-blue" }));
  const complete = networks().every((one) => studies.has(one.name));
  places.deleteEach.hidden = complete || running.size > 0;
  root.dataset.studied = complete ? main.name : "";
  const key = (one, text) => make("span", { class: one }, make("i", {}), text);
  renew(places.legend, ...series.map(({ colour, title }) => key(colour, title)), ...(series.length ? [key("rn-dashes", "nothing deleted")] : []));
  renew(places.study, series.length ? errorsChart(main.net.units.map(shortName), series) : "");
}

function networkButtons() {
  return index.networks.map(({ name, title, bytes }) => make("button", {
    type: "button", "aria-pressed": String(name === main?.name), onclick: () => choose(name).catch(({ message }) => say(message)), "data-network": name,
  }, title, make("small", {}, ` ${(bytes / 1e6).toFixed(1)} MB`)));
}

function modeButtons() {
  return [["delete", "Delete units"], ["swap", "Swap units"]].map(([mode, title]) => make("button", {
    type: "button", "aria-pressed": String(state.mode === mode),
    onclick: () => {
      Object.assign(state, { mode, chosen: null });
      renew(places.modes, ...modeButtons());
      showUnits();
      places.hint.textContent = mode === "swap" ? "Choose two units of one stage: they change places." : "Click a unit: only its shortcut is left.";
    },
  }, title));
}

/** The page's parts, once. */
function layOut() {
  const div = (name, ...children) => make("div", { class: name }, ...children);
  const canvas = (label) => make("canvas", { role: "img", "aria-label": label });
  const colours = ["rn-blue", "rn-orange"];
  places = {
    networks: make("div", { class: "rn-choice", role: "group", "aria-label": "Network" }),
    status: make("p", { class: "rn-status", role: "status" }), summary: make("p", { class: "rn-summary", "aria-live": "polite" }),
    modes: make("div", { class: "rn-choice", role: "group", "aria-label": "What a click on a unit does" }, ...modeButtons()),
    hint: make("span", { class: "rn-hint" }, "Click a unit: only its shortcut is left."),
    headings: colours.map((colour) => make("h3", { class: colour })),
    rows: [div("rn-row"), div("rn-row")], scores: [div("rn-result"), div("rn-result")], answers: [div(""), div("")],
    thumbs: div(""), image: canvas("The image"), cam: canvas("Grad-CAM"), camName: make("figcaption"),
    maps: [1, 2, 3].map((stage) => canvas(`Feature maps of stage ${stage}`)), mapNames: [1, 2, 3].map(() => make("figcaption")), paths: div(""), plainPath: make("p"), study: div("rn-study"), legend: make("p", { class: "rn-legend" }),
    deleteEach: make("button", { type: "button", class: "rn-button", onclick: deleteEach }, "Delete each unit in turn"),
  };
  const cards = [0, 1].map((i) => make("section", { class: `rn-card ${colours[i]}` }, places.headings[i], places.rows[i],
    div("rn-columns", places.scores[i], places.answers[i])));
  const upload = make("input", { type: "file", accept: "image/*", id: "rn-file", onchange: (event) => event.target.files[0] && takeOwn(event.target.files[0]) });
  const drop = div("rn-drop", make("label", { for: "rn-file" }, "Or your own image: choose, drop or paste one "), upload);
  const figure = (content, caption) => make("figure", {}, content, typeof caption === "string" ? make("figcaption", {}, caption) : caption);
  const studyTitle = make("h3", {}, "Error on the sample images without each unit"), pathsTitle = make("h3", {}, "Paths by length");
  places.plainOnly = [cards[1], places.plainPath];
  const random = Object.entries(actions).map(([title, action]) => make("button", {
    type: "button", class: "rn-button", onclick: () => { action(); update(); } }, title));
  root.replaceChildren(
    places.networks, places.status,
    div("rn-tools", places.modes, ...random), places.hint, ...cards, places.summary,
    make("section", { class: "rn-card" }, make("h3", {}, "Image"), places.thumbs, drop,
      div("rn-figures", figure(places.image, "32 × 32 pixels"), figure(places.cam, places.camName),
        ...places.maps.map((map, i) => figure(map, places.mapNames[i])))),
    div("rn-pair", make("section", { class: "rn-card" }, pathsTitle, places.paths, places.plainPath),
      make("section", { class: "rn-card" }, studyTitle, places.legend, places.deleteEach, places.study)),
  );
  takeImages(root, takeOwn);
}

start().catch((error) => {
  root.replaceChildren(make("p", { role: "alert", class: "rn-alert" }, error.message));
  console.error(error);
});
