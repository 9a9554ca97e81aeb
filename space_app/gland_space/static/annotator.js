// Drawing sparse labels. The labels are one byte per pixel of the picture, 255 where nothing is labelled, so what is
// downloaded is exactly what is drawn. After every stroke they go to the server as a PNG in `props.value.labels`, and to
// the browser's own storage, from where they come back with the picture.
const body = find(".gl-body"), stage = find(".gl-stage"), readout = find(".gl-readout");
const ink = find(".gl-ink"), labelCanvas = find(".gl-labels"), overlay = find(".gl-uncertainty"), marks = find(".gl-marks");
const UNLABELLED = 255, UNDO_STEPS = 20, SHELF = "gl-drawing/", LAST = "gl-last", MOST_DRAWINGS = 30;
const HINT = "Outline: draw around a gland, it is filled when you let go. Keys: 1, 2, … label; O outline, B brush, "
  + "E erase, M move; Ctrl+Z undo; + and − zoom; or move with the arrow keys and press Enter to put the pen down and lift it.";

let view = null, key = null, hints = null, labels = null, history = [];
let drawn = null;  // the labels as they were last sent
let unsaved = false;  // drawn, and not downloaded since
let classId = 1, tool = "outline";
let stroke = null, pen = null;  // the points of the stroke being drawn; the pen of the keyboard

// ------------------------------------------------------------------------------------------------------------ loading

async function update() {
  const value = props.value;
  if (!value || !value.view) { if (view) show(null); return; }
  // What comes from the server holds the drawing of when it was asked; strokes made since then are kept.
  if (value.view === key && drawn && value.labels !== drawn) props.value = { ...value, labels: drawn };
  if (value.view !== key) {
    const wanted = value.view, loaded = await server.view(wanted);
    if (!props.value || props.value.view !== wanted) return;
    show(loaded, wanted);
    if (loaded) await bringBack();
  }
  if (view && value.hints && value.hints !== hints) {
    hints = value.hints;
    const loaded = await server.hints(hints);
    if (loaded && props.value && props.value.hints === hints) showUncertainty(loaded);
  }
}

function show(loaded, wanted = null) {
  view = loaded; key = wanted; history = []; stroke = pen = null; hints = drawn = null; unsaved = false;
  if (loaded) sessionStorage.setItem(LAST, key); else sessionStorage.removeItem(LAST);
  body.hidden = !loaded; find(".gl-empty").hidden = Boolean(loaded);
  find(".gl-uncertainty-bar").hidden = true; overlay.hidden = true; marks.replaceChildren();
  if (!loaded) return;
  labels = new Uint8Array(view.width * view.height).fill(UNLABELLED);
  for (const canvas of [ink, labelCanvas, overlay]) Object.assign(canvas, { width: view.width, height: view.height });
  marks.setAttribute("viewBox", `0 0 ${view.width} ${view.height}`);
  find(".gl-image").src = view.image;
  find(".gl-image").alt = `${view.name}, to be annotated`;
  stage.setAttribute("aria-label", `Drawing area over ${view.name}. Arrow keys move the pen, Enter puts it down and lifts it.`);
  stage.style.setProperty("--ratio", view.width / view.height);
  const width = find(".gl-width");
  width.max = Math.max(20, Math.round(Math.min(view.width, view.height) / 6));
  width.value = Math.max(4, Math.round(Math.min(view.width, view.height) / 40));
  width.dispatchEvent(new Event("input"));
  const group = find(".gl-classes");
  group.replaceChildren(group.firstElementChild, ...[...view.classes.slice(1), view.classes[0]].map((item, index) => {
    const input = make("input", { type: "radio", name: "gl-class", value: item.id, checked: index === 0 });
    const label = make("label", { className: "gl-pick gl-class" }, input, make("i", { className: "gl-swatch" }), item.name);
    label.style.setProperty("--colour", item.colour);
    return label;
  }));
  classId = view.classes[1].id;
  picture.fit();
  paint();
  readout.textContent = HINT;
}

