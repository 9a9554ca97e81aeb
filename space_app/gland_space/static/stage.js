// The stage: one canvas with a picture and layers over it, and one way to zoom, pan and draw. Both tabs have one; the
// parts that follow (slide.js, glands.js, drawing.js) put layers on it, and loading.js fills it. Places are [x, y] in pixels of the
// picture as the server sent it, of which a file may have more (`view.full`). `element`, `props`, `server` and `trigger`
// are gradio's.
const find = (selector) => element.querySelector(selector);
const all = (selector) => [...element.querySelectorAll(selector)];
const mode = element.closest(".gl-annotate") ? "annotate" : "segment";
const stage = find(".gl-stage"), screen = find(".gl-canvas"), minimap = find(".gl-minimap"), readout = find(".gl-readout");
const TOUCH = matchMedia("(pointer: coarse)").matches, CALM = matchMedia("(prefers-reduced-motion: reduce)").matches;

let view = null, key = null, picture = null;  // what the server sent, under which key, and its decoded image
let grid = null;  // the pixels of the model's answer: width and height, its top left corner, and a pixel's size in places
let mpp = null;  // µm per pixel of the file
let at = { scale: 1, x: 0, y: 0 };  // pixels of the screen per pixel of the picture; its place at the stage's top left corner
let cursor = null;  // the place that the keyboard or the pointer reads
const layers = [];  // functions (context, unit), drawn in this order in places of the picture; unit: one pixel of the screen
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function make(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}
const blank = (width, height) => make("canvas", { width, height });
const rgb = (colour) => [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));
const percent = (share) => `${(100 * share).toFixed(0)} %`;
const number = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });

