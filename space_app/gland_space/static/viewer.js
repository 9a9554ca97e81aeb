// The result view. The server sends a picture, each pixel's gland and confidence, and each gland's outline once per
// picture (`server.view`), and for every position of the sliders which glands are kept and which are unsure
// (`props.value`). Everything else, from hovering to sorting, happens here.
const find = (selector) => element.querySelector(selector);
const all = (selector) => [...element.querySelectorAll(selector)];
const body = find(".gl-body"), details = find(".gl-details"), empty = find(".gl-empty"), readout = find(".gl-readout");
const panels = all(".gl-panel"), stages = all(".gl-stage"), layers = all(".gl-layer"), crosses = all(".gl-cross");
const SVG = "http://www.w3.org/2000/svg";
const HINT = matchMedia("(pointer: coarse)").matches
  ? "Tap the pictures to read class and confidence; pinch or + and − zoom."
  : "Point at the pictures, or move over them with the arrow keys, to read class and confidence. "
    + "Ctrl + wheel, or + and −, zoom.";

let view = null, key = null, choice = null, ids = null, sure = null;  // ids, sure: per pixel
let selected = null, cursor = null;
let zoom = { scale: 1, x: 0, y: 0 };
let order = { column: "id", descending: false };

const percent = (share) => `${(100 * share).toFixed(0)} %`;
const number = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });

// ---------------------------------------------------------------------------------------------- loading and drawing

async function pixels(uri, width, height) {
  const blob = await (await fetch(uri)).blob();
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, width, height).data;
}

async function update() {
  const value = props.value;
  if (!value || !value.view) { show(null); return; }
  if (value.view !== key) {
    const wanted = value.view;
    const loaded = await server.view(wanted);
    if (!props.value || props.value.view !== wanted) return;  // another picture came meanwhile
    if (!loaded) { show(null); return; }
    let data = null;
    if (loaded.data) data = await pixels(loaded.data, loaded.width, loaded.height);
    show(loaded, wanted, data);
  }
  choice = props.value;
  if (!view) return;
  const fresh = view.data && body.dataset.seen !== key;
  body.dataset.seen = key;
  apply();
  // On a phone the pictures lie below the controls.
  const box = element.getBoundingClientRect();
  if (fresh && (box.top > 0.6 * window.innerHeight || box.top < -0.5 * box.height)) element.scrollIntoView({ block: "start" });
}

function show(loaded, wanted = null, data = null) {
  view = loaded; key = wanted; selected = null; cursor = null;
  body.hidden = !loaded; empty.hidden = Boolean(loaded); details.hidden = !data;
  if (!loaded) return;
  ids = sure = null;
  if (data) {
    ids = new Uint16Array(view.width * view.height); sure = new Uint8Array(ids.length);
    for (let i = 0; i < ids.length; i++) { ids[i] = data[4 * i] + 256 * data[4 * i + 1]; sure[i] = data[4 * i + 2]; }
  }
  body.dataset.state = data ? "result" : "picture";
  find(".gl-name").textContent = `${view.name} · ${number(view.full[0])} × ${number(view.full[1])} px`;
  find(".gl-image").src = view.image;
  for (const stage of stages) stage.style.setProperty("--ratio", view.width / view.height);
  drawOutlines();
  if (data) { drawLegend(); drawRamp(); }
  setZoom({ scale: 1, x: 0, y: 0 });
  mark(null);
}

