// The page: builds the panels from scene.json, keeps them on one view, and looks again whether a stage has made something new.
import { connectPanel } from "./controls.js";
import { Panel } from "./panel.js";
import { Tiles } from "./tiles.js";
import { View } from "./view.js";

const LOOK_AGAIN = 4000; // ms
const ZOOM_STEP = 1.5; // of the buttons
const FIRST = ["input", "restored", "std", "truth"];
const byId = (id) => document.getElementById(id);

class Viewer {
  view = new View();
  panels = [];
  scene = null;
  steps = {}; // by axis: planes, step, unit
  #text = "";
  #fitted = false;
  #hidden = new Set(); // keys of the images that are not shown
  #known = new Set();
  #frame = 0;

  constructor() {
    this.tiles = new Tiles(() => this.redraw(), () => this.load());
    new ResizeObserver(() => this.redraw()).observe(byId("panels"));
    byId("channel").addEventListener("change", (event) => this.go({ c: event.target.selectedIndex }));
    for (const axis of ["z", "t"]) byId(axis).addEventListener("input", (event) => this.go({ [axis]: Number(event.target.value) }));
    byId("in").addEventListener("click", () => this.zoom(ZOOM_STEP));
    byId("out").addEventListener("click", () => this.zoom(1 / ZOOM_STEP));
    byId("fit").addEventListener("click", () => this.fit());
  }

  #loading = null;

  // Several tiles may ask for it at once; it is done once.
  load() {
    this.#loading ??= this.#load().finally(() => (this.#loading = null));
    return this.#loading;
  }

  async #load() {
    let text;
    try {
      const response = await fetch("scene.json");
      if (!response.ok) throw new Error(await response.text());
      text = await response.text();
    } catch {
      byId("notes").textContent = "The server does not answer; start `cvdm view` again and open the address that it prints.";
      return;
    }
    this.scene = JSON.parse(text);
    byId("notes").textContent = this.scene.notes.join(" ");
    if (text === this.#text) return;
    this.#text = text;
    this.#build();
    if (!this.#fitted) this.fit();
    this.redraw();
  }

  #build() {
    const { acquisition, model, pixel_size, pictures } = this.scene;
    document.title = `${acquisition} · cvdm view`;
    byId("title").textContent = acquisition;
    byId("facts").textContent = `model ${model} · pixel size of the input ${pixel_size} · drag to move, wheel to zoom; all panels move together`;
    for (const { key } of pictures) {
      if (!this.#known.has(key) && !FIRST.includes(key)) this.#hidden.add(key);
      this.#known.add(key);
    }
    const old = this.panels;
    const same = (picture) => old.find((panel) => JSON.stringify(panel.picture) === JSON.stringify(picture));
    const shown = pictures.filter(({ key }) => !this.#hidden.has(key));
    this.panels = shown.map((picture) => same(picture) ?? this.#newPanel(picture));
    for (const panel of old) if (!this.panels.includes(panel)) this.tiles.forget(panel);
    byId("panels").replaceChildren(...this.panels.map((panel) => panel.element));
    this.#showChoices(pictures);
    this.#showAxes(pictures.find((picture) => picture.levels));
  }

  #newPanel(picture) {
    const panel = new Panel(picture, this.scene, this.view, this.tiles);
    connectPanel(panel, this);
    return panel;
  }

  #showChoices(pictures) {
    byId("shown").replaceChildren(...pictures.map(({ key }) => {
      const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: !this.#hidden.has(key) });
      box.addEventListener("change", () => {
        this.#hidden[box.checked ? "delete" : "add"](key);
        this.#build();
        this.redraw();
      });
      const label = document.createElement("label");
      label.append(box, key.replaceAll("_", " "));
      return label;
    }));
  }

  #showAxes(picture) {
    if (!picture) return;
    byId("channel").replaceChildren(...picture.channels.map((name) => Object.assign(document.createElement("option"), { textContent: name })));
    byId("channel-control").hidden = picture.channels.length < 2;
    for (const axis of ["z", "t"]) {
      byId(axis).max = picture.size[axis] - 1;
      byId(`${axis}-control`).hidden = picture.size[axis] < 2;
    }
    this.steps = { z: [picture.size.z, picture.z_step_um, "µm"], t: [picture.size.t, picture.time_step_s, "s"] };
    const { c, z, t } = this.view; // the image may have had more planes before
    this.go({ c: Math.min(c, picture.channels.length - 1), z: Math.min(z, picture.size.z - 1), t: Math.min(t, picture.size.t - 1) });
  }

  go(place) {
    Object.assign(this.view, place);
    byId("channel").selectedIndex = this.view.c;
    for (const [axis, [count, step, unit]] of Object.entries(this.steps)) {
      const index = this.view[axis];
      byId(axis).value = index;
      byId(`${axis}-text`).textContent = `${index + 1} of ${count}` + (step ? ` (${Number((index * step).toPrecision(6))} ${unit})` : "");
    }
    for (const panel of this.panels) panel.showWindow();
    this.redraw();
  }

  zoom(factor, x = this.view.x, y = this.view.y) {
    this.view.zoom(factor, x, y);
    this.redraw();
  }

  fit() {
    const panel = this.panels.find(({ field }) => field);
    this.#arrange();
    if (panel) this.view.fit(panel.field, panel.canvas.clientWidth, panel.canvas.clientHeight);
    this.#fitted ||= panel !== undefined;
    this.redraw();
  }

  point(place) {
    for (const panel of this.panels) panel.pointer = place;
    this.redraw();
  }

  // As many columns as make the panels largest.
  #arrange() {
    const main = byId("panels");
    const count = Math.max(1, this.panels.length);
    const edge = (columns) => Math.min(main.clientWidth / columns, main.clientHeight / Math.ceil(count / columns) - 80);
    const best = Array.from({ length: count }, (_, index) => index + 1).reduce((one, other) => (edge(other) > edge(one) ? other : one));
    main.style.gridTemplateColumns = `repeat(${best}, minmax(0, 1fr))`;
  }

  redraw() {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#arrange();
      for (const panel of this.panels) panel.draw();
    });
  }

  // Whether everything that is asked for is drawn: for the tests, and for the console.
  get settled() {
    return this.scene !== null && this.#frame === 0 && this.tiles.idle;
  }
}

window.viewer = new Viewer();
await window.viewer.load();
setInterval(() => window.viewer.load(), LOOK_AGAIN);
