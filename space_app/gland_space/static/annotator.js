// Drawing sparse labels. The labels are one byte per pixel of the picture, 255 where nothing is labelled, so what is
// downloaded is exactly what is drawn. After every stroke they go to the server as a PNG in `props.value.labels`.
const find = (selector) => element.querySelector(selector);
const all = (selector) => [...element.querySelectorAll(selector)];
const ink = find(".gl-ink"), labelCanvas = find(".gl-labels"), doubt = find(".gl-doubt"), marks = find(".gl-marks");
const readout = find(".gl-readout");
const UNLABELLED = 255, UNDO_STEPS = 20, SVG = "http://www.w3.org/2000/svg";
const HINT = "Outline: draw around a gland, it is filled when you let go. Keys: 1, 2, … label; O outline, B brush, "
  + "E erase; Ctrl+Z undo; or move with the arrow keys and press Enter to put the pen down and lift it.";

let view = null, key = null, hints = null, labels = null, history = [];
let drawn = null;  // the labels as they were last sent
let classId = 1, tool = "outline", zoom = 1;
let stroke = null, pen = null;  // the stroke being drawn; the pen of the keyboard

// ------------------------------------------------------------------------------------------------------------ loading

async function update() {
  const value = props.value;
  if (!value || !value.view) { show(null); return; }
  // What comes from the server holds the drawing of when it was asked; strokes made since then are kept.
  if (value.view === key && drawn && value.labels !== drawn) props.value = { ...value, labels: drawn };
  if (value.view !== key) {
    const wanted = value.view, loaded = await server.view(wanted);
    if (!props.value || props.value.view !== wanted) return;
    show(loaded, wanted);
  }
  if (view && value.hints && value.hints !== hints) {
    hints = value.hints;
    const loaded = await server.hints(hints);
    if (loaded && props.value && props.value.hints === hints) showDoubt(loaded);
  }
}

function show(loaded, wanted = null) {
  view = loaded; key = wanted; history = []; stroke = pen = null; hints = drawn = null;
  find(".gl-body").hidden = !loaded; find(".gl-empty").hidden = Boolean(loaded);
  find(".gl-doubt-bar").hidden = true; doubt.hidden = true; marks.replaceChildren();
  if (!loaded) return;
  labels = new Uint8Array(view.width * view.height).fill(UNLABELLED);
  for (const canvas of [ink, labelCanvas, doubt]) Object.assign(canvas, { width: view.width, height: view.height });
  marks.setAttribute("viewBox", `0 0 ${view.width} ${view.height}`);
  find(".gl-image").src = view.image;
  find(".gl-image").alt = `${view.name}, to be annotated`;
  ink.setAttribute("aria-label", `Drawing area over ${view.name}. Arrow keys move the pen, Enter puts it down and lifts it.`);
  find(".gl-canvases").style.setProperty("--ratio", view.width / view.height);
  const width = find(".gl-width");
  width.max = Math.max(20, Math.round(Math.min(view.width, view.height) / 6));
  width.value = Math.max(4, Math.round(Math.min(view.width, view.height) / 40));
  width.dispatchEvent(new Event("input"));
  const group = find(".gl-classes");
  group.replaceChildren(group.firstElementChild, ...[...view.classes.slice(1), view.classes[0]].map((item, index) => {
    const label = document.createElement("label");
    label.className = "gl-pick gl-class";
    label.style.setProperty("--colour", item.colour);
    const input = Object.assign(document.createElement("input"),
      { type: "radio", name: "gl-class", value: item.id, checked: index === 0 });
    label.append(input, Object.assign(document.createElement("i"), { className: "gl-swatch" }), item.name);
    return label;
  }));
  classId = view.classes[1].id;
  setZoom(1);
  paint();
  readout.textContent = HINT;
  buttons();
}

async function showDoubt(loaded) {
  const blob = await (await fetch(loaded.overlay)).blob();
  const bitmap = await createImageBitmap(blob);
  const context = doubt.getContext("2d");
  context.clearRect(0, 0, doubt.width, doubt.height);
  context.imageSmoothingEnabled = true;
  context.drawImage(bitmap, 0, 0, doubt.width, doubt.height);
  marks.replaceChildren(...loaded.suggestions.map((place, index) => {
    const group = document.createElementNS(SVG, "g");
    Object.assign(group.dataset, { x: Math.floor(place.x), y: Math.floor(place.y) });
    for (const kind of ["gl-halo", "gl-line"]) {
      const circle = document.createElementNS(SVG, "circle");
      for (const [name, value] of [["cx", place.x], ["cy", place.y], ["r", place.radius], ["class", kind]]) {
        circle.setAttribute(name, value);
      }
      group.append(circle);
    }
    const text = document.createElementNS(SVG, "text");
    text.setAttribute("x", place.x); text.setAttribute("y", place.y);
    text.setAttribute("font-size", Math.max(view.width, view.height) / 34);
    text.textContent = index + 1;
    group.append(text);
    return group;
  }));
  find(".gl-doubt-bar").hidden = false;
  find(".gl-show-doubt").checked = true;
  showStrength();
  readout.textContent = loaded.suggestions.length
    ? `The model hesitates most at ${loaded.suggestions.length} marked place${loaded.suggestions.length > 1 ? "s" : ""}: outline what you see there.`
    : "The model is sure of this whole picture; another picture would teach it more.";
}

