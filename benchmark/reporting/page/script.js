"use strict";
// The page is complete without this script. It sorts tables, enlarges pictures, shows two models side by side and marks
// the current section in the contents.

const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const announce = (text) => { document.querySelector("[role=status]").textContent = text; };

// -- sorting: missing values stay last; reference rows have a <tbody> of their own and do not move ----------------

const collator = new Intl.Collator("en", { numeric: true });

function sortKey(row, column, numeric) {
  const cell = row.cells[column];
  if (numeric) return "value" in cell.dataset ? Number(cell.dataset.value) : null;
  const text = cell.textContent.trim();
  return text === "-" || text === "" ? null : text;
}

function sort(heading) {
  const table = heading.closest("table");
  const button = heading.querySelector("button");
  const before = heading.getAttribute("aria-sort");
  const next = before === null ? button.dataset.first : before === "ascending" ? "descending" : "ascending";
  const sign = next === "ascending" ? 1 : -1;
  const numeric = heading.classList.contains("number");
  const keyed = [...table.tBodies[0].rows].map((row) => [sortKey(row, heading.cellIndex, numeric), row]);
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (numeric ? a - b : collator.compare(a, b));
  });
  table.tBodies[0].append(...keyed.map(([, row]) => row));
  all("th[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", next);
  announce(`sorted by ${button.textContent}, ${next}`);
}

for (const button of all("table.sortable thead button")) {
  button.disabled = false;
  button.addEventListener("click", () => sort(button.closest("th")));
}

// -- pictures ------------------------------------------------------------------------------------------------------

const dialog = document.querySelector("dialog");

for (const button of all(".zoom")) {
  const picture = button.querySelector("img");
  button.disabled = false;
  button.addEventListener("click", () => {
    const large = dialog.querySelector("img");
    large.src = picture.src;
    large.alt = picture.alt;
    dialog.querySelector("figcaption").textContent = picture.alt;
    dialog.showModal();
  });
}
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

for (const controls of all(".compare")) {
  const cards = all(".card", controls.parentElement);
  const [one, other] = all("select", controls);
  const show = () => {
    const chosen = [one.value, other.value].filter((value) => value !== "");
    cards.forEach((card, i) => { card.hidden = chosen.length > 0 && !chosen.includes(String(i)); });
    controls.parentElement.classList.toggle("comparing", chosen.length > 0);
    announce(chosen.length ? `${new Set(chosen).size} of ${cards.length} models shown` : "all models shown");
  };
  [one, other].forEach((select) => select.addEventListener("change", show));
  controls.hidden = false;
}

// -- contents ------------------------------------------------------------------------------------------------------

const links = new Map(all("nav a").map((link) => [document.getElementById(link.hash.slice(1)), link]));

const watcher = new IntersectionObserver((entries) => {
  const seen = entries.filter((entry) => entry.isIntersecting).pop();
  if (!seen) return;
  links.forEach((link) => link.removeAttribute("aria-current"));
  links.get(seen.target).setAttribute("aria-current", "true");
}, { rootMargin: "-10% 0px -75% 0px" });
links.forEach((link, section) => watcher.observe(section));
