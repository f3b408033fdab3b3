const text = document.getElementById("filter-text"), kind = document.getElementById("filter-class");
const rows = [...document.querySelectorAll("#layers tbody tr")], count = document.getElementById("filter-count");
function filter() {
  const wanted = text.value.toLowerCase();
  let shown = 0;
  for (const row of rows) {
    const fits = row.cells[0].textContent.toLowerCase().includes(wanted) && (!kind.value || row.dataset.kind === kind.value);
    row.hidden = !fits;
    shown += fits;
  }
  count.textContent = `${shown} of ${rows.length}`;
}
if (text) { text.addEventListener("input", filter); kind.addEventListener("change", filter); filter(); }
