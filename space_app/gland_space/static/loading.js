// What comes onto the stage: what the server has for its value, and on the Annotate tab drawings that this browser kept, that
// were saved in files, and glands that the Segment tab hands over. The end of the script: it begins to show.
async function update() {
  const value = props.value;
  if (!value || !value.view) { if (view) await show(null); return; }
  // What comes from the server holds the drawing of when it was asked; strokes made since then are kept.
  if (mode === "annotate" && value.view === key && drawn && value.labels !== drawn) {
    props.value = { ...value, labels: drawn };
    trigger("input");
  }
  if (value.view === key && !value.given) return;
  const wanted = value.view, loaded = await server.view(wanted);
  if (!props.value || props.value.view !== wanted) return;  // another picture came meanwhile
  await show(loaded, wanted);
}

async function show(loaded, wanted = null) {
  const image = loaded && await createImageBitmap(await blobOf(loaded.image));
  grid = loaded && gridOf(loaded);
  const same = Boolean(loaded && view && loaded.digest && loaded.digest === view.digest), value = props.value || {};
  if (loaded) await readGlands(loaded);
  view = loaded; key = wanted; picture = image;
  element.toggleAttribute("data-slide", Boolean(loaded?.tile_px));
  element.dataset.state = !loaded ? "empty" : loaded.data ? "result" : "picture";
  if (!loaded) { readout.textContent = ""; cursor = null; if (mode === "annotate") sessionStorage.removeItem(LAST); return; }
  if (!same) { cursor = null; mpp = loaded.mpp; }
  find(".gl-name").textContent = `${view.name} · ${number(view.full[0])} × ${number(view.full[1])} px`;
  stage.style.setProperty("--ratio", view.width / view.height);
  stage.setAttribute("aria-label", mode === "segment" ? `${view.name}, not segmented yet`
    : `Drawing area over ${view.name}. Arrow keys move the pen, Enter puts it down and lifts it.`);
  if (!same) fit();
  if (view.tile_px) showSlide(same);
  if (mode === "segment") showResult(value); else await showDrawing(same, value);
  draw();
}

function showResult(value) {
  choice = { uncertain_below: value.uncertain_below ?? choice.uncertain_below, min_area: value.min_area ?? 0, accepted: new Set(), rejected: new Set() };
  keepChoice();
  if (ids) showBounds();
  applyChoice();
  say();
  if (ids && !value.example) bringIntoView();
}

// On a phone the picture lies below the controls.
function bringIntoView() {
  const box = element.getBoundingClientRect();
  if (box.width > 0.8 * innerWidth || box.top > 0.6 * innerHeight) element.scrollIntoView({ block: "start" });
}

async function showDrawing(same, value) {
  numbers = new Map([...glands.keys()].map((id) => [id, id]));
  sessionStorage.setItem(LAST, key);
  props.value = { view: key, labels: same && drawn || undefined };
  if (!same) { freshDrawing(); await bringBack(); }
  if (value.given) await takeOver(value);
  else if (ids) readout.textContent = "The tint shows where the model is uncertain; circles are the places where it is most so.";
  await suggestAgain();
}

// ---------------------------------------------------------------------------- drawings: kept, from files, taken over

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
    remember(values, false);
    readout.textContent = "Your drawing of this picture was still in this browser. Undo removes it.";
  } catch (unreadable) { localStorage.removeItem(SHELF + digest); }
}

// What the Segment tab hands over goes to where nothing is labelled yet.
async function takeOver({ given, edit }) {
  const values = await maskOf(await blobOf(given)), next = labels.slice();
  let fresh = 0;
  values.forEach((value, i) => { if (next[i] === UNLABELLED && value !== UNLABELLED) { next[i] = value; fresh++; } });
  if (fresh) remember(next);
  readout.textContent = "Taken over from the Segment tab: accepted glands are labelled, rejected ones are stroma. Undo removes them.";
  bringIntoView();
  if (!edit) return;
  const place = [edit[0] * view.width, edit[1] * view.height];
  find('[name="gl-tool"][value="points"]').click();
  openShape(place);
  if (shape) {
    const xs = shape.points.map((p) => p[0]), ys = shape.points.map((p) => p[1]);
    flyTo([Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)]);
  }
}

// The labels in a PNG of class numbers; throws in words for the user.
async function maskOf(blob) {
  const found = await pixels(blob).catch(() => { throw new Error("This is neither a picture nor GeoJSON; load a mask that was saved here, or annotations of QuPath."); });
  if (found.width !== view.width || found.height !== view.height) {
    throw new Error(`The mask has ${found.width} × ${found.height} px, the picture ${view.width} × ${view.height}: it belongs to another picture.`);
  }
  const values = new Uint8Array(labels.length), known = new Set([UNLABELLED, ...view.classes.map((item) => item.id)]);
  for (let i = 0; i < values.length; i++) {
    values[i] = found.data[4 * i];
    if (!known.has(values[i]) || found.data[4 * i + 1] !== values[i]) {
      throw new Error("The mask holds other values than the class numbers and 255: load the sparse mask that was saved here.");
    }
  }
  return values;
}

