// Drawing sparse labels on the stage. The labels are one byte per pixel of the picture, 255 where nothing is labelled, so
// what is downloaded is exactly what is drawn. After every stroke they go to the server as a PNG in `props.value.labels`,
// and to the browser's own storage, from where they come back with the picture.
const UNLABELLED = 255, UNDO_STEPS = 20, SHELF = "gl-drawing/", LAST = "gl-last", MOST_DRAWINGS = 30;
const TOOLS = { o: "outline", b: "brush", e: "erase", p: "points", t: "take", m: "move" };
const HINTS = {
  outline: "Outline: draw around a gland, it is filled when you let go. Keys: 1, 2, … label; O, B, E, P, T, M tools; Ctrl+Z undo. By "
    + "keyboard: move with the arrow keys, Enter puts the pen down and lifts it.",
  brush: "Brush: paint the label.", erase: "Erase: what you paint over becomes unlabelled.",
  points: "Points: click a labelled or predicted gland, then drag its points; drag the small ones to add a point; a double click or Delete removes one.",
  take: "Take: click a predicted gland to label its pixels; click again to take the label away.", move: "Move: drag the picture." };

let labels = null, history = [];
let drawn = null;  // the labels as they were last sent
let unsaved = false;  // drawn, and not downloaded since
let classId = 1, tool = "outline", stroke = null;  // the points of the stroke being drawn
let shape = null;  // the outline whose points are moved: {points, chosen, dragged, classId, base, holes}
let places = [];  // where the model is most uncertain
let coloured = null;  // the labels as a canvas

function freshDrawing() {
  labels = new Uint8Array(view.width * view.height).fill(UNLABELLED);
  history = []; stroke = shape = drawn = null; unsaved = false; places = [];
  const width = find(".gl-width"), shorter = Math.min(view.width, view.height);
  Object.assign(width, { max: Math.max(20, Math.round(shorter / 6)), value: Math.max(4, Math.round(shorter / 40)) });
  showWidth();
  const group = find(".gl-classes");
  group.replaceChildren(group.firstElementChild, ...[...view.classes.slice(1), view.classes[0]].map((item, index) => {
    const input = make("input", { type: "radio", name: "gl-class", value: item.id, checked: index === 0 });
    const label = make("label", { className: "gl-pick gl-class", title: `Key ${index + 1}` }, input, make("i", { className: "gl-swatch" }), item.name);
    label.style.setProperty("--colour", item.colour);
    return label;
  }));
  classId = view.classes[1].id;
  readout.textContent = HINTS[tool];
  repaint();
}

// ------------------------------------------------------------------------------------------------------------- layers

function repaint() {
  const colours = new Uint32Array(256);
  for (const item of view.classes) colours[item.id] = word([...rgb(item.colour), 120]);
  coloured = painted((i) => colours[labels[i]], coloured?.width === view.width && coloured.height === view.height ? coloured : undefined);
  find(".gl-undo").disabled = history.length === 0;
  find(".gl-clear").disabled = labels.every((value) => value === UNLABELLED);
  draw();
}

const penWidth = () => Number(find(".gl-width").value);
function showWidth() {
  const wide = penWidth() * view.full[0] / view.width;
  find(".gl-width-shown").textContent = mpp ? `${number(wide * mpp)} µm` : `${Math.round(wide)} px`;
}

if (mode === "annotate") layers.push((context) => { if (coloured) context.drawImage(coloured, 0, 0); }, (context, unit) => {
  places.forEach((place, index) => {
    context.setLineDash([2 * unit, 5 * unit]);
    context.lineCap = "round";
    for (const [colour, width] of [["rgba(0, 0, 0, .7)", 4.5], ["#fff", 2.2]]) ring(context, [place.x, place.y], place.radius, colour, width * unit);
    write(context, String(index + 1), [place.x, place.y], 15 * unit);
  });
}, (context, unit) => {
  const colour = tool === "erase" ? "#ffffff" : (view.classes.find((item) => item.id === classId) || {}).colour;
  if (stroke) {
    trace(context, [stroke], tool === "outline");
    const lines = tool === "outline" ? [["rgba(0, 0, 0, .6)", 4 * unit], [colour, 2 * unit]] : [[`${colour}b0`, penWidth()]];
    for (const [strokeStyle, lineWidth] of lines) { Object.assign(context, { strokeStyle, lineWidth }); context.stroke(); }
  }
  if (cursor && (tool === "brush" || tool === "erase")) ring(context, cursor, penWidth() / 2, "#fff", 1.5 * unit);
  if (!shape) return;
  trace(context, [shape.points], true);
  Object.assign(context, { strokeStyle: "#f0e442", lineWidth: 1.6 * unit });
  context.stroke();
  const dot = ([x, y], radius, fillStyle) => {
    Object.assign(context, { fillStyle, strokeStyle: "#000", lineWidth: unit });
    context.beginPath();
    context.arc(x, y, radius * unit, 0, 7);
    context.fill(); context.stroke();
  };
  shape.points.forEach((point, index) => {
    dot(between(index), TOUCH ? 4 : 2.5, "#fff");
    dot(point, TOUCH ? 8 : 5, index === shape.chosen ? "#d55e00" : "#f0e442");
  });
});