// A picture's values as they are in its file: RGBA bytes, width and height.
async function pixels(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const { width, height } = bitmap, context = blank(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return { width, height, data: context.getImageData(0, 0, width, height).data };
}
const blobOf = async (uri) => (await fetch(uri)).blob();
const word = ([red, green, blue, alpha = 255]) => ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
// A canvas (of the picture's size) whose pixels `colour(i)` gives as words, or 0.
function painted(colour, canvas = blank(view.width, view.height)) {
  const image = new ImageData(canvas.width, canvas.height), words = new Uint32Array(image.data.buffer);
  for (let i = 0; i < words.length; i++) words[i] = colour(i);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// ------------------------------------------------------------------------------------------------------ zoom and pan

const fileScale = () => at.scale * view.width / view.full[0];  // pixels of the screen per pixel of the file
const fitting = () => Math.min(stage.clientWidth / view.width, stage.clientHeight / view.height);
const bounded = (scale) => {  // from the whole picture or 1:1 to 16:1, or closer in a picture of few pixels
  const full = view.full[0] / view.width;
  return clamp(scale, Math.min(fitting(), full), Math.max(16 * full, 4 * fitting()));
};

function set(wanted, x, y) {
  const scale = bounded(wanted);
  const bound = (value, size, shown) => size <= shown ? (size - shown) / 2 : clamp(value, 0, size - shown);
  at = { scale, x: bound(x, view.width, stage.clientWidth / scale), y: bound(y, view.height, stage.clientHeight / scale) };
  stage.classList.toggle("gl-zoomed", scale > 1.001 * fitting());
  draw();
}
// Zoom about a point of the stage, in pixels of the screen; its middle if none is given.
function zoom(factor, left = stage.clientWidth / 2, top = stage.clientHeight / 2) {
  const next = bounded(at.scale * factor);
  set(next, at.x + left / at.scale - left / next, at.y + top / at.scale - top / next);
}
const fit = () => set(fitting(), 0, 0);
const centre = ([x, y], scale = at.scale) => set(scale, x - stage.clientWidth / scale / 2, y - stage.clientHeight / scale / 2);

// Move until `box` (left, top, right, bottom) lies in the middle and takes up about two fifths of the stage.
let flight = 0, flying = false;
function land() { cancelAnimationFrame(flight); flying = false; }
function flyTo([left, top, right, bottom]) {
  const closest = Math.max(fitting(), 4 * view.full[0] / view.width);
  const scale = Math.min(0.4 * Math.min(stage.clientWidth / (right - left), stage.clientHeight / (bottom - top)), closest);
  const from = { ...at }, begun = performance.now(), target = [(left + right) / 2, (top + bottom) / 2];
  const middle = [from.x + stage.clientWidth / from.scale / 2, from.y + stage.clientHeight / from.scale / 2];
  land();
  flying = true;
  const step = (now) => {
    const share = CALM ? 1 : clamp((now - begun) / 220, 0, 1), ease = share * (2 - share);
    flying = share < 1;
    centre(target.map((value, i) => middle[i] + (value - middle[i]) * ease), from.scale * (scale / from.scale) ** ease);
    if (flying) flight = requestAnimationFrame(step);
  };
  step(begun + (CALM ? 1000 : 0));
}

function locate(event) {
  const box = screen.getBoundingClientRect();
  return [at.x + (event.clientX - box.left) / at.scale, at.y + (event.clientY - box.top) / at.scale];
}
// The answer covers all of a picture, and a part of a slide.
function gridOf({ width, height, full, part, grid: [columns, rows] = [width, height] }) {
  const [left, top, wide, tall] = part.map((value, i) => value * (i % 2 ? height : width) / full[i % 2]);
  return { width: columns, height: rows, left, top, x: wide / columns, y: tall / rows };
}
const toGrid = ([x, y]) => [(x - grid.left) / grid.x, (y - grid.top) / grid.y];
const fromGrid = ([x, y]) => [grid.left + x * grid.x, grid.top + y * grid.y];
const pixelAt = (place) => {
  const [x, y] = toGrid(place).map(Math.floor);
  return clamp(y, 0, grid.height - 1) * grid.width + clamp(x, 0, grid.width - 1);
};
const answered = (place) => toGrid(place).every((value, i) => value >= 0 && value < [grid.width, grid.height][i]);
const within = ([x, y]) => x >= 0 && y >= 0 && x < view.width && y < view.height;

// The place that an arrow key leads to, kept in sight; null for another key.
function arrow(event, from) {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!step) return null;
  const size = [view.width, view.height], shown = [stage.clientWidth / at.scale, stage.clientHeight / at.scale];
  const start = from || [at.x + shown[0] / 2, at.y + shown[1] / 2], far = (event.shiftKey ? 40 : 8) / at.scale;
  const place = start.map((value, i) => clamp(value + step[i] * far, 0, size[i] - 0.01));
  const seen = place.every((value, i) => value >= [at.x, at.y][i] && value <= [at.x, at.y][i] + shown[i]);
  if (!seen) centre(place);
  return place;
}

// ------------------------------------------------------------------------------------------------------------ drawing

let asked = 0;
function draw() {
  stage.dataset.moving = "";  // for who looks from outside: what is in sight is about to change
  cancelAnimationFrame(asked);
  asked = requestAnimationFrame(() => { if (view && picture && stage.clientWidth) drawNow(); });
}

function drawNow() {
  const ratio = devicePixelRatio || 1, width = Math.round(stage.clientWidth * ratio), height = Math.round(stage.clientHeight * ratio);
  if (screen.width !== width || screen.height !== height) Object.assign(screen, { width, height });
  const context = screen.getContext("2d"), scale = at.scale * ratio, unit = 1 / at.scale;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, width, height);
  context.setTransform(scale, 0, 0, scale, -at.x * scale, -at.y * scale);
  context.imageSmoothingEnabled = fileScale() < 3;
  context.drawImage(picture, 0, 0, view.width, view.height);
  for (const layer of layers) { context.save(); layer(context, unit); context.restore(); }
  if (cursor) {
    for (const [colour, wide] of [["#000", 4], ["#fff", 2]]) ring(context, cursor, 7 * unit, colour, wide * unit);
  }
  drawScale();
  drawMinimap();
  find(".gl-zoom").textContent = percent(fileScale());
  const share = view.full[0] / view.width;  // for who looks from outside: what is in sight, in pixels of the file
  if (!flying) delete stage.dataset.moving;
  stage.dataset.sight = [at.x, at.y, at.x + stage.clientWidth * unit, at.y + stage.clientHeight * unit].map((v) => (v * share).toFixed(1));
}

function ring(context, [x, y], radius, colour, width) {
  Object.assign(context, { strokeStyle: colour, lineWidth: width });
  context.beginPath();
  context.arc(x, y, radius, 0, 7);
  context.stroke();
}
// White on black, readable on any tissue; `size` in the picture's pixels.
function write(context, text, [x, y], size) {
  Object.assign(context, { font: `600 ${size}px system-ui, sans-serif`, textAlign: "center", textBaseline: "middle",
    lineJoin: "round", lineWidth: size / 4, strokeStyle: "rgba(0, 0, 0, .8)", fillStyle: "#fff" });
  context.strokeText(text, x, y);
  context.fillText(text, x, y);
}

function drawScale() {
  const per = mpp ? fileScale() / mpp : fileScale(), most = 110 / per;  // pixels of the screen per unit; the longest bar
  const power = 10 ** Math.floor(Math.log10(most)), length = power * [5, 2, 1].find((n) => n * power <= most);
  find(".gl-scale-bar").style.width = `${length * per}px`;
  find(".gl-scale-text").textContent = mpp ? (length < 1000 ? `${+length.toPrecision(3)} µm` : `${length / 1000} mm`) : `${+length.toPrecision(3)} px`;
}

