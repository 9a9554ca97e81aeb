// Glands on the stage: the confidence over the tissue, outlines and numbers, the table that goes with them, and what the
// visitor chooses of them: sliders, filters, selection, review. All of it happens here; the server is not asked.
let ids = null, confidence = null;  // per pixel: gland (0: none), and 0-255
let glands = new Map();  // by id: what the server sent, with its path and box
let choice = { uncertain_below: 0.9, min_area: 0, accepted: new Set(), rejected: new Set() };
let numbers = new Map();  // of the glands that are kept, as in the downloads: 1, 2, …
let rows = [];  // ids in the table, in its order
let selected = new Set(), hovered = 0, anchor = 0;
let order = { column: "id", descending: false }, filters = {};
let tint = null, bounding = 0;  // the confidence layer as a canvas; the frame in which a new bound is to show
let inside = null, outside = null;  // pixels of each confidence, 0-255, in glands and elsewhere
let mostArea = 1000;  // at the right end of the slider
const table = find(".gl-table"), HINT = TOUCH ? "Tap a gland or a row; pinch to zoom."
  : "Click a gland or a row; Ctrl or Shift adds more. Ctrl + wheel or + and − zoom, drag to move.";

const uncertain = (gland) => gland.mean < choice.uncertain_below;
const lighter = (colour) => `#${rgb(colour).map((value) => Math.round(value * 0.7 + 76).toString(16).padStart(2, "0")).join("")}`;  // seen on tissue
const plural = (count, what) => `${number(count)} ${what}${count === 1 ? "" : "s"}`;
const className = (gland) => view.classes[gland.class].name;
const area = (gland) => `${number(gland.area)} ${view.unit}²`;

async function readGlands(loaded) {
  ids = confidence = tint = null; glands = new Map(); selected = new Set(); hovered = 0; rows = []; numbers = new Map(); filters = {};
  if (!loaded.data) return;
  const { data } = await pixels(await blobOf(loaded.data)), count = grid.width * grid.height;
  ids = new Uint16Array(count); confidence = new Uint8Array(count); inside = new Array(256).fill(0); outside = new Array(256).fill(0);
  const boxes = loaded.glands.map(() => [Infinity, Infinity, -1, -1, 0, 0, 0]);  // and sums of x and y, and pixels
  for (let i = 0, x = 0, y = 0; i < count; i++, x++) {
    if (x === grid.width) { x = 0; y++; }
    const id = ids[i] = data[4 * i] + 256 * data[4 * i + 1], box = boxes[id - 1];
    confidence[i] = data[4 * i + 2];
    (id ? inside : outside)[confidence[i]]++;
    if (!box) continue;
    if (x < box[0]) box[0] = x;
    if (y < box[1]) box[1] = y;
    if (x >= box[2]) box[2] = x + 1;
    if (y >= box[3]) box[3] = y + 1;
    box[4] += x; box[5] += y; box[6]++;
  }
  mostArea = Math.max(1000, ...loaded.glands.map((gland) => gland.area));
  loaded.glands.forEach((gland, index) => {
    const box = boxes[index], pixels = box[6];
    if (!pixels) return;
    const path = new Path2D(), corners = [fromGrid(box.slice(0, 2)), fromGrid(box.slice(2, 4))];
    path.addPath(new Path2D(gland.outline), new DOMMatrix([grid.x, 0, 0, grid.y, grid.left, grid.top]));
    glands.set(gland.id, { ...gland, box: corners.flat(), path, middle: fromGrid(middleOf(gland.id, box, grid.width)) });
  });
}

// A place inside the gland near its centroid: a bent gland's centroid may lie outside of it.
function middleOf(id, box, width) {
  const x = Math.round(box[4] / box[6]), y = Math.round(box[5] / box[6]);
  for (let far = 0; far < box[2] - box[0]; far++) {
    for (const there of [x + far, x - far]) if (there >= box[0] && there < box[2] && ids[y * width + there] === id) return [there + 0.5, y + 0.5];
  }
  return [x + 0.5, y + 0.5];
}

