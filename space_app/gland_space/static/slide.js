// Slides: what is in sight comes in tiles from the levels of the slide's file, and a part of it is chosen for the model.
const KEPT_TILES = TOUCH ? 48 : 96, MOST_TILES = 8;  // kept: a megabyte each; asked for at a time
let tiles = new Map();  // "level/column/row": its image, the least recently shown first
let asking = false, lost = false;  // a request is under way; the server has the slide no more
let rectangle = null;  // drawn by the visitor: [left, top, right, bottom] in pixels of the file
let choosing = false, corner = null;

const sight = () => [at.x, at.y, at.x + stage.clientWidth / at.scale, at.y + stage.clientHeight / at.scale].map((value) => value * view.full[0] / view.width);
const inFile = (box) => box.map((value, i) => clamp(value, 0, view.full[i % 2]));

// The tiles that show what is in sight at the screen's own resolution; none where the overview is as fine.
function wantedTiles() {
  const level = Math.max(Math.floor(-Math.log2(fileScale() * (devicePixelRatio || 1))), 0), side = view.tile_px * 2 ** level;
  if (2 ** level >= view.full[0] / view.width) return [];
  const [left, top, right, bottom] = inFile(sight()).map((value, i) => i < 2 ? Math.floor(value / side) : Math.ceil(value / side)), wanted = [];
  for (let row = top; row < bottom; row++) for (let column = left; column < right; column++) wanted.push({ level, column, row, name: `${level}/${column}/${row}` });
  const far = ({ column, row }) => Math.hypot(column + 0.5 - (left + right) / 2, row + 0.5 - (top + bottom) / 2);
  return wanted.sort((a, b) => far(a) - far(b));
}

// One request at a time: when it is answered, what is in sight by then is asked for.
async function sharpen(wanted) {
  const missing = wanted.filter((tile) => !tiles.has(tile.name)).slice(0, MOST_TILES), { digest } = view;
  stage.dataset.sharp = missing.length ? "" : wanted.length ? wanted[0].level : "overview";  // for who looks from outside
  if (!missing.length || asking || lost) return;
  asking = true;
  try {
    const found = await server.tiles({ view: key, level: missing[0].level, at: missing.map((tile) => [tile.column, tile.row]) });
    const images = await Promise.all((found || []).map(async (uri) => createImageBitmap(await blobOf(uri))));
    if (view?.digest === digest) {
      images.forEach((image, i) => tiles.set(missing[i].name, image));
      lost = !images.length;
    }
  } catch (unreachable) { lost = true; } finally { asking = false; }
  if (lost) readout.textContent = "The server has this slide no more: load it again to see it sharp.";
  while (tiles.size > KEPT_TILES) tiles.delete(tiles.keys().next().value);
  draw();
}

// Drawn to whole pixels of the screen, as edges that cover a pixel by half would show as lines.
function drawTile(context, name, image) {
  const [level, column, row] = name.split("/").map(Number), side = view.tile_px * 2 ** level, { a: scale, e, f } = context.getTransform();
  const edge = (index, i) => Math.round(Math.min(index * side, view.full[i]) * view.width / view.full[0] * scale + [e, f][i]);
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.drawImage(image, edge(column, 0), edge(row, 1), edge(column + 1, 0) - edge(column, 0), edge(row + 1, 1) - edge(row, 1));
  context.setTransform(scale, 0, 0, scale, e, f);
}

layers.push((context) => {
  if (!view.tile_px) { delete stage.dataset.sharp; return; }
  const wanted = wantedTiles(), finest = wanted[0]?.level ?? Infinity;
  for (const { name } of wanted) if (tiles.has(name)) { const image = tiles.get(name); tiles.delete(name); tiles.set(name, image); }
  const shown = [...tiles].filter(([name]) => parseInt(name) >= finest);  // coarse ones below, where finer ones are on their way
  for (const [name, image] of shown.sort(([a], [b]) => parseInt(b) - parseInt(a))) drawTile(context, name, image);
  sharpen(wanted);
  choosePart();
}, (context, unit) => {
  if (!view.tile_px) return;
  const outline = ([left, top, right, bottom], colour, dash) => {
    const share = view.width / view.full[0], box = [left * share, top * share, (right - left) * share, (bottom - top) * share];
    for (const [style, width] of [["rgba(0, 0, 0, .6)", 4], [colour, 2]]) {
      Object.assign(context, { strokeStyle: style, lineWidth: width * unit });
      context.setLineDash(dash.map((length) => length * unit));
      context.strokeRect(...box);
    }
  };
  const [left, top, width, height] = view.part;
  if (view.data) outline([left, top, left + width, top + height], "#ffffff", []);
  if (rectangle) outline(rectangle, "#f0e442", [7, 5]);
});

// The part that Segment is about, in the value that the server gets: the rectangle, or else what is in sight.
function choosePart() {
  const part = inFile(rectangle || sight()).map(Math.round);
  if (mode === "segment" && props.value?.view === key && String(props.value.part) !== String(part)) props.value = { ...props.value, part };
}
function sizeOf([left, top, right, bottom]) {
  const size = [right - left, bottom - top];
  return mpp ? `${size.map((px) => +(px * mpp / 1000).toPrecision(3)).join(" × ")} mm` : `${size.map(Math.round).join(" × ")} px`;
}
function chooseRectangle(on) {
  choosing = on;
  find(".gl-choose").setAttribute("aria-pressed", String(on));
  stage.dataset.tool = on ? "choose" : "";
  if (on) readout.textContent = "Draw the rectangle that is to be segmented.";
}
function dropRectangle() { rectangle = null; chooseRectangle(false); draw(); }

// A slide, or another part of the `same` one, has come.
function showSlide(same) {
  rectangle = null; lost = false;
  if (!same) tiles = new Map();
  showCommand();
}
function showCommand() {
  const differs = mpp && mpp !== view.slide_mpp, text = view.command + (differs ? ` --mpp ${mpp}` : "");
  find(".gl-command").hidden = !view.command;
  find(".gl-command code").textContent = text;
  find(".gl-copy").textContent = "copy";
}

if (mode === "segment") {
  Object.assign(hand, {
    grab: (place) => {
      if (!choosing) return false;
      corner = place; travelled = Infinity;  // no click follows
      return true;
    },
    drag: (spots) => {
      const end = spots.at(-1), share = view.full[0] / view.width;
      rectangle = inFile([Math.min(corner[0], end[0]), Math.min(corner[1], end[1]), Math.max(corner[0], end[0]), Math.max(corner[1], end[1])].map((value) => value * share));
      readout.textContent = sizeOf(rectangle);
      draw();
    },
    drop: () => {
      chooseRectangle(false);
      if (rectangle) readout.textContent = `Segment works on this rectangle of ${sizeOf(rectangle)}; Esc takes it away.`;
    },
    abandon: dropRectangle,
  });
  find(".gl-choose").addEventListener("click", () => { if (view?.tile_px) chooseRectangle(!choosing); });
  stage.addEventListener("keydown", (event) => {
    if (!view?.tile_px || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "s") chooseRectangle(!choosing);
    else if (event.key === "Escape" && (rectangle || choosing)) dropRectangle();
  });
  find(".gl-copy").addEventListener("click", async () => {
    const code = find(".gl-command code");
    try { await navigator.clipboard.writeText(code.textContent); find(".gl-copy").textContent = "copied"; }
    catch (refused) { getSelection().selectAllChildren(code); }  // for Ctrl+C
  });
}