async function showUncertainty(loaded) {
  const bitmap = await createImageBitmap(await blobOf(loaded.overlay)), context = overlay.getContext("2d");
  context.clearRect(0, 0, overlay.width, overlay.height);
  context.imageSmoothingEnabled = true;
  context.drawImage(bitmap, 0, 0, overlay.width, overlay.height);
  marks.replaceChildren(...loaded.suggestions.map((place, index) => {
    const circle = { cx: place.x, cy: place.y, r: place.radius };
    return shape("g", { "data-x": Math.floor(place.x), "data-y": Math.floor(place.y) },
      shape("circle", { ...circle, class: "gl-halo" }), shape("circle", { ...circle, class: "gl-line" }),
      shape("text", { x: place.x, y: place.y, "font-size": Math.max(view.width, view.height) / 34 }, String(index + 1)));
  }));
  find(".gl-uncertainty-bar").hidden = false;
  find(".gl-show-uncertainty").checked = true;
  showStrength();
  paint();
  const count = loaded.suggestions.length;
  readout.textContent = count
    ? `The model is most uncertain at ${count} marked place${count > 1 ? "s" : ""}: outline what you see there.`
    : "The model's confidence is high in this whole picture; another picture would teach it more.";
}

function showStrength() {
  const on = find(".gl-show-uncertainty").checked;
  overlay.hidden = !on; marks.style.display = on ? "" : "none";
  overlay.style.opacity = find(".gl-strength").value / 100;
}

// ------------------------------------------------------------------------------------- drawings kept in this browser

const shelf = () => Object.keys(localStorage).filter((name) => name.startsWith(SHELF))
  .map((name) => [JSON.parse(localStorage.getItem(name)).time, name]).sort((a, b) => a[0] - b[0]).map(([, name]) => name);

// Under the picture's content, so that it is found again however the picture comes in; the oldest drawings give way.
function keepDrawing() {
  const name = SHELF + view.digest;
  try {
    localStorage.removeItem(name);
    if (labels.every((value) => value === UNLABELLED)) return;
    const entry = JSON.stringify({ labels: drawn, time: Date.now() });
    for (let others = shelf(); ; others = others.slice(1)) {
      if (others.length < MOST_DRAWINGS) {
        try { localStorage.setItem(name, entry); return; } catch (full) { if (!others.length) throw full; }
      }
      localStorage.removeItem(others[0]);
    }
  } catch (refused) {  // private windows, or no room for a single drawing
    readout.textContent = "This browser cannot keep the drawing: download the mask before you leave.";
  }
}

async function bringBack() {
  const digest = view.digest;
  try {
    const entry = JSON.parse(localStorage.getItem(SHELF + digest));
    if (!entry) return;
    const values = await maskOf(await blobOf(entry.labels));
    if (!view || view.digest !== digest || history.length) return;  // something else came meanwhile
    remember(values);
    readout.textContent = "Your drawing of this picture was still in this browser. Undo removes it.";
  } catch (unreadable) { localStorage.removeItem(SHELF + digest); }
}

// The labels in a PNG of class numbers; throws in words for the user.
async function maskOf(blob) {
  const found = await pixels(blob).catch(() => { throw new Error("This is no picture file; load a mask that was downloaded here."); });
  if (found.width !== view.width || found.height !== view.height) {
    throw new Error(`The mask has ${found.width} × ${found.height} px, the picture ${view.width} × ${view.height}: it belongs to another picture.`);
  }
  const values = new Uint8Array(labels.length), known = new Set([UNLABELLED, ...view.classes.map((item) => item.id)]);
  for (let i = 0; i < values.length; i++) {
    values[i] = found.data[4 * i];
    if (!known.has(values[i]) || found.data[4 * i + 1] !== values[i]) {
      throw new Error("The mask holds other values than the class numbers and 255: load the sparse mask that was downloaded here.");
    }
  }
  return values;
}

find(".gl-load input").addEventListener("change", async (event) => {
  const file = event.target.files[0];
  event.target.value = "";
  if (!file || !view) return;
  try {
    remember(await maskOf(file));
    readout.textContent = `${file.name} is loaded. Undo brings back what was there before.`;
  } catch (problem) { readout.textContent = problem.message; }
});