// What is kept by the server's own rule, in the order of the ids.
function choose() {
  const least = view.unit === "µm" ? Math.round(choice.min_area / view.mpp ** 2) : choice.min_area;
  const large = [...glands.values()].filter((gland) => gland.pixels >= least);
  numbers = new Map(large.filter((gland) => !choice.rejected.has(gland.id)).map((gland, index) => [gland.id, index + 1]));
  const column = COLUMNS.find(([name]) => name === order.column);
  const value = (gland) => column[2](gland), sign = order.descending ? -1 : 1;
  rows = large.filter((gland) => COLUMNS.every(([name, , of, text]) => !filters[name] || filters[name](of(gland), text(gland))))
    .sort((a, b) => sign * (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : a.id - b.id)).map((gland) => gland.id);
  selected = new Set([...selected].filter((id) => large.includes(glands.get(id))));
  return large;
}

function applyChoice() {
  if (!ids) return;
  const large = choose(), kept = [...numbers.keys()].map((id) => glands.get(id));
  const share = kept.reduce((sum, gland) => sum + gland.pixels, 0) / (view.part[2] * view.part[3]), what = view.tile_px ? "part" : "picture";
  find(".gl-summary").textContent = glands.size === 0 ? `No gland found in this ${what}.` : [
    plural(kept.length, "gland"), `${(100 * Math.min(share, 1)).toFixed(1)} % of the ${what}`,
    `${kept.filter(uncertain).length} uncertain (mean confidence below ${percent(choice.uncertain_below)})`,
    choice.rejected.size && `${choice.rejected.size} rejected`, large.length < glands.size && `${plural(glands.size - large.length, "smaller gland")} left out`,
    rows.length < large.length && `${rows.length} shown by the filters`].filter(Boolean).join(" · ");
  stage.setAttribute("aria-label", `${view.name} with the outlines of ${plural(kept.length, "gland")}, ${kept.filter(uncertain).length} `
    + "of them uncertain. Arrow keys move a cross that reads class and confidence, Enter selects, N and P go from gland to gland.");
  drawTable();
  drawChart();
  mark(false);
}

// ------------------------------------------------------------------------------------------------------------- layers

const threshold = () => Math.max(choice.uncertain_below, view.lowest + 0.01);
function tinted() {
  const kind = find(".gl-layer").value, low = view.lowest, below = 255 * threshold();
  find(".gl-key").innerHTML = kind === "off" ? "" : kind === "low"
    ? `<i style="background: #d55e00"></i> confidence below ${percent(threshold())}`
    : `${percent(low)} <i class="gl-ramp" style="background: linear-gradient(to right, ${view.ramp.filter((_, i) => i % 15 === 0).map((c) => `rgb(${c})`)})"></i> 100 % confidence, hatched below ${percent(threshold())}`;
  if (kind === "off") return null;
  const gap = Math.max(6, Math.round(grid.width / 110)), colour = new Array(256);
  for (let i = 0; i < 256; i++) {
    colour[i] = kind === "map" ? word(view.ramp[clamp(Math.round(255 * (i / 255 - low) / (1 - low)), 0, 255)])
      : i < below ? word([213, 94, 0, 110 + 145 * clamp((below - i) / (below - 255 * low), 0, 1)]) : 0;
  }
  const hatched = (i) => kind === "map" && confidence[i] < below && (i % grid.width + Math.floor(i / grid.width)) % gap < gap / 4;
  return painted((i) => hatched(i) ? 0xffffffff : colour[confidence[i]], blank(grid.width, grid.height));
}

layers.push((context) => {
  if (!ids || !find(".gl-layer") || find(".gl-layer").value === "off") { find(".gl-key").textContent = ""; return; }
  tint ||= tinted();
  context.globalAlpha = find(".gl-opacity").value / 100;
  if (tint) context.drawImage(tint, grid.left, grid.top, grid.width * grid.x, grid.height * grid.y);
});

