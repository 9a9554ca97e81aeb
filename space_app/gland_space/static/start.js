// What the server's value puts on the stage.
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
