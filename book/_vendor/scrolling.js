// What scrolls can be reached by keys: formulas that are wider than the page, which MathJax lets scroll.
(() => {
  const reach = () => {
    for (const formula of document.querySelectorAll('mjx-container[display="true"]')) {
      if (formula.scrollWidth > formula.clientWidth) formula.setAttribute("tabindex", "0");
      else formula.removeAttribute("tabindex");
    }
  };
  const begin = () => window.MathJax?.startup?.promise?.then(reach);
  window.addEventListener("load", begin);
  window.addEventListener("resize", reach);
})();