layers.push((context, unit) => {
  if (!ids || !find(".gl-outlines").checked) return;
  const shown = new Set(rows), numbered = mode === "segment" && find(".gl-numbers").checked;
  const list = [...glands.values()].filter((gland) => numbers.has(gland.id) || choice.rejected.has(gland.id));
  for (const gland of list.sort((a, b) => selected.has(a.id) - selected.has(b.id))) {
    const chosen = selected.has(gland.id), rejected = choice.rejected.has(gland.id);
    const colour = rejected ? "#888888" : uncertain(gland) ? "#e69f00" : lighter(view.classes[gland.class].colour);
    const small = Math.max(gland.box[2] - gland.box[0], gland.box[3] - gland.box[1]) < 14 * unit;
    context.globalAlpha = shown.has(gland.id) || chosen || mode === "annotate" ? 1 : 0.3;
    if (chosen || hovered === gland.id) {
      const [red, green, blue] = rgb(chosen ? "#f0e442" : colour);
      context.fillStyle = `rgba(${red}, ${green}, ${blue}, .28)`;
      context.fill(gland.path, "evenodd");
    }
    context.setLineDash(rejected ? [2 * unit, 4 * unit] : uncertain(gland) ? [6 * unit, 4 * unit] : []);
    for (const [style, width] of small && !chosen ? [[colour, 1]] : [["rgba(0, 0, 0, .55)", chosen ? 5 : 2.6], [chosen ? "#f0e442" : colour, chosen ? 2.6 : 1.4]]) {
      Object.assign(context, { strokeStyle: style, lineWidth: width * unit, lineJoin: "round" });
      context.stroke(gland.path);
    }
    if (numbered && numbers.has(gland.id) && (!small || chosen || hovered === gland.id)) {
      write(context, numbers.get(gland.id) + (choice.accepted.has(gland.id) ? " ✓" : ""), gland.middle, 13 * unit);
    }
  }
});

// -------------------------------------------------------------------------------------------------------------- table

const remarks = (gland) => [choice.accepted.has(gland.id) && "accepted", choice.rejected.has(gland.id) && "rejected",
  uncertain(gland) && "uncertain", gland.border && "cut"].filter(Boolean);
const MEANING = { uncertain: "Mean confidence below the threshold", cut: "Touches the border: its sizes are lower bounds",
  accepted: "Accepted in review", rejected: "Rejected in review: left out of the downloads" };
const COLUMNS = [  // name, title, value to sort and filter by, text
  ["id", () => "No.", (g) => g.id, (g) => String(numbers.get(g.id) || "–")],
  ["class", () => "Class", (g) => className(g), (g) => className(g)],
  ["area", () => `Area (${view.unit}²)`, (g) => g.area, (g) => number(g.area)],
  ["perimeter", () => `Peri\u00admeter (${view.unit})`, (g) => g.perimeter, (g) => number(g.perimeter)],
  ["eccentricity", () => "Eccen\u00adtricity", (g) => g.eccentricity, (g) => g.eccentricity.toFixed(2)],
  ["mean", () => "Mean confi\u00addence (%)", (g) => 100 * g.mean, (g) => (100 * g.mean).toFixed(0)],
  ["low", () => "Pixels below 75\u00a0% (%)", (g) => 100 * g.low, (g) => (100 * g.low).toFixed(0)],
  ["remarks", () => "Remarks", (g) => remarks(g).join(" "), (g) => remarks(g).join(" ")],
];

