// The result view. The server sends a picture, each pixel's gland and confidence, and each gland's outline once per
// picture (`server.view`), and for every position of the sliders which glands are kept and which are uncertain
// (`props.value`). Everything else, from hovering to sorting, happens here.
const body = find(".gl-body"), details = find(".gl-details"), empty = find(".gl-empty"), readout = find(".gl-readout");
const stages = all(".gl-stage"), crosses = all(".gl-cross");
const HINT = matchMedia("(pointer: coarse)").matches
  ? "Tap the pictures to read class and confidence; pinch or + and − zoom."
  : "Point at the pictures, or move over them with the arrow keys, to read class and confidence. "
    + "Ctrl + wheel, or + and −, zoom.";

let view = null, key = null, choice = null, ids = null, confidence = null;  // ids, confidence: per pixel
let numbers = new Map();  // of the glands that are kept, as in the downloads: 1, 2, …
let selected = null, cursor = null;
let order = { column: "id", descending: false };

const percent = (share) => `${(100 * share).toFixed(0)} %`;
const number = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });

// ---------------------------------------------------------------------------------------------- loading and drawing

async function update() {
  const value = props.value;
  if (!value || !value.view) { show(null); return; }
  if (value.view !== key) {
    const wanted = value.view;
    const loaded = await server.view(wanted);
    if (!props.value || props.value.view !== wanted) return;  // another picture came meanwhile
    if (!loaded) { show(null); return; }
    show(loaded, wanted, loaded.data ? (await pixels(await blobOf(loaded.data))).data : null);
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
  ids = confidence = null;
  if (data) {
    ids = new Uint16Array(view.width * view.height); confidence = new Uint8Array(ids.length);
    for (let i = 0; i < ids.length; i++) { ids[i] = data[4 * i] + 256 * data[4 * i + 1]; confidence[i] = data[4 * i + 2]; }
  }
  body.dataset.state = data ? "result" : "picture";
  find(".gl-name").textContent = `${view.name} · ${number(view.full[0])} × ${number(view.full[1])} px`;
  find(".gl-image").src = view.image;
  for (const stage of stages) stage.style.setProperty("--ratio", view.width / view.height);
  drawOutlines();
  if (data) { drawLegend(); drawRamp(); }
  pictures.fit();
  mark(null);
}

function drawOutlines() {
  for (const svg of all(".gl-outlines")) {
    svg.setAttribute("viewBox", `0 0 ${view.width} ${view.height}`);
    svg.replaceChildren(...view.glands.map((gland) => {
      const group = shape("g", { "data-gland": gland.id }, shape("path", { d: gland.outline, class: "gl-halo" }),
        shape("path", { d: gland.outline, class: "gl-line" }));
      group.style.setProperty("--colour", view.classes[gland.class].colour);
      return group;
    }));
  }
}

function drawLegend() {
  const entry = (text, kind = "") => make("span", { className: `gl-entry ${kind}` }, make("i", { className: "gl-swatch" }), text);
  find(".gl-legend").replaceChildren(...view.classes.slice(1).map((item) => {
    const line = entry(item.name);
    line.style.setProperty("--colour", item.colour);
    return line;
  }), entry("uncertain (dashed)", "gl-entry-uncertain"));
}

function drawRamp() {
  const bar = find(".gl-ramp-bar");
  bar.style.background = `linear-gradient(to right, ${view.ramp.filter((_, i) => i % 15 === 0).join(",")})`;
  find(".gl-ramp-ticks").replaceChildren(...[0, 0.25, 0.5, 0.75, 1].map((t) =>
    make("span", { textContent: percent(view.lowest + t * (1 - view.lowest)) })));
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
  for (let i = 0; i < confidence.length; i++) {
    const level = Math.max(0, Math.round(255 * (confidence[i] / 255 - view.lowest) / (1 - view.lowest)));
    let [red, green, blue] = ramp[Math.min(level, 255)];
    if (confidence[i] < threshold && ((i % view.width) + Math.floor(i / view.width)) % gap < gap / 4) {
      [red, green, blue] = [255, 255, 255];
    }
    picture.data.set([red, green, blue, 255], 4 * i);
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
  canvas.setAttribute("aria-label", `Confidence map of ${view.name}; hatched where below ${percent(choice.threshold)}`);
}

function apply() {
  numbers = new Map((choice.kept || []).map((id, index) => [id, index + 1]));
  const uncertain = new Set(choice.uncertain || []);
  for (const group of all(".gl-outlines g")) {
    group.classList.toggle("gl-hidden", !numbers.has(Number(group.dataset.gland)));
    group.classList.toggle("gl-uncertain", uncertain.has(Number(group.dataset.gland)));
  }
  find(".gl-summary").textContent = choice.summary || "";
  find(".gl-chart").innerHTML = choice.histogram || "";  // numbers alone, drawn by the server
  const alt = view.data ? `${view.name} with the outlines of ${numbers.size} glands, ${uncertain.size} of them uncertain`
    : `${view.name}, not segmented yet`;
  find(".gl-image").alt = alt;
  stages[0].setAttribute("aria-label", `${alt}. Arrow keys move a cross that reads class and confidence; Enter selects.`);
  stages[1].setAttribute("aria-label", "Confidence of the same place. Arrow keys move the cross; Enter selects.");
  if (view.data) {
    drawMap();
    const share = (choice.threshold - view.lowest) / (1 - view.lowest);
    find(".gl-ramp-mark").style.left = `${100 * Math.min(Math.max(share, 0), 1)}%`;
  }
  const gone = selected !== null && !numbers.has(selected);
  drawTable(uncertain);
  select(gone ? null : selected, gone);
}

// ------------------------------------------------------------------------------------------------------------ table

const COLUMNS = [
  ["id", () => "No.", (g) => String(numbers.get(g.id))],
  ["class", () => "Class", (g) => view.classes[g.class].name],
  ["area", () => `Area (${view.unit}²)`, (g) => number(g.area)],
  ["perimeter", () => `Peri\u00admeter (${view.unit})`, (g) => number(g.perimeter)],
  ["eccentricity", () => "Eccen\u00adtricity", (g) => g.eccentricity.toFixed(2)],
  ["mean", () => "Mean conf.", (g) => percent(g.mean)],
  ["unsure", () => "Pixels < 75 %", (g) => percent(g.unsure)],
];
const REMARKS = { uncertain: "Mean confidence below the threshold", cut: "Touches the border: its sizes are lower bounds" };

function drawTable(uncertain) {
  const head = make("tr");
  for (const [name, title] of COLUMNS) {
    const button = make("button", { type: "button", textContent: title() }), cell = make("th", { scope: "col" }, button);
    cell.setAttribute("aria-sort", order.column !== name ? "none" : order.descending ? "descending" : "ascending");
    button.dataset.sort = name;
    head.append(cell);
  }
  head.append(make("th", { scope: "col", className: "gl-remarks", textContent: "Remarks" }));
  const focused = document.activeElement && element.contains(document.activeElement)
    ? document.activeElement.dataset.sort : undefined;
  find(".gl-table thead").replaceChildren(head);
  if (focused) head.querySelector(`[data-sort="${focused}"]`)?.focus();
  const rows = view.glands.filter((g) => numbers.has(g.id)).sort((a, b) =>
    (a[order.column] - b[order.column] || a.id - b.id) * (order.descending ? -1 : 1));
  find(".gl-table tbody").replaceChildren(...rows.map((gland) => {
    const row = make("tr", { tabIndex: -1 }, ...COLUMNS.map(([, , text]) => make("td", { textContent: text(gland) })));
    row.dataset.gland = gland.id;
    row.classList.toggle("gl-uncertain", uncertain.has(gland.id));
    const remarks = [uncertain.has(gland.id) && "uncertain", gland.border && "cut"].filter(Boolean);
    row.append(make("td", {}, ...remarks.map((remark) =>
      make("span", { className: "gl-badge", textContent: remark, title: REMARKS[remark] }))));
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
  return `Gland ${numbers.get(gland.id)}: ${view.classes[gland.class].name}, ${number(gland.area)} ${view.unit}², `
    + `mean confidence ${percent(gland.mean)}, ${percent(gland.unsure)} of its pixels below 75 %`
    + ((choice.uncertain || []).includes(gland.id) ? ", uncertain" : "") + (gland.border ? ", cut by the border" : "");
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

const pixelAt = ([x, y]) => Math.min(Math.max(Math.floor(y), 0), view.height - 1) * view.width
  + Math.min(Math.max(Math.floor(x), 0), view.width - 1);

function mark(place) {
  cursor = place;
  for (const cross of crosses) cross.hidden = !place;
  if (!place) { if (selected === null) readout.textContent = view && view.data ? HINT : ""; return; }
  placeCrosses();
  if (!ids) return;
  const at = pixelAt(place), gland = numbers.has(ids[at]) ? view.glands.find((g) => g.id === ids[at]) : null;
  const name = gland ? view.classes[gland.class].name : view.classes[0].name;
  const [x, y] = [at % view.width, Math.floor(at / view.width)].map((i) => Math.round((i + 0.5) * view.full[0] / view.width));
  readout.textContent = `x ${x}, y ${y}: ${name}, confidence ${percent(confidence[at] / 255)}`
    + (gland ? ` · gland ${numbers.get(gland.id)}` : "");
}

function placeCrosses() {
  if (!cursor) return;
  crosses.forEach((cross, index) => {
    const [left, top] = pictures.onStage(cursor, stages[index]);
    cross.style.left = `${left}px`; cross.style.top = `${top}px`;
  });
}

function pick(place) {
  if (!ids) return;
  const id = ids[pixelAt(place)];
  select(numbers.has(id) && id !== selected ? id : null);
}

const pictures = makeStages(stages, {
  size: () => view && [view.width, view.height], hover: mark, zoomed: placeCrosses,
  tap: (place) => { mark(place); pick(place); },
  key: (event) => {
    const place = pictures.arrow(event, cursor);
    if (place) mark(place);
    else if (event.key === "Enter" && cursor) pick(cursor);
    else if (event.key === "Escape") { mark(null); select(null); }
    else return false;
    return true;
  },
});
find(".gl-show").addEventListener("change", (event) => find(".gl-viewer").classList.toggle("gl-bare", !event.target.checked));

new ResizeObserver(placeCrosses).observe(stages[0]);
watch("value", update);
update();
stayAlive(() => key);
