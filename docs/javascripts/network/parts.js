// Parts of the page: the row of units, the sample images, the answers of a network.
import { make } from "./drawing.js";

/** Buttons of which one takes the Tab key; arrow keys go from one to the next. */
export function roving(container, buttons) {
  const enter = (button) => {
    buttons.forEach((other) => (other.tabIndex = other === button ? 0 : -1));
  };
  enter(buttons.find((button) => button.getAttribute("aria-checked") === "true" && button.role === "radio") ?? buttons[0]);
  container.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const enabled = buttons.filter((button) => !button.disabled);
    const place = enabled.indexOf(document.activeElement);
    if (!step || place < 0) return;
    event.preventDefault();
    const next = enabled[(place + step + enabled.length) % enabled.length];
    enter(next);
    next.focus();
    if (next.role === "radio") next.click();
  };
  buttons.forEach((button) => button.addEventListener("focus", () => enter(button)));
}

export const shortName = ({ name }) => name.replace("stage", "").replace("_unit", ".");
const longName = ({ name }) => name.replace("stage", "stage ").replace("_unit", ", unit ");

/**
 * The units as buttons, stage by stage, in the order in which they are run.
 * @param network with `units` and `deletable`.
 * @param state { off, order, mode, chosen }.
 * @param plain whether there are no shortcuts.
 * @param act function (index) for a unit that is clicked.
 */
export function unitRow(network, { off, order, mode, chosen }, plain, act) {
  const row = make("div", { class: `rn-units ${plain ? "rn-plain" : ""}`, role: "group" });
  const buttons = [];
  row.append(make("span", { class: "rn-end" }, "image"));
  const stages = [...new Set(network.units.map(({ stage }) => stage))];
  for (const stage of stages) {
    const group = make("span", { class: "rn-stage", role: "group", "aria-label": `Stage ${stage}` });
    group.append(make("span", { class: "rn-stage-name", "aria-hidden": true }, `stage ${stage}`));
    order.forEach((index, position) => {
      const unit = network.units[index];
      if (unit.stage !== stage) return;
      const swaps = mode === "swap", on = !off.has(index);
      const stuck = swaps ? unit.changes_size : !network.deletable(index);
      const why = swaps ? "changes the size of the feature maps: cannot be swapped" : "changes the size: nothing can take its place";
      const button = make("button", {
        type: "button", class: `rn-unit ${index === position ? "" : "rn-moved"} ${chosen === index ? "rn-chosen" : ""}`,
        role: swaps ? null : "switch", "aria-checked": swaps ? null : String(on),
        "aria-pressed": swaps ? String(chosen === index) : null, disabled: stuck, "data-unit": unit.name,
        "aria-label": `${longName(unit)}${swaps && !on ? ", deleted" : ""}${stuck ? `: ${why}` : ""}`,
        title: `${longName(unit)}${stuck ? `: ${why}` : on ? "" : ": deleted"}`, onclick: () => act(index),
      }, make("span", {}, shortName(unit)));
      button.dataset.on = on;
      buttons.push(button);
      group.append(button);
    });
    row.append(group);
  }
  row.append(make("span", { class: "rn-end" }, "classes"));
  roving(row, buttons);
  return row;
}

/** The sample images as radio buttons, with a mark for right or wrong once that is known. */
export function thumbnails(images, classNames, selected, right, act) {
  const row = make("div", { class: "rn-thumbs", role: "radiogroup", "aria-label": "Sample images" });
  const buttons = images.map(({ address, label }, number) => {
    const known = right?.[number];
    const verdict = known === undefined ? "" : known ? ": right" : ": wrong";
    return make("button", {
      type: "button", role: "radio", "aria-checked": String(number === selected), onclick: () => act(number),
      "aria-label": `${classNames[label]}, image ${number + 1}${verdict}`, title: `${classNames[label]}${verdict}`,
      class: known === undefined ? "" : known ? "rn-right" : "rn-wrong",
    }, make("img", { src: address, alt: "", width: 32, height: 32 }), make("span", { "aria-hidden": true }, known === false ? "✕" : ""));
  });
  row.append(...buttons);
  roving(row, buttons);
  return row;
}

/** Probabilities as bars, largest first; a click chooses the class whose Grad-CAM is shown. */
export function probabilityBars(classNames, probabilities, label, chosen, act) {
  const order = classNames.map((_, c) => c).sort((a, b) => probabilities[b] - probabilities[a]);
  const list = make("ol", { class: "rn-bars" });
  order.slice(0, 5).forEach((c) => {
    const percent = 100 * probabilities[c];
    const bar = make("span", { class: "rn-bar" }, make("i", { style: `width: ${percent}%` }));
    const name = `${classNames[c]}${c === label ? " ✓" : ""}`;
    const value = make("span", { class: "rn-value" }, `${percent.toFixed(percent < 9.95 ? 1 : 0)} %`);
    const attributes = act && { type: "button", "aria-pressed": String(c === chosen), onclick: () => act(c), title: `Grad-CAM for ${classNames[c]}` };
    list.append(make("li", {}, make(act ? "button" : "div", attributes ?? {}, make("span", { class: "rn-class" }, name), bar, value)));
  });
  return list;
}

/** Number of sample images that a network classifies correctly, as a number and as a strip of squares. */
export function score(right) {
  const count = right.filter(Boolean).length;
  const strip = make("span", { class: "rn-strip", "aria-hidden": true });
  right.forEach((one) => strip.append(make("i", { class: one ? "rn-yes" : "rn-no" })));
  return [make("p", { class: "rn-score" }, make("b", {}, String(count)), ` of ${right.length} sample images right`), strip];
}
