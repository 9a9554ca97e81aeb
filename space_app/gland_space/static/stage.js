// What the result view and the drawing area share, put before the script of either: finding parts, reading pixels, and
// stages: boxes of equal shape, each with a `.gl-layer` of pictures over each other, that zoom and pan as one.
const find = (selector) => element.querySelector(selector);
const all = (selector) => [...element.querySelectorAll(selector)];

function make(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

function shape(name, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// A picture's values as they are in its file: RGBA bytes, width and height.
async function pixels(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const { width, height } = bitmap, canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return { width, height, data: context.getImageData(0, 0, width, height).data };
}
const blobOf = async (uri) => (await fetch(uri)).blob();

// size(): [width, height] of the picture, or null. Called with places in the picture's pixels: hover(place or null),
// tap(place); zoomed() after every change of the zoom; key(event): true where it was understood. With `draw` (begin, move,
// end, cancel), one pointer draws unless pans() says that it moves the picture; a second finger always zooms.
function makeStages(stages, { size, hover = () => {}, tap = () => {}, zoomed = () => {}, key = () => false, draw = null,
  pans = () => !draw }) {
  let zoom = { scale: 1, x: 0, y: 0 };

  function set(next) {
    const scale = Math.min(Math.max(next.scale, 1), 16), bound = (value) => Math.min(Math.max(value, 1 - scale), 0);
    zoom = { scale, x: bound(next.x), y: bound(next.y) };
    for (const stage of stages) {
      stage.querySelector(".gl-layer").style.transform = `translate(${100 * zoom.x}%, ${100 * zoom.y}%) scale(${scale})`;
      stage.classList.toggle("gl-zoomed", scale > 1);
    }
    find(".gl-zoom").textContent = `${Math.round(100 * scale)} %`;
    zoomed();
  }
  function at(factor, x = 0.5, y = 0.5) {
    const scale = Math.min(Math.max(zoom.scale * factor, 1), 16), ratio = scale / zoom.scale;
    set({ scale, x: x - (x - zoom.x) * ratio, y: y - (y - zoom.y) * ratio });
  }
  const fit = () => set({ scale: 1, x: 0, y: 0 });
  function locate(event, stage) {
    const box = stage.getBoundingClientRect(), [width, height] = size();
    return [((event.clientX - box.left) / box.width - zoom.x) / zoom.scale * width,
      ((event.clientY - box.top) / box.height - zoom.y) / zoom.scale * height];
  }
  // Where a place of the picture lies on a stage, in px of the screen.
  function onStage([x, y], stage) {
    const box = stage.getBoundingClientRect(), [width, height] = size();
    return [(x / width * zoom.scale + zoom.x) * box.width, (y / height * zoom.scale + zoom.y) * box.height];
  }
  // The place that an arrow key leads to, or null for another key.
  function arrow(event, from) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step) return null;
    const [width, height] = size(), start = from || [width / 2, height / 2];
    const far = Math.max(width, height) * (event.shiftKey ? 0.05 : 0.01) / zoom.scale;
    return [Math.min(Math.max(start[0] + step[0] * far, 0), width - 1), Math.min(Math.max(start[1] + step[1] * far, 0), height - 1)];
  }

  function listen(stage) {
    const fingers = new Map();
    let travelled = 0, drawing = null;
    stage.addEventListener("pointerdown", (event) => {
      if (!size()) return;
      fingers.set(event.pointerId, event);
      travelled = 0;
      if (drawing !== null) { draw.cancel(); drawing = null; }
      else if (draw && fingers.size === 1 && event.button === 0 && !pans()) {
        drawing = event.pointerId;
        stage.setPointerCapture(drawing);
        draw.begin(locate(event, stage));
        event.preventDefault();
        stage.focus({ preventScroll: true });
      }
    });
    stage.addEventListener("pointermove", (event) => {
      if (!size()) return;
      const before = fingers.get(event.pointerId);
      if (event.pointerId === drawing) {
        const moves = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
        draw.move((moves.length ? moves : [event]).map((one) => locate(one, stage)));
        return;
      }
      if (!before) { hover(locate(event, stage)); return; }
      const box = stage.getBoundingClientRect(), dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
      travelled += Math.abs(dx) + Math.abs(dy);
      if (fingers.size === 2) {
        const other = [...fingers.values()].find((one) => one.pointerId !== event.pointerId);
        const distance = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
        at(distance(event) / distance(before), (other.clientX - box.left) / box.width, (other.clientY - box.top) / box.height);
      } else if (zoom.scale > 1) {
        stage.setPointerCapture(event.pointerId);
        set({ scale: zoom.scale, x: zoom.x + dx / box.width, y: zoom.y + dy / box.height });
      }
      fingers.set(event.pointerId, event);
    });
    const release = (event) => {
      fingers.delete(event.pointerId);
      if (event.pointerId !== drawing) return;
      drawing = null;
      if (event.type === "pointerup") draw.end(); else draw.cancel();
    };
    stage.addEventListener("pointerup", release);
    stage.addEventListener("pointercancel", release);
    stage.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") { release(event); hover(null); } });
    stage.addEventListener("click", (event) => { if (size() && !draw && travelled <= 6) tap(locate(event, stage)); });
    stage.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;  // plain scrolling belongs to the page
      event.preventDefault();
      const box = stage.getBoundingClientRect();
      at(Math.exp(-event.deltaY / 300), (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    }, { passive: false });
    stage.addEventListener("keydown", (event) => {
      if (!size() || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "+" || event.key === "=") at(1.5);
      else if (event.key === "-") at(1 / 1.5);
      else if (event.key === "0") fit();
      else if (!key(event)) return;
      event.preventDefault();
    });
  }

  stages.forEach(listen);
  for (const button of all("[data-zoom]")) button.addEventListener("click", () => {
    if (button.dataset.zoom === "fit") fit(); else at(button.dataset.zoom === "in" ? 1.5 : 1 / 1.5);
  });
  return { fit, onStage, arrow };
}

// The server forgets what nobody looks at.
function stayAlive(key) { setInterval(() => { if (key()) server.alive(key()); }, 4 * 60 * 1000); }