// Leaving, or another picture, is asked about while something is drawn that has not been downloaded.
addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
document.addEventListener("gl-saved", (event) => { if (/_(sparse_mask\.png|annotation\.zip)$/.test(event.detail)) unsaved = false; });
const staysHere = () => unsaved && !confirm(`Your drawing on ${view.name} has not been downloaded. It stays in this browser and `
  + "comes back with the picture. Go on to another picture?");
for (const [kind, places] of [["click", "#annotate-examples [data-example], #annotate-reuse"],
  ["change", "#annotate-drop input[type=file]"], ["drop", "#annotate-drop"]]) {
  document.addEventListener(kind, (event) => {
    if (!element.isConnected || !event.target.closest?.(places) || !staysHere()) return;
    event.preventDefault(); event.stopImmediatePropagation();
    if (kind === "change") event.target.value = "";
  }, true);
}

// ------------------------------------------------------------------------------------------------------------ drawing

const rgb = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

function paint() {
  const canvas = new ImageData(view.width, view.height), words = new Uint32Array(canvas.data.buffer);
  const word = view.classes.map((item) => rgb(item.colour)).map(([r, g, b]) => ((140 << 24) | (b << 16) | (g << 8) | r) >>> 0);
  for (let i = 0; i < labels.length; i++) if (labels[i] !== UNLABELLED) words[i] = word[labels[i]];
  labelCanvas.getContext("2d").putImageData(canvas, 0, 0);
  for (const group of marks.children) {  // a place that has been labelled needs no further mark
    group.classList.toggle("gl-done", labels[group.dataset.y * view.width + Number(group.dataset.x)] !== UNLABELLED);
  }
  find(".gl-undo").disabled = history.length === 0;
  find(".gl-clear").disabled = labels.every((value) => value === UNLABELLED);
}

const penWidth = () => Number(find(".gl-width").value);

// The stroke's path: closed for an outline, a dot where it has one point.
function trace(context, points) {
  context.lineJoin = context.lineCap = "round";
  context.beginPath();
  points.forEach(([x, y], i) => i ? context.lineTo(x, y) : context.moveTo(x, y));
  if (tool === "outline") context.closePath();
  else if (points.length === 1) context.lineTo(points[0][0] + 0.01, points[0][1]);
}

function drawInk() {
  const context = ink.getContext("2d");
  context.clearRect(0, 0, ink.width, ink.height);
  const unit = view.width / ink.getBoundingClientRect().width;  // picture pixels per screen pixel
  const line = (width, style, alpha = 1) => {
    Object.assign(context, { lineWidth: width, strokeStyle: style, globalAlpha: alpha });
    context.stroke();
    context.globalAlpha = 1;
  };
  if (stroke) {
    const colour = tool === "erase" ? "#ffffff" : view.classes.find((item) => item.id === classId).colour;
    trace(context, stroke);
    if (tool === "outline") { line(5 * unit, "#000000", 0.6); line(2.5 * unit, colour); }
    else line(penWidth(), colour, 0.7);
  }
  const place = pen || (stroke && stroke.at(-1));
  if (place) {
    context.beginPath();
    context.arc(place[0], place[1], tool === "outline" ? 5 * unit : penWidth() / 2, 0, 7);
    line(1.5 * unit, "#fff"); line(0.75 * unit, "#000");
  }
}