// The labels in annotations of QuPath's, laid over those that are there: [labels, message].
function labelsOf(text) {
  const file = JSON.parse(text), features = Array.isArray(file) ? file : file.features || [file], next = labels.slice();
  const scale = [view.width / view.full[0], view.height / view.full[1]], unknown = new Set();
  const toPicture = (points) => points.map((point) => scale.map((factor, i) => (point[i] - view.origin[i]) * factor));
  const nameOf = (properties) => properties?.classification?.name ?? properties?.classification ?? null;
  const byName = new Map([...view.classes.map((item) => [item.name.toLowerCase(), item.id]), ["background", 0], ["stroma", 0]]);
  // Of a derived class ("Gland: Atypical") that has no number of its own, that of the class it is derived from.
  const classOf = (name) => {
    for (let parts = name.toLowerCase().split(": "); parts.length; parts.pop()) {
      if (byName.has(parts.join(": "))) return byName.get(parts.join(": "));
    }
  };
  // Beside classified outlines, one without a class is the region that they lie in.
  const regions = features.some(({ properties }) => nameOf(properties) !== null);
  if (!regions && view.classes.length > 2 && features.some(({ geometry }) => geometry)) throw new Error("The outlines have no classes, and the model has several: classify them in QuPath.");
  const drawable = [];
  let unclassified = 0;
  for (const { geometry, properties } of features) {
    const name = nameOf(properties);
    if (name === null && regions) { unclassified++; continue; }
    const value = name === null ? view.classes[1].id : /^ignore/i.test(name) ? UNLABELLED : classOf(String(name));
    const parts = { Polygon: (c) => [c], MultiPolygon: (c) => c, LineString: (c) => [[c]], MultiLineString: (c) => c.map((line) => [line]) }[geometry?.type];
    if (value === undefined) unknown.add(name);
    else if (parts) drawable.push(...parts(geometry.coordinates).map((rings) => [value, rings.map(toPicture), /Line/.test(geometry.type)]));
  }
  // Stroma first: QuPath's users outline an area of it with the glands inside.
  const here = drawable.sort((a, b) => (a[0] !== 0) - (b[0] !== 0)).filter(([value, rings, line]) => {
    let pixels = 0;
    cover(rings, line ? penWidth() : 0, (i) => { next[i] = value; pixels++; });
    return pixels;
  });
  if (!drawable.length) throw new Error(unknown.size ? `No annotation has a class of this model; found ${[...unknown].join(", ")}.` : "The file holds no outline.");
  if (!here.length) throw new Error("No outline of the file covers a pixel of this picture: it belongs to another picture, or to another part of the slide.");
  return [next, `${plural(here.length, "outline")} loaded${here.length < drawable.length ? `; left out, as they cover no pixel of this picture: ${drawable.length - here.length}` : ""}${unclassified ? `; left out, as they have no class: ${unclassified}` : ""}${unknown.size ? `; left out, as the model has no such class: ${[...unknown].join(", ")}` : ""}. Undo brings back what was there before.`];
}

async function loadFile(file) {
  try {
    if (/json$/i.test(file.name)) {
      let found;
      try { found = labelsOf(await file.text()); } catch (problem) { throw problem instanceof SyntaxError || problem instanceof TypeError ? new Error(`${file.name} is no GeoJSON.`) : problem; }
      remember(found[0]);
      readout.textContent = found[1];
    } else {
      remember(await maskOf(file), false);
      readout.textContent = `${file.name} is loaded. Undo brings back what was there before.`;
    }
    shape = null;
  } catch (problem) { readout.textContent = problem.message; }
}

// ------------------------------------------------------------------------------------------------------------ events

document.addEventListener("gl-mpp", (event) => {
  if (event.detail.tab !== mode || !view) return;
  const typed = parseFloat((event.detail.text || "").replace(",", "."));
  mpp = typed > 0 && typed < 1000 ? typed : null;
  if (mode === "annotate") showWidth();
  if (view.tile_px) showCommand();
  draw();
});

watch("value", update);
update();
setInterval(() => { if (key) server.alive(key); }, 4 * 60 * 1000);  // the server forgets what nobody looks at
if (mode === "annotate" && !props.value && sessionStorage.getItem(LAST)) {  // after a reload: again, if the server still has it
  props.value = { view: sessionStorage.getItem(LAST) };
  update();
  trigger("submit");
}
