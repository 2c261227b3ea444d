// Tables inside <div class="sortable" markdown> sort by the column that is clicked: numbers as numbers, else as text.
// `document$` is Material's stream of pages.
document$.subscribe(() => {
  const value = (row, column) => {
    const text = row.cells[column].textContent.trim();
    const number = parseFloat(text.replace(/,/g, ""));
    return Number.isNaN(number) || /^[a-z_]/i.test(text) ? text : number;
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });

  document.querySelectorAll(".sortable table").forEach((table) => {
    const body = table.tBodies[0];
    [...table.tHead.rows[0].cells].forEach((header, column) => {
      const sort = () => {
        const ascending = header.getAttribute("aria-sort") !== "ascending";
        [...table.tHead.rows[0].cells].forEach((other) => other.removeAttribute("aria-sort"));
        header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        const rows = [...body.rows].sort((a, b) => compare(value(a, column), value(b, column)) * (ascending ? 1 : -1));
        body.append(...rows);
      };
      header.setAttribute("role", "button");
      header.setAttribute("tabindex", "0");
      header.addEventListener("click", sort);
      header.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
    });
  });
});