// "> 500", "< 0.3", "500-2000", a number (at least that), or a part of a text; null where nothing can be made of it.
function filterOf(text, numeric) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return undefined;
  if (!numeric) return (value, shown) => shown.toLowerCase().includes(wanted);
  const [, sign, low, high] = wanted.replace(/,(?=\d{3}\b)/g, "").match(/^([<>]=?|≥|≤|=)?\s*([\d.]+)(?:\s*[-–]\s*([\d.]+))?$/) || [];
  if (low === undefined) return null;
  if (high) return (value) => value >= +low && value <= +high;
  return { "<": (v) => v < +low, "<=": (v) => v <= +low, "≤": (v) => v <= +low, ">": (v) => v > +low,
    "=": (v, shown) => Number(shown.replace(/,/g, "")) === +low }[sign] || ((v) => v >= +low);
}

function drawHead() {
  const titles = make("tr", {}, make("th", { scope: "col" }, make("input", { type: "checkbox", className: "gl-all", ariaLabel: "Select all rows shown" })));
  const fields = make("tr", { className: "gl-filters" }, make("td"));
  for (const [name, title] of COLUMNS) {
    const button = make("button", { type: "button", textContent: title() }), text = ["class", "remarks"].includes(name);
    button.dataset.sort = name;
    titles.append(make("th", { scope: "col" }, button));
    const field = make("input", { type: "text", placeholder: text ? "filter" : "≥", ariaLabel: `Filter by ${title().replace(/\u00ad/g, "")}`,
      title: text ? "A part of the text" : "500 (at least), < 500, 500-2000" });
    field.dataset.filter = name;
    fields.append(make("td", {}, name === "id" ? "" : field));
  }
  table.tHead.replaceChildren(titles, fields);
}

function drawTable() {
  if (!table.tHead.rows.length || table.dataset.unit !== view.unit + key) { table.dataset.unit = view.unit + key; drawHead(); }
  for (const button of table.querySelectorAll("[data-sort]")) {
    button.parentNode.setAttribute("aria-sort", order.column !== button.dataset.sort ? "none" : order.descending ? "descending" : "ascending");
  }
  const focused = document.activeElement?.closest(".gl-table tbody tr")?.dataset.gland;
  table.tBodies[0].replaceChildren(...rows.map((id) => {
    const gland = glands.get(id), row = make("tr", { tabIndex: -1 },
      make("td", {}, make("input", { type: "checkbox", tabIndex: -1, ariaLabel: `Select gland ${numbers.get(id) || "(rejected)"}` })),
      ...COLUMNS.slice(0, -1).map(([, , , text]) => make("td", { textContent: text(gland) })),
      make("td", {}, ...remarks(gland).map((remark) => make("span", { className: "gl-badge", textContent: remark, title: MEANING[remark] }))));
    row.dataset.gland = id;
    row.classList.toggle("gl-rejected", choice.rejected.has(id));
    return row;
  }));
  const again = table.querySelector(`tbody tr[data-gland="${focused}"]`);
  (again || table.tBodies[0].rows[0] || {}).tabIndex = 0;
  if (again) again.focus();
}

// The share of pixels by confidence, inside glands and elsewhere.
function drawChart() {
  const BINS = 25, low = view.lowest, binOf = (value) => clamp(Math.floor(BINS * (value / 255 - low) / (1 - low)), 0, BINS - 1);
  const binned = (counts) => Array.from({ length: BINS }, (_, bin) => counts.reduce((sum, count, value) => sum + (binOf(value) === bin ? count : 0), 0));
  const within = binned(inside), beyond = binned(outside);
  const most = Math.max(...within.map((count, i) => count + beyond[i]), 1), high = (count) => 140 * count / most;
  const bar = (kind, i, count, base) => `<rect class="gl-${kind}" x="${44.5 + 14.6 * i}" y="${152 - base - high(count)}" width="13.6" height="${high(count)}"/>`;
  const x = 44 + 365 * clamp((choice.uncertain_below - low) / (1 - low), 0, 1);
  const below = inside.reduce((sum, count, value) => sum + (value < 255 * choice.uncertain_below ? count + outside[value] : 0), 0) / ids.length;
  const text = `Histogram of the confidence of all pixels: ${percent(below)} of them are below ${percent(choice.uncertain_below)}.`;
  find(".gl-chart").innerHTML = `<svg class="gl-histogram" viewBox="0 0 420 190" role="img" aria-label="${text}">`
    + within.map((count, i) => bar("inside", i, count, 0) + bar("outside", i, beyond[i], high(count))).join("")
    + `<path class="gl-axis" d="M44 12V152H410"/><path class="gl-threshold" d="M${x} 12V152"/>`
    + `<text x="38" y="21" text-anchor="end">${percent(most / ids.length)}</text><text x="38" y="152" text-anchor="end">0 %</text>`
    + [0, 0.2, 0.4, 0.6, 0.8, 1].map((t) => `<text x="${44 + 365 * t}" y="168" text-anchor="middle">${(100 * (low + t * (1 - low))).toFixed(0)}</text>`).join("")
    + '<text x="226" y="186" text-anchor="middle">confidence (%)</text></svg>';
}