// ------------------------------------------------------------------------------------------ from lines to labelled pixels

function trace(context, rings, closed) {
  context.lineJoin = context.lineCap = "round";
  context.beginPath();
  for (const points of rings) {
    points.forEach(([x, y], i) => i ? context.lineTo(x, y) : context.moveTo(x, y));
    if (closed) context.closePath();
    else if (points.length === 1) context.lineTo(points[0][0] + 0.01, points[0][1]);
  }
}

// visit(i) for each pixel inside closed rings, or under a line of some `width`, without half-covered edges.
function cover(rings, width, visit) {
  const reach = width ? width / 2 + 2 : 2;
  let left = Infinity, top = Infinity, right = 0, bottom = 0;
  for (const [x, y] of rings.flat()) { left = Math.min(left, x); right = Math.max(right, x); top = Math.min(top, y); bottom = Math.max(bottom, y); }
  left = Math.max(0, Math.floor(left - reach)); top = Math.max(0, Math.floor(top - reach));
  right = Math.min(view.width, Math.ceil(right + reach)); bottom = Math.min(view.height, Math.ceil(bottom + reach));
  if (right <= left || bottom <= top) return;
  const context = blank(right - left, bottom - top).getContext("2d", { willReadFrequently: true });
  context.translate(-left, -top);
  trace(context, rings, !width);
  if (width) { context.lineWidth = width; context.stroke(); } else context.fill("evenodd");
  const { data } = context.getImageData(0, 0, right - left, bottom - top);
  for (let y = top, i = 3; y < bottom; y++) for (let x = left; x < right; x++, i += 4) if (data[i] >= 128) visit(y * view.width + x);
}

function commit() {
  const points = stroke, outline = tool === "outline", value = tool === "erase" ? UNLABELLED : classId, next = labels.slice();
  stroke = null;
  draw();
  if (outline && points.length < 3) return;
  cover([points], outline ? 0 : penWidth(), (i) => { next[i] = value; });
  remember(next);
}

// New labels; those before can be had back.
function remember(next, own = true) {
  history.push(labels);
  if (history.length > UNDO_STEPS) history.shift();
  labels = next;
  if (own) unsaved = true;
  changed();
}

function changed() {
  repaint();
  const grey = painted((i) => (0xff000000 | (labels[i] * 0x010101)) >>> 0);
  drawn = grey.toDataURL("image/png");
  keepDrawing();
  props.value = { ...props.value, labels: drawn };
  trigger("input");
  suggestAgain();
}

function undo() {
  if (!history.length) return;
  labels = history.pop(); shape = null; unsaved = true;
  changed();
}

async function suggestAgain() {
  if (!ids) return;
  const found = await server.suggest({ view: key, labels: drawn });
  if (Array.isArray(found)) { places = found; draw(); }
}

// ---------------------------------------------------------------------------------------------- outlines by their points

const between = (index) => [0, 1].map((i) => (shape.points[index][i] + shape.points[(index + 1) % shape.points.length][i]) / 2);