function drawMinimap() {
  const zoomed = stage.classList.contains("gl-zoomed");
  minimap.hidden = !zoomed;
  if (!zoomed) return;
  const small = Math.min(120, stage.clientWidth / 5) / Math.max(view.width, 1.3 * view.height), context = minimap.getContext("2d");
  Object.assign(minimap, { width: Math.max(view.width * small, 1), height: Math.max(view.height * small, 1) });
  context.drawImage(picture, 0, 0, minimap.width, minimap.height);
  Object.assign(context, { strokeStyle: "#f0e442", lineWidth: 2 });
  context.strokeRect(at.x * small, at.y * small, stage.clientWidth / at.scale * small, stage.clientHeight / at.scale * small);
}

// -------------------------------------------------------------------------------------------------------------- events

// What a part does with the pointer and the keys, for places on the picture. grab(place, event): true where a part wants
// what follows, which then comes to drag(places), drop() or, where a second finger begins to zoom, to abandon().
const hand = { grab: () => false, drag() {}, drop() {}, abandon() {}, hover() {}, tap() {}, press: () => false };

// What somebody does next takes the place of a move that is still under way.
for (const kind of ["pointerdown", "keydown"]) element.addEventListener(kind, land, true);

const fingers = new Map();
let travelled = 0, holding = null;
stage.addEventListener("pointerdown", (event) => {
  if (!view || event.target !== screen) return;
  fingers.set(event.pointerId, event);
  travelled = 0;
  if (holding !== null) { hand.abandon(); holding = null; }
  else if (fingers.size === 1 && event.button === 0 && hand.grab(locate(event), event)) {
    holding = event.pointerId;
    stage.setPointerCapture(holding);
    event.preventDefault();
    stage.focus({ preventScroll: true });
  }
});
stage.addEventListener("pointermove", (event) => {
  if (!view) return;
  const before = fingers.get(event.pointerId);
  if (event.pointerId === holding) {
    const moves = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    hand.drag((moves.length ? moves : [event]).map(locate));
    return;
  }
  if (!before) { if (event.target === screen) hand.hover(locate(event)); return; }
  const box = screen.getBoundingClientRect(), dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
  travelled += Math.abs(dx) + Math.abs(dy);
  if (fingers.size === 2) {
    const other = [...fingers.values()].find((one) => one.pointerId !== event.pointerId);
    const distance = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
    zoom(distance(event) / distance(before), other.clientX - box.left, other.clientY - box.top);
  } else if (stage.classList.contains("gl-zoomed")) {
    if (travelled > 6) stage.setPointerCapture(event.pointerId);
    set(at.scale, at.x - dx / at.scale, at.y - dy / at.scale);
  }
  fingers.set(event.pointerId, event);
});
for (const kind of ["pointerup", "pointercancel", "pointerleave"]) stage.addEventListener(kind, (event) => {
  if (kind === "pointerleave" && event.pointerType !== "mouse") return;
  fingers.delete(event.pointerId);
  if (kind === "pointerleave") hand.hover(null);
  if (event.pointerId !== holding) return;
  holding = null;
  if (kind === "pointerup") hand.drop(); else hand.abandon();
});
stage.addEventListener("click", (event) => {
  if (view && event.target === screen && travelled <= 6) hand.tap(locate(event), event);
});
stage.addEventListener("wheel", (event) => {
  // Plain scrolling belongs to the page until the stage has been clicked on.
  if (!view || !(event.ctrlKey || event.metaKey || document.activeElement === stage)) return;
  event.preventDefault();
  land();
  const box = screen.getBoundingClientRect();
  zoom(Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });
stage.addEventListener("keydown", (event) => {
  if (!view || event.target !== stage || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "+" || event.key === "=") zoom(1.5);
  else if (event.key === "-") zoom(1 / 1.5);
  else if (event.key === "0") fit();
  else if (event.key === "f") zoom(1 / fileScale());
  else if (!hand.press(event)) return;
  event.preventDefault();
});
for (const button of all("[data-zoom]")) button.addEventListener("click", () => {
  if (!view) return;
  const kind = button.dataset.zoom;
  if (kind === "fit") fit(); else zoom(kind === "full" ? 1 / fileScale() : kind === "in" ? 1.5 : 1 / 1.5);
});
for (const kind of ["pointerdown", "pointermove"]) minimap.addEventListener(kind, (event) => {
  if (!(event.buttons & 1)) return;
  const box = minimap.getBoundingClientRect();
  centre([(event.clientX - box.left) / box.width * view.width, (event.clientY - box.top) / box.height * view.height]);
});
let shownSize = 0;  // a stage of another size shows the same place; one that was hidden or unused begins with the whole picture
new ResizeObserver(() => {
  if (!view || !stage.clientWidth) return;
  if (!shownSize || !stage.classList.contains("gl-zoomed")) fit(); else set(at.scale, at.x, at.y);
  shownSize = stage.clientWidth;
}).observe(stage);
