// Shows the layer under the pointer or the finger in one line below the plot. Without scripts, tool tips do the same.
for (const figure of document.querySelectorAll("figure")) {
  const output = figure.querySelector("output");
  const words = new Map();
  for (const column of figure.querySelectorAll(".column")) {
    words.set(column, column.textContent);
    column.replaceChildren();
  }
  output.hidden = false;
  let marked = null;
  const show = (event) => {
    const column = document.elementFromPoint(event.clientX, event.clientY);
    if (!words.has(column) || column === marked) return;
    marked?.classList.remove("marked");
    column.classList.add("marked");
    marked = column;
    output.textContent = words.get(column);
  };
  figure.addEventListener("pointerdown", show);
  figure.addEventListener("pointermove", show);
}
