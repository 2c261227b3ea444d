// Images as pixels: of this site, or the visitor's own, which stay on the visitor's machine.
export const SIDE = 32;

/** RGB values from 0 to 255 of an image, cut to its middle square, 32 x 32. */
export async function pixelsOf(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const side = Math.min(bitmap.width, bitmap.height), canvas = new OffscreenCanvas(SIDE, SIDE);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff"; // behind transparent parts
  context.fillRect(0, 0, SIDE, SIDE);
  context.imageSmoothingQuality = "high";
  const left = (bitmap.width - side) / 2, top = (bitmap.height - side) / 2;
  context.drawImage(bitmap, left, top, side, side, 0, 0, SIDE, SIDE);
  const rgba = context.getImageData(0, 0, SIDE, SIDE).data;
  return Float32Array.from({ length: 3 * SIDE * SIDE }, (_, i) => rgba[4 * Math.floor(i / 3) + (i % 3)]);
}

export async function fetched(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address} did not load (${answer.status})`);
  return answer;
}

/** Calls `act` with an image that is dropped on the element or pasted into the page. */
export function takeImages(element, act) {
  // Without an image the first file, whose name the message then has.
  const first = (list) => [...(list ?? [])].find((file) => file.type.startsWith("image/")) ?? list?.[0];
  element.addEventListener("dragover", (event) => {
    event.preventDefault();
    element.classList.add("rn-over");
  });
  element.addEventListener("dragleave", () => element.classList.remove("rn-over"));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    element.classList.remove("rn-over");
    const file = first(event.dataTransfer.files);
    if (file) act(file);
  });
  document.addEventListener("paste", (event) => {
    const file = first(event.clipboardData?.files);
    if (file) act(file);
  });
}
