/* Draws every .medrec-molecule of a page with 3Dmol: mouse, touch, or keys. Where WebGL is missing the text stays. */
"use strict";

(() => {
  // Told apart by lightness too; readable on white and on black.
  const COLOURS = {
    C: "#8a8a8a", N: "#4a7de0", O: "#e0453a", S: "#c9a400", P: "#e07b1f", F: "#3aa655", Cl: "#3aa655", Br: "#a05a3c",
    I: "#9a4fc4", H: "#cfcfcf",
  };
  const STYLE = {
    stick: { radius: 0.14, colorscheme: { prop: "elem", map: COLOURS } },
    sphere: { scale: 0.24, colorscheme: { prop: "elem", map: COLOURS } },
  };
  const STEP = 15; // degrees a key press turns

  function draw(figure) {
    const stage = figure.querySelector(".medrec-molecule-stage");
    const poses = JSON.parse(stage.dataset.poses);
    figure.classList.add("medrec-molecule-drawn"); // first: what is not displayed has no size to draw in
    const viewer = $3Dmol.createViewer(stage, { backgroundAlpha: 0, antialias: true });
    const models = poses.map((pose) => viewer.addModel(pose, "sdf"));
    models.forEach((model) => model.setStyle({}, STYLE));
    viewer.zoomTo();

    let shown = 0;
    const button = figure.querySelector("button");
    const show = (k) => {
      shown = (k + models.length) % models.length;
      models.forEach((model, i) => (i === shown ? model.show() : model.hide()));
      if (button) button.textContent = `Conformer ${shown + 1} of ${models.length}: next`;
      viewer.render();
    };
    if (button) {
      button.addEventListener("click", () => show(shown + 1));
      button.hidden = false;
    }
    const keys = {
      ArrowLeft: () => viewer.rotate(-STEP, "y"),
      ArrowRight: () => viewer.rotate(STEP, "y"),
      ArrowUp: () => viewer.rotate(-STEP, "x"),
      ArrowDown: () => viewer.rotate(STEP, "x"),
      "+": () => viewer.zoom(1.2),
      "-": () => viewer.zoom(1 / 1.2),
      n: () => show(shown + 1),
    };
    stage.addEventListener("keydown", (event) => {
      const act = !event.ctrlKey && !event.metaKey && !event.altKey && keys[event.key];
      if (!act) return;
      event.preventDefault();
      act();
      viewer.render();
    });
    // The wheel scrolls the page, unless the reader has chosen the molecule first.
    stage.addEventListener(
      "wheel",
      (event) => {
        if (document.activeElement !== stage) event.stopPropagation();
      },
      { capture: true },
    );
    stage.addEventListener("pointerdown", () => stage.focus({ preventScroll: true }));
    window.addEventListener("resize", () => viewer.resize());
    show(0);
  }

  const probe = document.createElement("canvas");
  if (probe.getContext("webgl2") || probe.getContext("webgl")) {
    document.querySelectorAll(".medrec-molecule").forEach(draw);
  }
})();