function drawOutlines() {
  for (const svg of all(".gl-outlines")) {
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${view.width} ${view.height}`);
    for (const gland of view.glands) {
      const group = document.createElementNS(SVG, "g");
      group.dataset.gland = gland.id;
      group.style.setProperty("--colour", view.classes[gland.class].colour);
      for (const kind of ["gl-halo", "gl-line"]) {
        const path = document.createElementNS(SVG, "path");
        path.setAttribute("d", gland.outline);
        path.setAttribute("class", kind);
        group.append(path);
      }
      svg.append(group);
    }
  }
}

function drawLegend() {
  find(".gl-legend").replaceChildren(...view.classes.slice(1).map((item) => {
    const entry = document.createElement("span");
    entry.className = "gl-entry";
    entry.style.setProperty("--colour", item.colour);
    entry.append(Object.assign(document.createElement("i"), { className: "gl-swatch" }), item.name);
    return entry;
  }), Object.assign(document.createElement("span"), { className: "gl-entry gl-entry-unsure", innerHTML:
    '<i class="gl-swatch"></i>unsure (dashed)' }));
}

function drawRamp() {
  const bar = find(".gl-ramp-bar");
  bar.style.background = `linear-gradient(to right, ${view.ramp.filter((_, i) => i % 15 === 0).join(",")})`;
  find(".gl-ramp-ticks").replaceChildren(...[0, 0.25, 0.5, 0.75, 1].map((t) => Object.assign(
    document.createElement("span"), { textContent: percent(view.lowest + t * (1 - view.lowest)) })));
  find(".gl-ramp").setAttribute("aria-label",
    `Colour bar of the confidence: dark blue ${percent(view.lowest)} to yellow 100 %`);
}

// Confidence as colours; where it lies below the threshold, hatched.
function drawMap() {
  const canvas = find(".gl-map");
  Object.assign(canvas, { width: view.width, height: view.height });
  const picture = new ImageData(view.width, view.height);
  const ramp = view.ramp.map((colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)));
  const threshold = Math.round(255 * choice.threshold);
  const gap = Math.max(6, Math.round(view.width / 110));
  for (let i = 0; i < sure.length; i++) {
    const level = Math.max(0, Math.round(255 * (sure[i] / 255 - view.lowest) / (1 - view.lowest)));
    let [red, green, blue] = ramp[Math.min(level, 255)];
    if (sure[i] < threshold && ((i % view.width) + Math.floor(i / view.width)) % gap < gap / 4) {
      [red, green, blue] = [255, 255, 255];
    }
    picture.data.set([red, green, blue, 255], 4 * i);
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
  canvas.setAttribute("aria-label", `Confidence map of ${view.name}; hatched where below ${percent(choice.threshold)}`);
}

function apply() {
  const kept = new Set(choice.kept || []), unsure = new Set(choice.unsure || []);
  for (const group of all(".gl-outlines g")) {
    group.classList.toggle("gl-hidden", !kept.has(Number(group.dataset.gland)));
    group.classList.toggle("gl-unsure", unsure.has(Number(group.dataset.gland)));
  }
  find(".gl-summary").textContent = choice.summary || "";
  find(".gl-chart").innerHTML = choice.histogram || "";
  const alt = view.data ? `${view.name} with the outlines of ${kept.size} glands, ${unsure.size} of them unsure`
    : `${view.name}, not segmented yet`;
  find(".gl-image").alt = alt;
  stages[0].setAttribute("aria-label", `${alt}. Arrow keys move a cross that reads class and confidence; Enter selects.`);
  stages[1].setAttribute("aria-label", "Confidence of the same place. Arrow keys move the cross; Enter selects.");
  if (view.data) {
    drawMap();
    const share = (choice.threshold - view.lowest) / (1 - view.lowest);
    find(".gl-ramp-mark").style.left = `${100 * Math.min(Math.max(share, 0), 1)}%`;
  }
  if (selected !== null && !kept.has(selected)) selected = null;
  drawTable(kept, unsure);
  select(selected, false);
}

// ------------------------------------------------------------------------------------------------------------ table

const COLUMNS = [
  ["id", () => "No.", (g) => String(g.id)],
  ["class", () => "Class", (g) => view.classes[g.class].name],
  ["area", () => `Area (${view.unit}²)`, (g) => number(g.area)],
  ["perimeter", () => `Peri\u00admeter (${view.unit})`, (g) => number(g.perimeter)],
  ["eccentricity", () => "Eccen\u00adtricity", (g) => g.eccentricity.toFixed(2)],
  ["mean", () => "Mean conf.", (g) => percent(g.mean)],
  ["lowest", () => "Lowest conf.", (g) => percent(g.lowest)],
];
const REMARKS = { unsure: "Mean confidence below the threshold", cut: "Touches the border: its sizes are lower bounds" };

function drawTable(kept, unsure) {
  const head = document.createElement("tr");
  for (const [name, title] of COLUMNS) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.setAttribute("aria-sort", order.column !== name ? "none" : order.descending ? "descending" : "ascending");
    cell.append(Object.assign(document.createElement("button"), { type: "button", textContent: title() }));
    cell.firstChild.dataset.sort = name;
    head.append(cell);
  }
  head.append(Object.assign(document.createElement("th"), { scope: "col", className: "gl-remarks", textContent: "Remarks" }));
  const focused = document.activeElement && element.contains(document.activeElement)
    ? document.activeElement.dataset.sort : undefined;
  find(".gl-table thead").replaceChildren(head);
  if (focused) head.querySelector(`[data-sort="${focused}"]`)?.focus();
  const rows = view.glands.filter((g) => kept.has(g.id)).sort((a, b) =>
    (a[order.column] - b[order.column] || a.id - b.id) * (order.descending ? -1 : 1));
  find(".gl-table tbody").replaceChildren(...rows.map((gland) => {
    const row = document.createElement("tr");
    row.dataset.gland = gland.id;
    row.tabIndex = -1;
    row.classList.toggle("gl-unsure", unsure.has(gland.id));
    for (const [, , text] of COLUMNS) row.append(Object.assign(document.createElement("td"), { textContent: text(gland) }));
    const remarks = [unsure.has(gland.id) && "unsure", gland.border && "cut"].filter(Boolean);
    row.append(document.createElement("td"));
    row.lastChild.append(...remarks.map((remark) => Object.assign(document.createElement("span"),
      { className: "gl-badge", textContent: remark, title: REMARKS[remark] })));
    return row;
  }));
  const first = find(".gl-table tbody tr");
  if (first) first.tabIndex = 0;
}

function select(id, speak = true) {
  selected = id;
  for (const group of all(".gl-outlines g")) {
    const chosen = Number(group.dataset.gland) === id;
    group.classList.toggle("gl-selected", chosen);
    if (chosen) group.parentNode.append(group);  // drawn last, so above its neighbours
  }
  for (const row of all(".gl-table tbody tr")) {
    const chosen = Number(row.dataset.gland) === id;
    row.setAttribute("aria-selected", String(chosen));
    if (chosen) { for (const other of all(".gl-table tbody tr")) other.tabIndex = -1; row.tabIndex = 0; }
    if (chosen && speak) keepInSight(row);
  }
  if (speak) readout.textContent = id === null ? HINT : describe(view.glands.find((g) => g.id === id));
}

function keepInSight(row) {
  const box = find(".gl-scroll"), top = row.offsetTop - row.parentNode.previousElementSibling.offsetHeight;
  if (top < box.scrollTop) box.scrollTop = top;
  else if (row.offsetTop + row.offsetHeight > box.scrollTop + box.clientHeight) {
    box.scrollTop = row.offsetTop + row.offsetHeight - box.clientHeight;
  }
}

function describe(gland) {
  return `Gland ${gland.id}: ${view.classes[gland.class].name}, ${number(gland.area)} ${view.unit}², `
    + `mean confidence ${percent(gland.mean)}, lowest ${percent(gland.lowest)}`
    + ((choice.unsure || []).includes(gland.id) ? ", unsure" : "") + (gland.border ? ", cut by the border" : "");
}

find(".gl-table").addEventListener("click", (event) => {
  const sort = event.target.closest("[data-sort]"), row = event.target.closest("tbody tr");
  if (sort) {
    order = { column: sort.dataset.sort, descending: order.column === sort.dataset.sort && !order.descending };
    apply();
  } else if (row) {
    const id = Number(row.dataset.gland);
    select(selected === id ? null : id);
  }
});
find(".gl-table").addEventListener("keydown", (event) => {
  const row = event.target.closest("tbody tr");
  if (!row) return;
  const other = { ArrowDown: row.nextElementSibling, ArrowUp: row.previousElementSibling,
    Home: row.parentNode.firstElementChild, End: row.parentNode.lastElementChild }[event.key];
  if (other) { other.tabIndex = 0; row.tabIndex = -1; other.focus(); select(Number(other.dataset.gland)); }
  else if (event.key === "Enter" || event.key === " ") select(Number(row.dataset.gland));
  else if (event.key === "Escape") select(null);
  else return;
  event.preventDefault();
});

// --------------------------------------------------------------------------------------------- pointing and reading

function mark(place) {
  cursor = place;
  for (const cross of crosses) cross.hidden = !place;
  if (!place) { if (selected === null) readout.textContent = view && view.data ? HINT : ""; return; }
  placeCrosses();
  const x = Math.min(Math.max(Math.floor(place.x), 0), view.width - 1);
  const y = Math.min(Math.max(Math.floor(place.y), 0), view.height - 1);
  if (!ids) return;
  const id = ids[y * view.width + x], kept = (choice.kept || []).includes(id);
  const gland = kept ? view.glands.find((g) => g.id === id) : null;
  const name = gland ? view.classes[gland.class].name : view.classes[0].name;
  const across = view.full[0] / view.width;
  readout.textContent = `x ${Math.round((x + 0.5) * across)}, y ${Math.round((y + 0.5) * across)}: ${name}, confidence `
    + percent(sure[y * view.width + x] / 255) + (gland ? ` · gland ${gland.id}` : "");
}

function placeCrosses() {
  if (!cursor) return;
  crosses.forEach((cross, index) => {
    const box = stages[index].getBoundingClientRect();
    cross.style.left = `${(cursor.x / view.width * zoom.scale + zoom.x) * box.width}px`;
    cross.style.top = `${(cursor.y / view.height * zoom.scale + zoom.y) * box.height}px`;
  });
}

function locate(event) {
  const box = event.currentTarget.getBoundingClientRect();
  return { x: ((event.clientX - box.left) / box.width - zoom.x) / zoom.scale * view.width,
    y: ((event.clientY - box.top) / box.height - zoom.y) / zoom.scale * view.height };
}

function pick(place) {
  if (!ids) return;
  const id = ids[Math.floor(place.y) * view.width + Math.floor(place.x)];
  select((choice.kept || []).includes(id) && id !== selected ? id : null);
}

// --------------------------------------------------------------------------------------------------- zoom and moving

function setZoom(next) {
  const scale = Math.min(Math.max(next.scale, 1), 16);
  const bound = (value) => Math.min(Math.max(value, 1 - scale), 0);
  zoom = { scale, x: bound(next.x), y: bound(next.y) };
  for (const layer of layers) {
    layer.style.transform = `translate(${100 * zoom.x}%, ${100 * zoom.y}%) scale(${zoom.scale})`;
    layer.parentNode.classList.toggle("gl-zoomed", zoom.scale > 1);
  }
  find(".gl-zoom").textContent = `${Math.round(100 * zoom.scale)} %`;
  placeCrosses();
}

function zoomAt(factor, x = 0.5, y = 0.5) {
  const scale = Math.min(Math.max(zoom.scale * factor, 1), 16), ratio = scale / zoom.scale;
  setZoom({ scale, x: x - (x - zoom.x) * ratio, y: y - (y - zoom.y) * ratio });
}

for (const button of all("[data-zoom]")) button.addEventListener("click", () => {
  if (button.dataset.zoom === "reset") setZoom({ scale: 1, x: 0, y: 0 });
  else zoomAt(button.dataset.zoom === "in" ? 1.5 : 1 / 1.5);
});
find(".gl-show").addEventListener("change", (event) => element.querySelector(".gl-viewer")
  .classList.toggle("gl-bare", !event.target.checked));

for (const stage of stages) {
  const fingers = new Map();
  let moved = 0;
  stage.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    moved = 0;
  });
  stage.addEventListener("pointermove", (event) => {
    if (!view) return;
    const before = fingers.get(event.pointerId);
    if (!before) { mark(locate(event)); return; }
    const box = stage.getBoundingClientRect();
    const dx = event.clientX - before.x, dy = event.clientY - before.y;
    moved += Math.abs(dx) + Math.abs(dy);
    if (fingers.size === 2) {
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      const distance = (p) => Math.hypot(p.x - other.x, p.y - other.y) || 1;
      zoomAt(distance({ x: event.clientX, y: event.clientY }) / distance(before),
        (other.x - box.left) / box.width, (other.y - box.top) / box.height);
    } else if (zoom.scale > 1) {
      stage.setPointerCapture(event.pointerId);
      setZoom({ scale: zoom.scale, x: zoom.x + dx / box.width, y: zoom.y + dy / box.height });
    }
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  const release = (event) => fingers.delete(event.pointerId);
  stage.addEventListener("pointerup", release);
  stage.addEventListener("pointercancel", release);
  stage.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") { release(event); mark(null); } });
  stage.addEventListener("click", (event) => {
    if (!view || moved > 6) return;
    const place = locate(event);
    mark(place);
    if (ids) pick(place);
  });
  stage.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;  // plain scrolling belongs to the page
    event.preventDefault();
    const box = stage.getBoundingClientRect();
    zoomAt(Math.exp(-event.deltaY / 300), (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  }, { passive: false });
  stage.addEventListener("keydown", (event) => {
    if (!view) return;
    const step = Math.max(view.width, view.height) * (event.shiftKey ? 0.05 : 0.01) / zoom.scale;
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] || [0, 0];
    if (dx || dy) {
      const from = cursor || { x: view.width / 2, y: view.height / 2 };
      mark({ x: Math.min(Math.max(from.x + dx * step, 0), view.width - 1),
        y: Math.min(Math.max(from.y + dy * step, 0), view.height - 1) });
    } else if (event.key === "+" || event.key === "=") zoomAt(1.5);
    else if (event.key === "-") zoomAt(1 / 1.5);
    else if (event.key === "0") setZoom({ scale: 1, x: 0, y: 0 });
    else if (event.key === "Enter" && cursor) pick(cursor);
    else if (event.key === "Escape") { mark(null); select(null); }
    else return;
    event.preventDefault();
  });
}

new ResizeObserver(placeCrosses).observe(stages[0]);
watch("value", update);
update();
setInterval(() => { if (key) server.alive(key); }, 4 * 60 * 1000);  // the server forgets what nobody looks at
