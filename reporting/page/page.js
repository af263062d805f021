// Optional: sorts tables by a column and filters their rows. Everything can be read without it.
(() => {
  const rowsOf = (body) => {
    // A published row stays below the row it belongs to.
    const blocks = [];
    for (const row of body.rows) {
      if (row.className && blocks.length) blocks[blocks.length - 1].push(row);
      else blocks.push([row]);
    }
    return blocks;
  };
  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows].at(-1).cells;
    [...heads].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const falling = head.getAttribute("aria-sort") !== "descending" && column > 0;
        const again = column === 0 && head.getAttribute("aria-sort") === "ascending";
        const sign = falling || again ? -1 : 1;
        const key = (block) => {
          const cell = block[0].cells[column];
          return column && cell.dataset.v !== undefined ? Number(cell.dataset.v) : column ? null : cell.textContent;
        };
        const blocks = rowsOf(table.tBodies[0]).sort((a, b) => {
          const [x, y] = [key(a), key(b)];
          if (x === null || y === null) return (x === null) - (y === null);
          return sign * (typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y);
        });
        table.tBodies[0].append(...blocks.flat());
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", sign < 0 ? "descending" : "ascending");
      });
    });
  }
  const box = document.createElement("p");
  box.className = "filter";
  box.innerHTML = '<label for="filter">Show only rows with</label><input id="filter" type="search" placeholder="e.g. SoftCPT">';
  document.querySelector("nav").append(box);
  box.querySelector("input").addEventListener("input", (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    for (const body of document.querySelectorAll("tbody")) {
      for (const block of rowsOf(body)) {
        const hide = wanted && !block[0].cells[0].textContent.toLowerCase().includes(wanted);
        for (const row of block) row.hidden = hide;
      }
    }
  });
})();