// ------------------------------------------------------------------------------------------------------ selecting

// Show what is selected and hovered in picture, table and text; `speak`: say it, and bring its row into sight.
function mark(speak = true) {
  const chosen = [...selected].map((id) => glands.get(id)), total = chosen.reduce((sum, gland) => sum + gland.area, 0);
  for (const row of table.tBodies[0].rows) {
    const on = selected.has(Number(row.dataset.gland));
    row.setAttribute("aria-selected", String(on));
    row.querySelector("input").checked = on;
    row.classList.toggle("gl-hovered", Number(row.dataset.gland) === hovered);
    if (on && speak && chosen.length === 1) keepInSight(row);
  }
  const every = table.querySelector(".gl-all");
  if (every) Object.assign(every, { checked: rows.length > 0 && rows.every((id) => selected.has(id)), indeterminate: selected.size > 0 && !rows.every((id) => selected.has(id)) });
  const kept = [...numbers.keys()].reduce((sum, id) => sum + glands.get(id).area, 0);
  find(".gl-sum").textContent = chosen.length === 0 ? "None selected" : `${chosen.length} selected · ${number(total)} ${view?.unit}²`
    + (kept ? ` · ${percent(total / kept)} of the gland area` : "");
  for (const button of all("[data-review]")) button.disabled = !chosen.length;
  find(".gl-redraw").disabled = chosen.length !== 1;
  stage.dataset.selected = [...selected]; stage.dataset.hovered = hovered || "";
  if (speak) say();
  draw();
}

function keepInSight(row) {
  const box = find(".gl-scroll"), head = table.tHead.offsetHeight;
  if (row.offsetTop - head < box.scrollTop) box.scrollTop = row.offsetTop - head;
  else if (row.offsetTop + row.offsetHeight > box.scrollTop + box.clientHeight) box.scrollTop = row.offsetTop + row.offsetHeight - box.clientHeight;
}

// The one line below the picture: what the cross reads, else the selected gland, else what can be done.
function say() {
  if (mode !== "segment") return;
  if (cursor && ids) {
    const i = pixelAt(cursor), gland = numbers.has(ids[i]) && glands.get(ids[i]), share = view.full[0] / view.width;
    const where = `x ${Math.floor(cursor[0] * share)}, y ${Math.floor(cursor[1] * share)} px`;
    readout.textContent = !answered(cursor) ? `${where}: not segmented` : `${where}: ${gland ? className(gland) : view.classes[0].name}, `
      + `confidence ${percent(confidence[i] / 255)}${gland ? ` · gland ${numbers.get(gland.id)}: ${area(gland)}` : ""}`;
  } else if (selected.size === 1) {
    const gland = glands.get([...selected][0]);
    readout.textContent = `Gland ${numbers.get(gland.id) || "(rejected)"}: ${className(gland)}, ${area(gland)}, mean confidence ${percent(gland.mean)}, `
      + `${percent(gland.low)} of its pixels below 75 %${remarks(gland).map((remark) => `, ${remark}`).join("")}`;
  } else readout.textContent = ids ? HINT : "";
}

