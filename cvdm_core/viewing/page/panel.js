// One panel: a canvas that draws one image from its tiles, its display window, its scale bar.
import { chooseLevel, edge, field, lengthLabel, niceLength, number, tilesIn } from "./view.js";

const LABELS = { input: "input", restored: "restored", std: "standard deviation", truth: "truth", lower: "lower bound", upper: "upper bound" };
const BAR_SHARE = 0.25; // longest scale bar, as a share of the panel's width
const MISSING_STRIPES = 16; // CSS pixels

// A colour as a canvas holds it in memory (every browser's machine is little-endian).
function word([red, green, blue]) {
  return (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
}

export class Panel {
  constructor(picture, scene, view, tiles) {
    Object.assign(this, { picture, view, tiles, field: picture.levels && field(picture.levels[0]) });
    this.windows = (picture.windows ?? []).map((window) => [...window]);
    const colours = picture.key === "std" ? scene.sequential : Array.from({ length: 256 }, (_, grey) => [grey, grey, grey]);
    this.colours = Uint32Array.from(colours, word);
    this.missing = word(scene.missing_colour);
    this.element = document.getElementById("panel").content.cloneNode(true).firstElementChild;
    this.canvas = this.find("canvas");
    const label = LABELS[picture.key] ?? picture.key.replaceAll("_", " ");
    this.find(".name").textContent = label;
    this.canvas.setAttribute("aria-label", `${label}; arrow keys move, + and - zoom, 0 shows the whole field`);
    this.find(".problem").textContent = picture.problem ?? "";
    this.#connectWindow();
    this.pointer = null; // {x, y} in micrometres
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  get plane() {
    const { t, c, z } = this.picture.size;
    return [Math.min(this.view.t, t - 1), Math.min(this.view.c, c - 1), Math.min(this.view.z, z - 1)];
  }

  get window() {
    return this.windows[this.plane[1]];
  }

  // What the canvas shows, {left, top, right, bottom} in micrometres.
  get seen() {
    const { x, y, umPerPixel } = this.view;
    const [across, down] = [(this.canvas.clientWidth / 2) * umPerPixel, (this.canvas.clientHeight / 2) * umPerPixel];
    return { left: x - across, right: x + across, top: y - down, bottom: y + down };
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return {
      x: this.view.x + (event.clientX - box.left - box.width / 2) * this.view.umPerPixel,
      y: this.view.y + (event.clientY - box.top - box.height / 2) * this.view.umPerPixel,
    };
  }

  draw() {
    this.#drawBar();
    this.#drawPointer();
    if (!this.picture.levels) return;
    const ratio = window.devicePixelRatio;
    const [width, height] = [Math.round(this.canvas.clientWidth * ratio), Math.round(this.canvas.clientHeight * ratio)];
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    const { levels } = this.picture;
    const chosen = chooseLevel(levels, this.view.umPerPixel / ratio);
    const requests = [];
    let problem = "";
    // From coarse to fine, so that a coarse picture stands where the fine one has not come yet.
    for (let number = levels.length - 1; number >= chosen; number--) {
      for (const [row, column] of tilesIn(levels[number], this.seen)) {
        const request = this.#request(number, row, column);
        const tile = this.tiles.get(request.address);
        if (number === chosen) requests.push(request);
        if (tile?.pixels) this.#drawTile(context, ratio, levels[number], row, column, tile);
        if (tile?.problem && number === chosen) {
          problem = tile.problem;
          this.#drawMissing(context, ratio, levels[number], row, column);
        }
      }
    }
    this.level = chosen;
    this.find(".problem").textContent = problem;
    this.tiles.want(this, requests);
  }

  #request(number, row, column) {
    const { key, version, dtype, levels } = this.picture;
    const { tile, shape } = levels[number];
    return {
      address: `${version} tile/${encodeURIComponent(key)}/${[number, ...this.plane, row, column].join("/")}`,
      version, dtype, width: Math.min(tile, shape[1] - column * tile), height: Math.min(tile, shape[0] - row * tile),
    };
  }

  // Where part of a level lies on the canvas: whole device pixels, so that neighbouring tiles meet without a seam.
  #box(context, ratio, level, row, column) {
    const across = (index) => Math.round(((edge(level, 1, index) - this.view.x) / this.view.umPerPixel) * ratio + context.canvas.width / 2);
    const down = (index) => Math.round(((edge(level, 0, index) - this.view.y) / this.view.umPerPixel) * ratio + context.canvas.height / 2);
    const [top, left] = [row * level.tile, column * level.tile];
    const [x, y] = [across(left), down(top)];
    return [x, y, across(Math.min(left + level.tile, level.shape[1])) - x, down(Math.min(top + level.tile, level.shape[0])) - y];
  }

  #drawTile(context, ratio, level, row, column, tile) {
    const box = this.#box(context, ratio, level, row, column);
    this.#colour(tile);
    context.imageSmoothingEnabled = box[2] < tile.width; // shrunk: averaged; enlarged: the pixels as they are
    context.drawImage(tile.drawn, ...box);
  }

  #colour(tile) {
    const [low, high] = this.window;
    const name = `${low} ${high}`;
    if (tile.name === name) return;
    const image = new ImageData(tile.width, tile.height);
    const words = new Uint32Array(image.data.buffer);
    for (let index = 0; index < words.length; index++) {
      const value = tile.pixels[index];
      const shade = Math.round(Math.min(1, Math.max(0, (value - low) / (high - low))) * 255);
      words[index] = Number.isFinite(value) ? this.colours[shade] : this.missing;
    }
    tile.drawn ??= new OffscreenCanvas(tile.width, tile.height);
    tile.drawn.getContext("2d").putImageData(image, 0, 0);
    tile.name = name;
  }

  #drawMissing(context, ratio, level, row, column) {
    const [x, y, width, height] = this.#box(context, ratio, level, row, column);
    const step = MISSING_STRIPES * ratio;
    context.save();
    context.beginPath();
    context.rect(x, y, width, height);
    context.clip();
    context.strokeStyle = `rgb(${this.missing & 255} ${(this.missing >> 8) & 255} ${(this.missing >> 16) & 255})`;
    context.lineWidth = step / 4;
    context.beginPath();
    for (let shift = -height; shift < width; shift += step) {
      context.moveTo(x + shift, y + height);
      context.lineTo(x + shift + height, y);
    }
    context.stroke();
    context.restore();
  }

  #drawBar() {
    const longest = this.canvas.clientWidth * BAR_SHARE * this.view.umPerPixel;
    if (!(longest > 0)) return;
    const length = niceLength(longest);
    this.find(".bar b").textContent = lengthLabel(length);
    this.find(".bar i").style.width = `${length / this.view.umPerPixel}px`;
  }

  #drawPointer() {
    const cross = this.find(".cross");
    cross.style.display = this.pointer ? "block" : "none";
    this.find(".value").textContent = "";
    if (!this.pointer) return;
    cross.style.left = `${(this.pointer.x - this.view.x) / this.view.umPerPixel + this.canvas.clientWidth / 2}px`;
    cross.style.top = `${(this.pointer.y - this.view.y) / this.view.umPerPixel + this.canvas.clientHeight / 2}px`;
    const value = this.picture.levels && this.valueAt(this.pointer);
    if (value !== undefined) this.find(".value").textContent = number(value);
  }

  // The value under a point at the level that is shown, or undefined outside the image and where the tile has not come yet.
  valueAt({ x, y }) {
    const number = this.level ?? 0;
    const level = this.picture.levels[number];
    const row = Math.floor((y - edge(level, 0, 0)) / level.pixel_um[0]);
    const column = Math.floor((x - edge(level, 1, 0)) / level.pixel_um[1]);
    if (row < 0 || column < 0 || row >= level.shape[0] || column >= level.shape[1]) return undefined;
    const tile = this.tiles.get(this.#request(number, Math.floor(row / level.tile), Math.floor(column / level.tile)).address);
    return tile?.pixels?.[(row % level.tile) * tile.width + (column % level.tile)];
  }

  #connectWindow() {
    const setWindow = (end, value) => {
      if (!Number.isFinite(value)) return;
      const other = this.window[1 - end];
      if (end === 0 ? value < other : value > other) this.window[end] = value;
      this.showWindow();
      this.draw();
    };
    ["low", "high"].forEach((name, end) => {
      this.find(`.${name}`).addEventListener("input", (event) => setWindow(end, this.#fromSlider(Number(event.target.value))));
      this.find(`.${name}-number`).addEventListener("change", (event) => setWindow(end, Number(event.target.value)));
    });
    this.find(".reset").addEventListener("click", () => {
      this.windows[this.plane[1]] = [...this.picture.windows[this.plane[1]]];
      this.showWindow();
      this.draw();
    });
    this.find(".window").hidden = !this.picture.levels;
  }

  // The sliders reach from one width of the stored window below it to two above it.
  #fromSlider(position) {
    const [low, high] = this.picture.windows[this.plane[1]];
    return low + (high - low) * (position / 250 - 1);
  }

  showWindow() {
    if (!this.picture.levels) return;
    const [low, high] = this.picture.windows[this.plane[1]];
    ["low", "high"].forEach((name, end) => {
      this.find(`.${name}`).value = ((this.window[end] - low) / (high - low) + 1) * 250;
      this.find(`.${name}-number`).value = number(this.window[end]);
    });
  }
}