// The stroke's pixels, without half-covered edges.
function commit() {
  const points = stroke, outline = tool === "outline", width = penWidth();
  stroke = null;
  drawInk();
  if (outline && points.length < 3) return;
  const reach = outline ? 2 : width / 2 + 2, xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
  const left = Math.max(0, Math.floor(Math.min(...xs) - reach)), top = Math.max(0, Math.floor(Math.min(...ys) - reach));
  const right = Math.min(view.width, Math.ceil(Math.max(...xs) + reach));
  const bottom = Math.min(view.height, Math.ceil(Math.max(...ys) + reach));
  if (right <= left || bottom <= top) return;
  const scratch = make("canvas", { width: right - left, height: bottom - top });
  const context = scratch.getContext("2d", { willReadFrequently: true });
  context.translate(-left, -top);
  trace(context, points);
  if (outline) context.fill(); else { context.lineWidth = width; context.stroke(); }
  const covered = context.getImageData(0, 0, scratch.width, scratch.height).data, next = labels.slice();
  const value = tool === "erase" ? UNLABELLED : classId;
  for (let y = 0; y < scratch.height; y++) {
    for (let x = 0; x < scratch.width; x++) {
      if (covered[4 * (y * scratch.width + x) + 3] >= 128) next[(top + y) * view.width + left + x] = value;
    }
  }
  remember(next);
  unsaved = true;
}

// New labels; those before can be had back.
function remember(next) {
  history.push(labels);
  if (history.length > UNDO_STEPS) history.shift();
  labels = next;
  changed();
}

function changed() {
  paint();
  const canvas = make("canvas", { width: view.width, height: view.height }), grey = new ImageData(view.width, view.height);
  for (let i = 0; i < labels.length; i++) grey.data.set([labels[i], labels[i], labels[i], 255], 4 * i);
  canvas.getContext("2d").putImageData(grey, 0, 0);
  drawn = canvas.toDataURL("image/png");
  keepDrawing();
  props.value = { ...props.value, labels: drawn };
  trigger("input");
}

function undo() { if (history.length) { labels = history.pop(); unsaved = true; changed(); } }

// -------------------------------------------------------------------------------------------------------------- events

const picture = makeStages([stage], {
  size: () => view && [view.width, view.height], pans: () => tool === "move", zoomed: () => { if (view) drawInk(); },
  draw: {
    begin: (place) => { pen = null; stroke = [place]; drawInk(); },
    move: (places) => { stroke?.push(...places); drawInk(); },
    end: () => { if (stroke) commit(); },
    cancel: () => { stroke = null; drawInk(); },
  },
  key: (event) => {
    const place = picture.arrow(event, pen);
    if (place) { pen = place; if (stroke) stroke.push(pen); }
    else if (event.key === "Enter" && tool !== "move") {
      pen = pen || [view.width / 2, view.height / 2];
      if (stroke) commit(); else stroke = [pen];
    } else if (event.key === "Escape") { stroke = pen = null; }
    else return false;
    drawInk();
    return true;
  },
});

element.addEventListener("keydown", (event) => {
  if (!view || event.target.type === "range") return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") { undo(); event.preventDefault(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const tools = { o: "outline", b: "brush", e: "erase", m: "move" }, label = all('[name="gl-class"]')[Number(event.key) - 1];
  if (tools[event.key]) find(`[name="gl-tool"][value="${tools[event.key]}"]`).click();
  else if (/^[1-9]$/.test(event.key) && label) label.click();
});
element.addEventListener("change", (event) => {
  if (event.target.name === "gl-class") {
    classId = Number(event.target.value);
    if (tool === "erase" || tool === "move") find('[name="gl-tool"][value="brush"]').click();
  } else if (event.target.name === "gl-tool") {
    tool = event.target.value; stroke = null;
    stage.classList.toggle("gl-moving", tool === "move");
  } else if (event.target.classList.contains("gl-show-uncertainty")) showStrength();
});
element.addEventListener("input", (event) => {
  if (event.target.classList.contains("gl-width")) find(".gl-width-shown").textContent = `${event.target.value} px`;
  if (event.target.classList.contains("gl-strength")) showStrength();
});
find(".gl-undo").addEventListener("click", undo);
find(".gl-clear").addEventListener("click", () => { remember(new Uint8Array(labels.length).fill(UNLABELLED)); unsaved = true; });

watch("value", update);
update();
stayAlive(() => key);
if (!props.value && sessionStorage.getItem(LAST)) {  // after a reload: the server shows the picture again if it still has it
  props.value = { view: sessionStorage.getItem(LAST) };
  update();
  trigger("submit");
}