// Select a gland: alone, or beside others (`more`: "one" to add or take away, "range" from the last one in the table).
function select(id, more = "", fly = true) {
  if (more === "range" && anchor) {
    const [first, last] = [rows.indexOf(anchor), rows.indexOf(id)].sort((a, b) => a - b);
    for (const between of rows.slice(Math.max(first, 0), last + 1)) selected.add(between);
  } else if (more) { if (!selected.delete(id)) selected.add(id); }
  else selected = new Set(selected.size === 1 && selected.has(id) || !id ? [] : [id]);
  anchor = id;
  if (fly && selected.size === 1 && selected.has(id)) { cursor = null; flyTo(glands.get(id).box); }
  mark();
}
const extent = (event) => event.shiftKey ? "range" : event.ctrlKey || event.metaKey ? "one" : "";

function review(decision, chosen = selected) {
  const all = [...chosen].every((id) => choice[decision].has(id));  // again: take it back
  for (const id of chosen) {
    choice.accepted.delete(id); choice.rejected.delete(id);
    if (!all) choice[decision].add(id);
  }
  keepChoice();
  applyChoice();
}

// The bounds, each by a slider and a field that show the same. Areas span decades, so that slider is logarithmic: 0, then from
// LEAST_AREA to the largest gland's.
const [sure, sureField, least, leastField] = all(".gl-choices input"), LEAST_AREA = 10, LAST_STEP = Number(least.max) - 1;
const areaAt = (step) => step > 0 ? +(LEAST_AREA * (mostArea / LEAST_AREA) ** ((step - 1) / LAST_STEP)).toPrecision(2) : 0;
const stepOf = (value) => value < LEAST_AREA ? 0 : Math.round(1 + LAST_STEP * Math.log(value / LEAST_AREA) / Math.log(mostArea / LEAST_AREA));
function showBounds(typing = null) {
  const show = (input, value) => { if (input !== typing) input.value = value; };
  sure.min = sureField.min = Math.round(100 * view.lowest);
  for (const input of [sure, sureField]) show(input, Math.round(100 * choice.uncertain_below));
  show(least, stepOf(choice.min_area));
  show(leastField, choice.min_area);
  least.ariaValueText = `${number(choice.min_area)} ${view.unit}²`;
  find(".gl-area-unit").textContent = view.unit === "µm" ? "µm²" : "px² (no pixel size given)";
}
function bound(event) {
  const value = event.target.valueAsNumber;
  event.target.ariaInvalid = String(!(value >= 0));
  if (!ids || !(value >= 0)) return;
  if (event.target === sure || event.target === sureField) {
    choice.uncertain_below = clamp(value, sure.min, 100) / 100;
    tint = null;
  } else choice.min_area = event.target === least ? areaAt(value) : value;
  showBounds(event.type === "input" ? event.target : null);
  keepChoice();
  cancelAnimationFrame(bounding);  // a slider sends several values in a frame
  bounding = requestAnimationFrame(applyChoice);
}
// In the value, for the downloads and the Annotate tab.
function keepChoice() {
  props.value = { ...props.value, uncertain_below: choice.uncertain_below, min_area: choice.min_area,
    accepted: [...choice.accepted], rejected: [...choice.rejected] };
}
function handOver(edit = null) {
  if (!document.dispatchEvent(new CustomEvent("gl-leave", { cancelable: true, detail: view.name }))) return;  // the drawing there
  props.value = { ...props.value, edit };
  trigger("submit");
}
function redraw() {
  if (selected.size !== 1) return;
  const gland = glands.get([...selected][0]);
  if (!choice.accepted.has(gland.id)) review("accepted");
  const [x, y] = toGrid(gland.middle);
  handOver([x / grid.width, y / grid.height]);
}
// One further in the table.
function step(by) {
  const now = rows.indexOf([...selected].at(-1)), next = rows[(now + by + rows.length) % rows.length];
  if (next) { selected = new Set(); select(next); }
}
const REVIEW_KEYS = { a: () => review("accepted"), r: () => review("rejected"), d: redraw, n: () => step(1), p: () => step(-1) };

