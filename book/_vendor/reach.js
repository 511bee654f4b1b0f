// What theme, Sphinx and MathJax leave out of reach: formulas that scroll get a place among the keys' stops, and the
// triangles that open a branch of the contents get a name.
(() => {
  const formulas = () => {
    for (const formula of document.querySelectorAll('mjx-container[display="true"]')) {
      if (formula.scrollWidth > formula.clientWidth) formula.setAttribute("tabindex", "0");
      else formula.removeAttribute("tabindex");
    }
  };
  const triangles = () => {
    for (const triangle of document.querySelectorAll("nav summary")) {
      const page = triangle.closest("li")?.querySelector("a");
      if (page) triangle.setAttribute("aria-label", `Pages below ${page.textContent.trim()}`);
    }
  };
  // Sphinx calls the bibliography a list and its entries no items of it.
  const works = () => document.querySelectorAll('.citation-list[role="list"]').forEach((x) => x.removeAttribute("role"));
  window.addEventListener("load", () => {
    triangles();
    works();
    window.MathJax?.startup?.promise?.then(formulas);
  });
  window.addEventListener("resize", formulas);
})();
