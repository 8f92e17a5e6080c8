(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const texts = data.texts;
  const all = (selector, inside) => [...(inside || document).querySelectorAll(selector)];
  const make = (tag, text) => { const e = document.createElement(tag); e.textContent = text; return e; };
  document.documentElement.classList.add("js");

  // ---- table: sorted by a click on a heading, filtered by words and state
  const table = document.getElementById("table");
  const layers = {};
  if (table) {
    const body = table.tBodies[0];
    const heads = all("thead th", table);
    const order = new Intl.Collator(document.documentElement.lang, { numeric: true });
    const key = (row, column, kind) => {
      const text = row.cells[column].dataset.sort;
      return kind === "number" ? (text === "" ? null : Number(text)) : text || null;
    };
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const kind = head.dataset.kind;
      const rows = [...body.rows].map((row) => [key(row, column, kind), row]);
      rows.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null); // rows without a value stay below
        return (down ? -1 : 1) * (kind === "number" ? a - b : order.compare(a, b));
      });
      body.append(...rows.map(([, row]) => row));
    }));
    const wanted = document.getElementById("wanted");
    const state = document.getElementById("wanted-state");
    const found = document.getElementById("found");
    const filter = () => {
      const word = wanted.value.trim().toLowerCase();
      let n = 0;
      for (const row of body.rows) {
        const text = `${row.cells[0].textContent} ${row.dataset.more}`.toLowerCase();
        row.hidden = !text.includes(word) || (state.value !== "" && row.dataset.words !== state.value);
        const article = document.querySelector(row.cells[0].querySelector("a").getAttribute("href"));
        article.hidden = row.hidden;
        const layer = layers[article.id];
        if (layer) layer.getElement().classList.toggle("leaflet-hidden", row.hidden);
        if (!row.hidden) n += 1;
      }
      found.textContent = texts.shown.replace("%(n)s", n).replace("%(of)s", body.rows.length);
    };
    wanted.addEventListener("input", filter);
    state.addEventListener("change", filter);
    filter();
  }

  // ---- before and after: a slider over two pictures of the same pixels
  for (const figure of all(".together")) {
    const both = figure.querySelector(".both");
    const slider = figure.querySelector(".slide input");
    const cut = () => both.style.setProperty("--cut", `${slider.value}%`);
    slider.addEventListener("input", cut);
    const follow = (event) => {
      const box = both.getBoundingClientRect();
      slider.value = Math.round((100 * (event.clientX - box.left)) / box.width);
      cut();
    };
    both.addEventListener("pointerdown", (event) => { both.setPointerCapture(event.pointerId); follow(event); });
    both.addEventListener("pointermove", (event) => { if (event.buttons) follow(event); });
    cut();
  }

  // ---- pictures over time, one after the other
  for (const figure of all(".lapse")) {
    const stills = all(".still", figure);
    const slider = figure.querySelector("input");
    const button = figure.querySelector("button");
    let timer = null;
    const show = () => {
      stills.forEach((still, k) => still.classList.toggle("on", k === Number(slider.value)));
      slider.setAttribute("aria-valuetext", stills[slider.value].querySelector("b").textContent);
    };
    const stop = () => { clearInterval(timer); timer = null; button.textContent = texts.play; };
    const step = () => { slider.value = (Number(slider.value) + 1) % stills.length; show(); };
    button.addEventListener("click", () => {
      if (timer !== null) return stop();
      step();
      timer = setInterval(step, 900);
      button.textContent = texts.pause;
    });
    slider.addEventListener("input", () => { stop(); show(); });
    slider.value = stills.length - 1;
    show();
  }

  // ---- map
  const place = document.getElementById("map");
  if (place) {
    const map = L.map(place, {
      attributionControl: false, zoomControl: false, zoomSnap: 0.5, scrollWheelZoom: false, worldCopyJump: true,
    });
    place.setAttribute("role", "region");
    place.setAttribute("aria-label", texts.map);
    L.control.zoom({ zoomInTitle: texts.zoom_in, zoomOutTitle: texts.zoom_out }).addTo(map);
    L.control.scale({ imperial: false }).addTo(map);
    const points = data.sites.map((site) => site.point);
    if (points.length) map.fitBounds(L.latLngBounds(points).pad(0.15), { maxZoom: 15 });
    else map.setView([0, 0], 2);
    L.polyline(data.land, { color: "#7b8894", weight: 1, interactive: false }).addTo(map);
    const quiet = { weight: 1.2, color: "#4d5b68", dashArray: "4 3", fill: false, interactive: false };
    data.controls.forEach((control) => L.polygon(control.rings, quiet).addTo(map));
    for (const site of data.sites) {
      L.polygon(site.rings, { weight: 2, color: "#1b2733", fill: false, interactive: false }).addTo(map);
      site.patches.forEach((patch) =>
        L.polygon(patch.rings, { stroke: false, fillColor: patch.colour, fillOpacity: 0.75, interactive: false }).addTo(map));
    }
    for (const site of data.sites) {
      const box = document.createElement("div");
      const name = make("p", "");
      name.append(make("strong", site.name));
      const link = make("a", texts.open);
      link.href = `#site-${site.number}`;
      const more = make("p", "");
      more.append(link);
      box.append(name, make("p", site.dates ? `${site.words}, ${site.dates}` : site.words), more);
      const dot = L.circleMarker(site.point, {
        radius: 9, weight: 1.5, color: "#1b2733", fillColor: site.colour, fillOpacity: 0.9,
      }).bindPopup(box, { maxWidth: 260 }).addTo(map);
      const path = dot.getElement();
      path.setAttribute("tabindex", "0");
      path.setAttribute("role", "button");
      path.setAttribute("aria-label", `${site.name}: ${site.words}`);
      path.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); dot.openPopup(); }
      });
      layers[`site-${site.number}`] = dot;
    }
    // Dots would cover small sites: seen closely, outlines and patches speak for themselves.
    map.on("zoomend", () => Object.values(layers).forEach((dot) => dot.setStyle({ fillOpacity: map.getZoom() > 15 ? 0.15 : 0.9 })));
    const basemap = document.getElementById("basemap");
    if (basemap) {
      const tiles = L.tileLayer(data.basemap, { maxZoom: 19, referrerPolicy: "origin" });
      basemap.addEventListener("change", () => (basemap.checked ? tiles.addTo(map) : tiles.remove()));
    }
  }
})();
