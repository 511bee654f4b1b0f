// Tables in boxes of class medrec-sortable: each header cell becomes a button that sorts the rows by its column.
// Whole and decimal numbers are compared as numbers, other cells as text; empty ones, a dash, stay last.
(() => {
  "use strict";
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const words = (row, column) => row.cells[column].textContent.trim();
  const number = (text) => (/^-?\d[\d\s.]*$/.test(text) ? Number(text.replace(/\s/g, "")) : NaN);

  function compare(a, b) {
    const [x, y] = [number(a), number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? collator.compare(a, b) : x - y;
  }

  function sort(table, head, column) {
    const falling = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((one, other) => {
      const [a, b] = [words(one, column), words(other, column)];
      if (a === "–" || b === "–") return (a === "–") - (b === "–");
      return falling ? compare(b, a) : compare(a, b);
    });
    body.append(...rows);
  }

  for (const table of document.querySelectorAll(".medrec-sortable table")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent.trim();
      head.replaceChildren(button);
      button.addEventListener("click", () => sort(table, head, column));
    });
  }
})();