if (mode === "segment") {
  const glandAt = (place) => ids && answered(place) && numbers.has(ids[pixelAt(place)]) ? ids[pixelAt(place)] : 0;
  const hover = (place) => {
    const before = hovered;
    cursor = place && within(place) ? place : null;
    hovered = cursor ? glandAt(cursor) : 0;
    if (hovered !== before) mark(); else { say(); draw(); }
  };
  Object.assign(hand, { hover, tap: (place, event) => { hover(place); select(glandAt(place), glandAt(place) ? extent(event) : "", false); },
    press: (event) => {
      const place = arrow(event, cursor);
      if (place) hover(place);
      else if (event.key === "Enter" && cursor) select(glandAt(cursor), "", false);
      else if (event.key === "Escape") { cursor = null; selected = new Set(); hovered = 0; mark(); }
      else if (ids && REVIEW_KEYS[event.key]) REVIEW_KEYS[event.key]();
      else return false;
      return true;
    } });
  table.addEventListener("click", (event) => {
    const sort = event.target.closest("[data-sort]"), row = event.target.closest("tbody tr");
    if (sort) {
      order = { column: sort.dataset.sort, descending: order.column === sort.dataset.sort && !order.descending };
      applyChoice();
    } else if (event.target.matches(".gl-all")) { selected = new Set(event.target.checked ? rows : []); mark(); }
    else if (row && event.target.matches("input")) select(Number(row.dataset.gland), event.shiftKey ? "range" : "one", false);
    else if (row) select(Number(row.dataset.gland), extent(event));
  });
  table.addEventListener("mouseover", (event) => {
    const id = Number(event.target.closest("tbody tr")?.dataset.gland || 0);
    if (id !== hovered) { hovered = id; mark(false); }
  });
  table.addEventListener("mouseleave", () => { hovered = 0; mark(false); });
  table.addEventListener("input", (event) => {
    if (!event.target.dataset.filter) return;
    const name = event.target.dataset.filter, found = filterOf(event.target.value, !["class", "remarks"].includes(name));
    event.target.setAttribute("aria-invalid", String(found === null));
    filters[name] = found;
    applyChoice();
  });
  table.addEventListener("keydown", (event) => {
    const row = event.target.closest("tbody tr");
    if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
    const list = [...table.tBodies[0].rows], now = list.indexOf(row);
    const next = { ArrowDown: now + 1, ArrowUp: now - 1, Home: 0, End: list.length - 1 }[event.key];
    if (list[next]) { row.tabIndex = -1; Object.assign(list[next], { tabIndex: 0 }).focus(); selected = new Set(); select(Number(list[next].dataset.gland)); }
    else if (event.key === "Enter") select(Number(row.dataset.gland));
    else if (event.key === " ") select(Number(row.dataset.gland), "one", false);
    else if (event.key === "Escape") { selected = new Set(); mark(); fit(); }
    else if (REVIEW_KEYS[event.key]) REVIEW_KEYS[event.key]();
    else return;
    event.preventDefault();
  });
  for (const button of all("[data-review]")) button.addEventListener("click", () => review(button.dataset.review));
  find(".gl-redraw").addEventListener("click", redraw);
  find(".gl-hand-over").addEventListener("click", () => handOver());
  for (const kind of ["input", "change"]) find(".gl-choices").addEventListener(kind, bound);
}
for (const part of all(".gl-layers")) part.addEventListener("input", (event) => {
  if (event.target.matches(".gl-layer")) tint = null;
  find(".gl-opacity-shown").textContent = `${find(".gl-opacity").value} %`; draw();
});
