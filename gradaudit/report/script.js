(function () {
  "use strict";
  // Everything is readable without this script; it adds the gallery's filters and opens details for old print engines.
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details:not([open])").forEach(function (d) { d.open = true; d.dataset.print = "1"; });
  });
  window.addEventListener("afterprint", function () {
    document.querySelectorAll("details[data-print]").forEach(function (d) { d.open = false; delete d.dataset.print; });
  });
  var gallery = document.querySelector(".gallery");
  if (!gallery) { return; }
  var form = gallery.querySelector("form");
  var list = gallery.querySelector(".tiles");
  var tiles = Array.from(list.children).map(function (element) {
    return { element: element, levels: JSON.parse(element.dataset.levels), values: JSON.parse(element.dataset.values) };
  });

  function heat(tile, region) {
    var values = region ? [tile.values[region]] : Object.values(tile.values);
    values = values.filter(function (v) { return typeof v === "number"; });
    return values.length ? Math.max.apply(null, values) : null;
  }

  function passes(tile) {
    var level = form.level.value ? JSON.parse(form.level.value) : null;
    var region = form.region.value;
    if (level && tile.levels[level[0]] !== level[1]) { return false; }
    if (region && typeof tile.values[region] !== "number") { return false; }
    return !form.verdict.value || tile.element.dataset.verdict === form.verdict.value;
  }

  function arrange() {
    var direction = { up: 1, down: -1 }[form.order.value] || 0;
    var region = form.region.value;
    var ordered = tiles.slice();
    if (direction) {
      ordered.sort(function (a, b) {
        var x = heat(a, region), y = heat(b, region);
        if (x === null || y === null) { return (x === null) - (y === null); }
        return direction * (x - y);
      });
    }
    var shown = 0;
    ordered.forEach(function (tile) {
      tile.element.hidden = !passes(tile);
      shown += tile.element.hidden ? 0 : 1;
      list.appendChild(tile.element);
    });
    form.shown.value = shown + " of " + tiles.length + " images";
  }

  form.addEventListener("change", arrange);
  form.addEventListener("submit", function (event) { event.preventDefault(); });
  form.addEventListener("input", function () {
    gallery.style.setProperty("--heat-opacity", form.opacity.value / 100);
    gallery.classList.toggle("no-outlines", !form.outlines.checked);
  });
  form.reset();
  form.hidden = false;
  arrange();
})();
