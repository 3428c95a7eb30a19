// Pointer, wheel and keys on a panel; every panel moves all of them.

const STEP = 1.25; // zoom of one key or one notch of the wheel
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export function connectPanel(panel, viewer) {
  const { canvas, view } = panel;
  let held = null;
  canvas.addEventListener("pointerdown", (event) => {
    held = panel.at(event);
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const here = panel.at(event);
    if (held) {
      view.x += held.x - here.x;
      view.y += held.y - here.y;
    }
    viewer.point(held ?? here);
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (held = null));
  canvas.addEventListener("pointerleave", () => viewer.point(null));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const { x, y } = panel.at(event);
    const notches = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY / 100 : event.deltaY / 3;
    viewer.zoom(STEP ** -Math.max(-4, Math.min(4, notches)), x, y);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const arrow = ARROWS[event.key];
    if (arrow) {
      view.x += arrow[0] * 40 * view.umPerPixel;
      view.y += arrow[1] * 40 * view.umPerPixel;
      viewer.redraw();
    } else if (event.key === "+" || event.key === "=") viewer.zoom(STEP);
    else if (event.key === "-") viewer.zoom(1 / STEP);
    else if (event.key === "0") viewer.fit();
    else return;
    event.preventDefault();
  });
}