// Open the labelled region at a place, or the predicted gland there, whose class it then gets.
function openShape(place) {
  shape = null;
  const start = pixelAt(place), width = view.width, labelled = labels[start] !== UNLABELLED, source = labelled ? labels : ids;
  if (!within(place) || !source || (!labelled && !source[start])) { draw(); return; }
  const region = new Uint8Array(labels.length), value = source[start], todo = [start];
  region[start] = 1;
  let first = start;
  while (todo.length) {
    const i = todo.pop(), x = i % width;
    if (i < first) first = i;
    for (const next of [x > 0 && i - 1, x < width - 1 && i + 1, i - width, i + width]) {
      if (next !== false && next >= 0 && next < region.length && !region[next] && source[next] === value) { region[next] = 1; todo.push(next); }
    }
  }
  const outline = outlineOf((x, y) => x >= 0 && y >= 0 && x < width && y < view.height && region[y * width + x] === 1, first % width, Math.floor(first / width));
  const base = labels.slice(), holes = new Uint8Array(labels.length);
  cover([outline], 0, (i) => { if (!region[i]) holes[i] = 1; });
  if (labelled) region.forEach((inside, i) => { if (inside) base[i] = UNLABELLED; });
  shape = { points: simplified(outline, Math.max(1.5, (TOUCH ? 2 : 1) / at.scale)), chosen: -1, dragged: -1, base, holes,
    classId: labelled ? value : glands.get(value)?.class ?? classId };
  draw();
}

// The outer outline of a region of pixels along their edges, from the top left corner of its first pixel (x, y).
function outlineOf(inside, x, y) {
  const points = [], begin = [x, y];
  let dx = 1, dy = 0;
  do {
    points.push([x, y]);
    do { x += dx; y += dy; } while (ahead(-dy, dx) && !ahead(dy, -dx));
    if (ahead(dy, -dx) && ahead(-dy, dx)) [dx, dy] = [dy, -dx]; else [dx, dy] = [-dy, dx];
  } while (x !== begin[0] || y !== begin[1]);
  return points;
  function ahead(sideX, sideY) { return inside(x + (dx + sideX - 1) / 2, y + (dy + sideY - 1) / 2); }
}

// Fewer points, each left out by less than `tolerance` (Douglas and Peucker), of a closed line.
function simplified(points, tolerance) {
  const thin = (line) => {
    const [[ax, ay], [bx, by]] = [line[0], line.at(-1)], long = Math.hypot(bx - ax, by - ay);
    let farthest = 0, at = 0;
    line.forEach(([x, y], i) => {
      const far = long ? Math.abs((bx - ax) * (ay - y) - (ax - x) * (by - ay)) / long : Math.hypot(x - ax, y - ay);
      if (far > farthest) { farthest = far; at = i; }
    });
    return farthest <= tolerance ? [line[0], line.at(-1)] : [...thin(line.slice(0, at + 1)).slice(0, -1), ...thin(line.slice(at))];
  };
  const half = Math.floor(points.length / 2), parts = [points.slice(0, half + 1), [...points.slice(half), points[0]]];
  const found = parts.flatMap((line) => thin(line).slice(0, -1));
  return found.length >= 3 ? found : points;
}

function redrawShape() {
  const next = shape.base.slice();
  cover([shape.points], 0, (i) => { if (!shape.holes[i]) next[i] = shape.classId; });
  remember(next);
}

// The point (or middle of a side, from where a point is added) under the pointer becomes the one that is dragged.
function grabPoint(place) {
  const reach = (TOUCH ? 16 : 9) / at.scale, far = ([x, y]) => Math.hypot(x - place[0], y - place[1]);
  const nearest = (list) => list.reduce((best, point, i) => far(point) < (best < 0 ? reach : far(list[best])) ? i : best, -1);
  let index = nearest(shape.points);
  if (index < 0) {
    const middles = shape.points.map((_, i) => between(i)), side = nearest(middles);
    if (side < 0) return false;
    shape.points.splice(side + 1, 0, middles[side]);
    index = side + 1;
  }
  Object.assign(shape, { chosen: index, dragged: index, moved: false });
  return true;
}
function removePoint() {
  if (!shape || shape.chosen < 0 || shape.points.length <= 3) return;
  shape.points.splice(shape.chosen, 1);
  shape.chosen %= shape.points.length;
  redrawShape();
}

// Label a predicted gland's own pixels, or take that label away.
function take(place) {
  const id = ids && within(place) ? ids[pixelAt(place)] : 0, gland = glands.get(id);
  if (!gland) return;
  const next = labels.slice(), value = labels[pixelAt(place)] === gland.class ? UNLABELLED : gland.class;
  ids.forEach((other, i) => { if (other === id) next[i] = value; });
  remember(next);
}

// -------------------------------------------------------------------------------------------------------------- events

function keepTool(name) {
  tool = name; stroke = shape = null;
  stage.dataset.tool = name;
  readout.textContent = HINTS[name];
  draw();
}

