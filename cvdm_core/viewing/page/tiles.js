// Tiles from the server: fetched a few at a time, the newest wish first, and kept while there is room.

const IN_FLIGHT = 6;
const AGAIN_AFTER = 1500; // ms until a tile that could not be had is asked for again
const ARRAYS = {
  uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array, int32: Int32Array,
  float32: Float32Array, float64: Float64Array,
};

export class Tiles {
  room = 384 * 2 ** 20; // bytes, of pixels and of what is drawn from them; what is on the screen is kept even if it needs more
  #kept = new Map(); // in order of use
  #wanted = new Map(); // by panel
  #flying = new Set();
  #bytes = 0;

  // `changed` is called when a tile has come, `replaced` when the store is another one than the page knows.
  constructor(changed, replaced) {
    this.changed = changed;
    this.replaced = replaced;
  }

  get idle() {
    return this.#flying.size === 0 && this.#next() === undefined;
  }

  // The tile if it is here: {pixels, width, height} or {problem}.
  get(address) {
    const tile = this.#kept.get(address);
    if (tile === undefined) return undefined;
    this.#kept.delete(address);
    this.#kept.set(address, tile);
    return tile;
  }

  // What a panel needs now, in order; what it needed before and is not on its way is forgotten.
  want(panel, requests) {
    this.#wanted.set(panel, requests);
    this.#pump();
  }

  forget(panel) {
    this.#wanted.delete(panel);
  }

  #next() {
    for (const requests of this.#wanted.values()) {
      for (const request of requests) {
        const tile = this.#kept.get(request.address);
        const due = tile === undefined || (tile.again !== undefined && tile.again <= performance.now());
        if (due && !this.#flying.has(request.address)) return request;
      }
    }
    return undefined;
  }

  #pump() {
    while (this.#flying.size < IN_FLIGHT) {
      const request = this.#next();
      if (request === undefined) return;
      this.#flying.add(request.address);
      this.#fetch(request).then((tile) => {
        this.#flying.delete(request.address);
        this.#keep(request.address, tile);
        this.#pump();
        this.changed();
      });
    }
  }

  async #fetch({ address, version, dtype, width, height }) {
    try {
      const response = await fetch(address.slice(address.indexOf(" ") + 1));
      if (response.ok && response.headers.get("ETag") === `"${version}"`) {
        const pixels = new ARRAYS[dtype](await response.arrayBuffer());
        if (pixels.length === width * height) return { pixels, width, height };
      }
      if (response.ok || response.status === 503) this.replaced();
      return this.#failed(response.ok ? "The image was replaced." : (await response.text()).trim());
    } catch {
      return this.#failed("The server does not answer.");
    }
  }

  #failed(problem) {
    setTimeout(() => this.changed(), AGAIN_AFTER + 50);
    return { problem, again: performance.now() + AGAIN_AFTER };
  }

  #keep(address, tile) {
    this.#remove(address);
    this.#kept.set(address, tile);
    this.#bytes += size(tile);
    if (this.#bytes <= this.room) return;
    // What is wanted must stay: it would be fetched again at once, and push out what else is wanted, without end.
    const wanted = new Set([...this.#wanted.values()].flatMap((requests) => requests.map((request) => request.address)));
    for (const oldest of [...this.#kept.keys()]) {
      if (this.#bytes <= this.room) break;
      if (oldest !== address && !wanted.has(oldest)) this.#remove(oldest);
    }
  }

  #remove(address) {
    const tile = this.#kept.get(address);
    if (tile === undefined) return;
    this.#bytes -= size(tile);
    this.#kept.delete(address);
  }
}

function size(tile) {
  return tile.pixels ? tile.pixels.byteLength + 4 * tile.pixels.length : 0;
}
