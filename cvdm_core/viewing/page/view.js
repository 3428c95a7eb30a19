// Geometry without a page: what is looked at, which pyramid level serves it, how long the scale bar is. Lengths in micrometres.

export class View {
  x = 0; // centre of every panel
  y = 0;
  umPerPixel = 1; // per CSS pixel
  t = 0;
  c = 0;
  z = 0;

  // Show a field {left, top, right, bottom} in panels of width x height CSS pixels.
  fit(field, width, height) {
    this.x = (field.left + field.right) / 2;
    this.y = (field.top + field.bottom) / 2;
    this.umPerPixel = Math.max((field.right - field.left) / width, (field.bottom - field.top) / height);
  }

  // Zoom by a factor (> 1: closer) about a point that stays where it is on the screen.
  zoom(factor, x, y) {
    this.x = x + (this.x - x) / factor;
    this.y = y + (this.y - y) / factor;
    this.umPerPixel /= factor;
  }
}

// Edges of pixel `index` .. `index` in one direction: a pixel reaches half its size to both sides of its centre.
export function edge(level, axis, index) {
  return level.origin_um[axis] + (index - 0.5) * level.pixel_um[axis];
}

export function field(level) {
  return { top: edge(level, 0, 0), left: edge(level, 1, 0), bottom: edge(level, 0, level.shape[0]), right: edge(level, 1, level.shape[1]) };
}

// The coarsest level whose pixels are no larger than the screen's.
export function chooseLevel(levels, umPerScreenPixel) {
  let chosen = 0;
  levels.forEach((level, number) => {
    if (Math.max(...level.pixel_um) <= umPerScreenPixel * 1.001) chosen = number;
  });
  return chosen;
}

// The tiles of a level that lie in a field: [row, column] pairs.
export function tilesIn(level, seen) {
  const along = (axis, from, to) => {
    const first = Math.floor((from - edge(level, axis, 0)) / level.pixel_um[axis] / level.tile);
    const last = Math.floor((to - edge(level, axis, 0)) / level.pixel_um[axis] / level.tile);
    const end = Math.ceil(level.shape[axis] / level.tile) - 1;
    return [Math.max(0, first), Math.min(end, last)];
  };
  const [top, bottom] = along(0, seen.top, seen.bottom);
  const [left, right] = along(1, seen.left, seen.right);
  const found = [];
  for (let row = top; row <= bottom; row++) for (let column = left; column <= right; column++) found.push([row, column]);
  return found;
}

// A round length (1, 2 or 5 times a power of ten) of at most `longest`.
export function niceLength(longest) {
  const power = 10 ** Math.floor(Math.log10(longest));
  return [5, 2, 1].find((step) => step * power <= longest * (1 + 1e-9)) * power;
}

export function lengthLabel(um) {
  const [value, unit] = um < 1 - 1e-9 ? [um * 1000, "nm"] : um >= 1000 ? [um / 1000, "mm"] : [um, "µm"];
  return `${Number(value.toPrecision(4))} ${unit}`;
}

// Counts whole, other values to five digits.
export function number(value) {
  if (Number.isInteger(value)) return String(value);
  return Number.isFinite(value) ? String(Number(value.toPrecision(5))) : "no value";
}
