"use strict";
// A click on a heading sorts by its column; another turns the order round. Cells without a value stay last.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const column = head.cellIndex;
    const body = head.closest("table").tBodies[0];
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const keyed = Array.from(body.rows, (row) => [row.cells[column].dataset.sort ?? row.cells[column].textContent, row]);
    const numeric = keyed.every(([key]) => key === "" || !Number.isNaN(Number(key)));
    keyed.sort(([a], [b]) => {
      if (a === "" || b === "") return (a === "") - (b === "");
      const order = numeric ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true });
      return down ? -order : order;
    });
    body.append(...keyed.map(([, row]) => row));
  });
}
// A link to the runs of an arm unfolds the list that holds them.
function unfold() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  const fold = target.closest("details");
  if (fold && !fold.open) fold.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", unfold);
unfold();