function showStrength() {
  const on = find(".gl-show-doubt").checked;
  doubt.hidden = !on; marks.style.display = on ? "" : "none";
  doubt.style.opacity = find(".gl-strength").value / 100;
}

// ------------------------------------------------------------------------------------------------------------ drawing

function rgb(colour) { return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)); }

function paint() {
  const picture = new ImageData(view.width, view.height), colours = view.classes.map((item) => rgb(item.colour));
  const words = new Uint32Array(picture.data.buffer);
  const word = colours.map(([r, g, b]) => ((140 << 24) | (b << 16) | (g << 8) | r) >>> 0);
  for (let i = 0; i < labels.length; i++) if (labels[i] !== UNLABELLED) words[i] = word[labels[i]];
  labelCanvas.getContext("2d").putImageData(picture, 0, 0);
  for (const group of marks.children) {  // a place that has been labelled needs no further mark
    group.classList.toggle("gl-done", labels[group.dataset.y * view.width + Number(group.dataset.x)] !== UNLABELLED);
  }
}

function drawInk() {
  const context = ink.getContext("2d");
  context.clearRect(0, 0, ink.width, ink.height);
  const unit = view.width / ink.getBoundingClientRect().width;  // picture pixels per screen pixel
  if (stroke) {
    context.lineJoin = context.lineCap = "round";
    const colour = tool === "erase" ? "#ffffff" : view.classes.find((item) => item.id === classId).colour;
    const trace = () => { context.beginPath(); stroke.points.forEach(([x, y], i) => i ? context.lineTo(x, y) : context.moveTo(x, y)); };
    if (tool === "outline") {
      for (const [width, style] of [[5 * unit, "rgba(0,0,0,.6)"], [2.5 * unit, colour]]) {
        trace(); context.closePath(); context.lineWidth = width; context.strokeStyle = style; context.stroke();
      }
    } else {
      trace();
      if (stroke.points.length === 1) context.lineTo(stroke.points[0][0] + 0.01, stroke.points[0][1]);
      context.lineWidth = Number(find(".gl-width").value); context.strokeStyle = colour; context.globalAlpha = 0.7;
      context.stroke(); context.globalAlpha = 1;
    }
  }
  const place = pen || (stroke && stroke.points.at(-1));
  if (place) {
    context.lineWidth = 1.5 * unit; context.strokeStyle = "#fff";
    context.beginPath(); context.arc(place[0], place[1], tool === "outline" ? 5 * unit : Number(find(".gl-width").value) / 2, 0, 7);
    context.stroke(); context.strokeStyle = "#000"; context.lineWidth = 0.75 * unit; context.stroke();
  }
}

// The stroke's pixels, without half-covered edges.
function commit() {
  const points = stroke.points, outline = tool === "outline", width = Number(find(".gl-width").value);
  stroke = null;
  drawInk();
  if (outline && points.length < 3) return;
  const reach = outline ? 2 : width / 2 + 2, xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
  const left = Math.max(0, Math.floor(Math.min(...xs) - reach)), top = Math.max(0, Math.floor(Math.min(...ys) - reach));
  const right = Math.min(view.width, Math.ceil(Math.max(...xs) + reach));
  const bottom = Math.min(view.height, Math.ceil(Math.max(...ys) + reach));
  if (right <= left || bottom <= top) return;
  const scratch = Object.assign(document.createElement("canvas"), { width: right - left, height: bottom - top });
  const context = scratch.getContext("2d", { willReadFrequently: true });
  context.translate(-left, -top);
  context.lineJoin = context.lineCap = "round";
  context.beginPath();
  points.forEach(([x, y], i) => i ? context.lineTo(x, y) : context.moveTo(x, y));
  if (outline) { context.closePath(); context.fill(); }
  else {
    if (points.length === 1) context.lineTo(points[0][0] + 0.01, points[0][1]);
    context.lineWidth = width; context.stroke();
  }
  const covered = context.getImageData(0, 0, scratch.width, scratch.height).data;
  remember();
  const value = tool === "erase" ? UNLABELLED : classId;
  for (let y = 0; y < scratch.height; y++) {
    for (let x = 0; x < scratch.width; x++) {
      if (covered[4 * (y * scratch.width + x) + 3] >= 128) labels[(top + y) * view.width + left + x] = value;
    }
  }
  changed();
}

