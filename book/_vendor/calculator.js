/* Metrics of a list that the reader ticks: the definitions of medrec.metrics on one visit. No network, no library. */
"use strict";

const medrecCalculator = (() => {
  const quotient = (above, below) => (below > 0 ? above / below : 0);

  /* Numbers of one visit; lists are arrays of codes without repeats, pairs an array of [code, code]. */
  function measure(prescribed, recommended, pairs) {
    const listed = new Set(recommended);
    const shared = prescribed.filter((code) => listed.has(code)).length;
    const n = listed.size;
    const interacting = pairs.filter(([a, b]) => listed.has(a) && listed.has(b)).length;
    return {
      jaccard: quotient(shared, prescribed.length + n - shared),
      precision: quotient(shared, n),
      recall: quotient(shared, prescribed.length),
      f1: quotient(2 * shared, prescribed.length + n),
      medications: n,
      ddi: quotient(interacting, (n * (n - 1)) / 2),
    };
  }

  /* What was missed and added, and what interacts, in words. */
  function words(prescribed, recommended, pairs) {
    const named = (codes) => codes.join(", ") || "none";
    const missed = prescribed.filter((code) => !recommended.includes(code)).sort();
    const added = recommended.filter((code) => !prescribed.includes(code)).sort();
    const found = pairs.filter(([a, b]) => recommended.includes(a) && recommended.includes(b));
    return (
      `Missed: ${named(missed)}. Added: ${named(added)}. ` +
      `Interacting pairs in the recommended list: ${named(found.map(([a, b]) => `${a} with ${b}`))}.`
    );
  }

  function start(figure) {
    const { pairs } = JSON.parse(figure.dataset.knowledge);
    const boxes = [...figure.querySelectorAll("input[type=checkbox]")];
    // The example is what the page was written with; a browser may have kept other ticks since.
    boxes.forEach((box) => (box.checked = box.defaultChecked));
    const list = (which) => boxes.filter((box) => box.dataset.list === which && box.checked).map((box) => box.value);
    const show = () => {
      const [prescribed, recommended] = [list("prescribed"), list("recommended")];
      const numbers = measure(prescribed, recommended, pairs);
      for (const [name, number] of Object.entries(numbers)) {
        const place = figure.querySelector(`[data-result="${name}"]`);
        place.textContent = number.toFixed(name === "medications" ? 0 : 3);
      }
      figure.querySelector('[data-result="words"]').textContent = words(prescribed, recommended, pairs);
    };
    const tick = (which, wanted) => boxes.filter((box) => box.dataset.list === which).forEach(wanted);
    const acts = {
      example: () => boxes.forEach((box) => (box.checked = box.defaultChecked)),
      clear: () => boxes.forEach((box) => (box.checked = false)),
      copy: () => {
        const prescribed = list("prescribed");
        tick("recommended", (box) => (box.checked = prescribed.includes(box.value)));
      },
    };
    figure.querySelector(".medrec-calculator-buttons").hidden = false;
    figure.addEventListener("change", show);
    figure.addEventListener("click", (event) => {
      const act = acts[event.target.dataset.act];
      if (!act) return;
      act();
      show();
    });
    show();
  }

  if (typeof document !== "undefined") document.querySelectorAll(".medrec-calculator").forEach(start);
  return { measure, words };
})();

if (typeof module !== "undefined") module.exports = medrecCalculator;
