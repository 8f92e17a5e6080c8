"use strict";
// Everything that a result says is put in as text, never as markup.
const byId = (id) => document.getElementById(id);
const map = L.map("map", { attributionControl: false }).setView([0, 0], 2);
L.control.scale({ imperial: false }).addTo(map);
let layers = [];
let sites = {};
const drawn = { picture: null, change: null };

function tiles(name) {
  const path = name.split("/").map(encodeURIComponent).join("/");
  return L.tileLayer(`/tiles/{z}/{x}/{y}/${path}.png`, { maxNativeZoom: 22, maxZoom: 22 });
}

function draw(kind, layer) {
  if (drawn[kind]) drawn[kind].remove();
  drawn[kind] = layer ? tiles(layer.name).setZIndex(kind === "change" ? 2 : 1).addTo(map) : null;
}

const of = (kind) => layers.filter((l) => l.kind === kind && l.site_id === byId("site").value);

function option(select, value, text) {
  const made = document.createElement("option");
  made.value = value;
  made.textContent = text;
  select.append(made);
}

function showPicture() {
  const pictures = of("picture").sort((a, b) => String(a.acquired).localeCompare(String(b.acquired)));
  const chosen = pictures[Number(byId("time").value)];
  const day = chosen ? String(chosen.acquired).slice(0, 10) : "";
  byId("day").textContent = chosen ? `${day}, ${chosen.sensor}` : "no picture";
  byId("time").setAttribute("aria-valuetext", byId("day").textContent);
  byId("credit").textContent = chosen ? `${chosen.attribution} ${day.slice(0, 4)}` : "";
  draw("picture", chosen);
}

function showChange() {
  draw("change", of("change").find((l) => l.name === byId("change").value));
}

function showSite() {
  const site = sites[byId("site").value];
  byId("reason").textContent = site ? site.properties.reason : "";
  const pictures = of("picture").length;
  byId("time").disabled = pictures < 2;
  byId("time").max = Math.max(0, pictures - 1);
  byId("time").value = Math.max(0, pictures - 1);
  byId("change").replaceChildren();
  option(byId("change"), "", "none");
  for (const l of of("change")) option(byId("change"), l.name, `${l.feature}, ${l.sensor}`);
  if (byId("change").options.length > 1) byId("change").selectedIndex = 1;
  if (site) map.fitBounds(L.geoJSON(site).getBounds().pad(0.1));
  showPicture();
  showChange();
}

async function start() {
  const asked = await Promise.all([fetch("/layers"), fetch("/ogc/collections/sites/items?limit=10000")]);
  const [found, places] = await Promise.all(asked.map((answer) => answer.json()));
  layers = found;
  for (const site of places.features) {
    sites[site.properties.site_id] = site;
    option(byId("site"), site.properties.site_id, site.properties.name);
  }
  L.geoJSON(places, { style: { color: "#1B2733", weight: 2, fill: false } }).addTo(map);
  byId("site").addEventListener("change", showSite);
  byId("change").addEventListener("change", showChange);
  byId("time").addEventListener("input", showPicture);
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  showSite();
}

start().catch(() => {
  byId("reason").textContent = "The result cannot be read; is 'compoundwatch serve' still running?";
});