function remember() { history.push(labels.slice()); if (history.length > UNDO_STEPS) history.shift(); }

function changed() {
  paint();
  buttons();
  const canvas = Object.assign(document.createElement("canvas"), { width: view.width, height: view.height });
  const picture = new ImageData(view.width, view.height);
  for (let i = 0; i < labels.length; i++) {
    picture.data[4 * i] = picture.data[4 * i + 1] = picture.data[4 * i + 2] = labels[i];
    picture.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
  drawn = canvas.toDataURL("image/png");
  props.value = { ...props.value, labels: drawn };
  trigger("input");
}

function undo() { if (history.length) { labels = history.pop(); changed(); } }

function buttons() {
  find(".gl-undo").disabled = history.length === 0;
  find(".gl-clear").disabled = !labels || labels.every((value) => value === UNLABELLED);
}

// -------------------------------------------------------------------------------------------------------------- events

function locate(event) {
  const box = ink.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width * view.width, (event.clientY - box.top) / box.height * view.height];
}

ink.addEventListener("pointerdown", (event) => {
  if (!view || event.button !== 0 || !event.isPrimary) return;
  ink.setPointerCapture(event.pointerId);
  pen = null;
  stroke = { points: [locate(event)], pointer: event.pointerId };
  drawInk();
  event.preventDefault();
  ink.focus({ preventScroll: true });
});
ink.addEventListener("pointermove", (event) => {
  if (!stroke || event.pointerId !== stroke.pointer) return;
  const moves = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
  for (const move of moves.length ? moves : [event]) stroke.points.push(locate(move));
  drawInk();
});
ink.addEventListener("pointerup", (event) => { if (stroke && event.pointerId === stroke.pointer) commit(); });
ink.addEventListener("pointercancel", () => { stroke = null; if (view) drawInk(); });

element.addEventListener("keydown", (event) => {
  if (!view || event.target.type === "range") return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") { undo(); event.preventDefault(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const tools = { o: "outline", b: "brush", e: "erase" };
  if (tools[event.key]) { find(`[name="gl-tool"][value="${tools[event.key]}"]`).click(); return; }
  const label = all('[name="gl-class"]')[Number(event.key) - 1];
  if (/^[1-9]$/.test(event.key) && label) { label.click(); return; }
  if (event.target !== ink) return;
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] || [0, 0];
  if (dx || dy) {
    const step = Math.max(view.width, view.height) * (event.shiftKey ? 0.05 : 0.01);
    const from = pen || [view.width / 2, view.height / 2];
    pen = [Math.min(Math.max(from[0] + dx * step, 0), view.width), Math.min(Math.max(from[1] + dy * step, 0), view.height)];
    if (stroke) stroke.points.push(pen);
  } else if (event.key === "Enter") {
    pen = pen || [view.width / 2, view.height / 2];
    if (stroke) commit(); else stroke = { points: [pen] };
  } else if (event.key === "Escape") { stroke = pen = null; }
  else return;
  drawInk();
  event.preventDefault();
});

element.addEventListener("change", (event) => {
  if (event.target.name === "gl-class") {
    classId = Number(event.target.value);
    if (tool === "erase") find('[name="gl-tool"][value="brush"]').click();
  } else if (event.target.name === "gl-tool") tool = event.target.value;
  else if (event.target.classList.contains("gl-show-doubt")) showStrength();
});
element.addEventListener("input", (event) => {
  if (event.target.classList.contains("gl-width")) find(".gl-width-shown").textContent = `${event.target.value} px`;
  if (event.target.classList.contains("gl-strength")) showStrength();
});
find(".gl-undo").addEventListener("click", undo);
find(".gl-clear").addEventListener("click", () => { remember(); labels.fill(UNLABELLED); changed(); });

function setZoom(next) {
  zoom = Math.min(Math.max(next, 1), 8);
  find(".gl-canvases").style.setProperty("--zoom", zoom);
  find(".gl-zoom").textContent = `${Math.round(100 * zoom)} %`;
}
for (const button of all("[data-zoom]")) {
  button.addEventListener("click", () => setZoom(zoom * (button.dataset.zoom === "in" ? 1.5 : 1 / 1.5)));
}

watch("value", update);
update();
setInterval(() => { if (key) server.alive(key); }, 4 * 60 * 1000);  // the server forgets what nobody looks at
