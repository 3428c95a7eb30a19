"use strict";
// The before/after sliders: the pictures are those of the page, so that no byte is embedded twice.
for (const box of document.querySelectorAll(".compare")) {
  for (const part of ["before", "after"]) {
    box.querySelector("." + part).src = document.getElementById(box.dataset[part]).src;
  }
  const range = box.querySelector("input");
  const stage = box.querySelector(".stage");
  const move = () => stage.style.setProperty("--cut", range.value + "%");
  range.addEventListener("input", move);
  move();
  box.hidden = false;
}