function pressed(event) {
  if (tool === "points" && shape && shape.points.length) {
    const turn = { n: 1, "]": 1, "[": -1 }[event.key], from = shape.points[shape.chosen];
    if (turn) { shape.chosen = (shape.chosen + turn + shape.points.length) % shape.points.length; draw(); return true; }
    if (event.key === "Delete" || event.key === "Backspace") { removePoint(); return true; }
    if (event.key === "Escape") { shape = null; draw(); return true; }
    const to = from && arrow(event, from);
    if (to) { shape.points[shape.chosen] = to; redrawShape(); return true; }
  }
  const place = arrow(event, cursor);
  if (place) { cursor = place; if (stroke) stroke.push(place); }
  else if (event.key === "Enter" && tool !== "move") {
    cursor = cursor || [view.width / 2, view.height / 2];
    if (tool === "points") openShape(cursor); else if (tool === "take") take(cursor);
    else if (stroke) commit(); else stroke = [cursor];
  } else if (event.key === "Escape") { stroke = cursor = null; }
  else return false;
  draw();
  return true;
}

if (mode === "annotate") {
  const draws = () => tool === "outline" || tool === "brush" || tool === "erase";
  Object.assign(hand, {
    grab: (place) => {
      cursor = null;
      if (draws()) stroke = [place];
      else if (!(tool === "points" && shape && grabPoint(place))) return false;
      draw();
      return true;
    },
    drag: (spots) => {
      if (stroke) stroke.push(...spots);
      else if (shape && shape.dragged >= 0) Object.assign(shape, { moved: true }).points[shape.dragged] = spots.at(-1);
      draw();
    },
    drop: () => {
      if (stroke) commit();
      else if (shape) {
        const { moved, chosen, tapped, when } = shape;
        Object.assign(shape, { dragged: -1, tapped: moved ? -1 : chosen, when: performance.now() });
        if (moved) redrawShape();
        else if (chosen === tapped && performance.now() - when < 500) removePoint();
        else draw();
      }
    },
    abandon: () => { stroke = null; if (shape) shape.dragged = -1; draw(); },
    hover: (place) => { cursor = place && (tool === "brush" || tool === "erase") ? place : null; draw(); },
    tap: (place) => { if (tool === "points") openShape(place); else if (tool === "take") take(place); },
    press: pressed,
  });
  element.addEventListener("keydown", (event) => {
    if (!view || event.target.matches("[type=range], [type=text], textarea, select")) return;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") { undo(); event.preventDefault(); return; }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const label = all('[name="gl-class"]')[Number(event.key) - 1], choice = find(`[name="gl-tool"][value="${TOOLS[event.key]}"]`);
    if (choice?.offsetParent) choice.click();
    else if (/^[1-9]$/.test(event.key) && label) label.click();
  });
  element.addEventListener("change", (event) => {
    if (event.target.name === "gl-class") {
      classId = Number(event.target.value);
      if (tool !== "outline" && tool !== "brush") find('[name="gl-tool"][value="brush"]').click();
    } else if (event.target.name === "gl-tool") keepTool(event.target.value);
  });
  find(".gl-width").addEventListener("input", showWidth);
  find(".gl-undo").addEventListener("click", undo);
  find(".gl-clear").addEventListener("click", () => { shape = null; remember(new Uint8Array(labels.length).fill(UNLABELLED)); });
  find(".gl-load input").addEventListener("change", (event) => {
    const file = event.target.files[0];
    if (file && view) loadFile(file);
    event.target.value = "";
  });

  // Leaving, or another picture, is asked about while something is drawn that has not been downloaded.
  addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
  document.addEventListener("gl-saved", (event) => { if (/_(sparse_mask\.png|annotation\.(zip|geojson))$/.test(event.detail)) unsaved = false; });
  const staysHere = () => unsaved && !confirm(`Your drawing on ${view.name} has not been downloaded. It stays in this browser and `
    + "comes back with the picture. Go on to another picture?");
  document.addEventListener("gl-leave", (event) => { if (element.isConnected && view && event.detail !== view.name && staysHere()) event.preventDefault(); });
  for (const [kind, spots] of [["click", "#annotate-examples [data-example], #annotate-reuse"],
    ["change", "#annotate-drop input[type=file]"], ["drop", "#annotate-drop"]]) {
    document.addEventListener(kind, (event) => {
      if (!element.isConnected || !event.target.closest?.(spots) || !staysHere()) return;
      event.preventDefault(); event.stopImmediatePropagation();
      if (kind === "change") event.target.value = "";
    }, true);
  }
}
