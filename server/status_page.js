"use strict";
// The status page: asks for status.json every two seconds and shows it. What
// the server says goes into the document as text only, never as markup.

const POLL_MS = 2000;
const ANSWER_MS = 8000;

const $ = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// ---- numbers ----------------------------------------------------------------

// 64-bit integers and what is not finite are strings in protobuf JSON.
const number = (value) => (value === undefined || value === null ? NaN : Number(value));

function count(value) {
  value = number(value);
  if (!Number.isFinite(value)) return "–";
  for (const [unit, name] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (Math.abs(value) >= unit) {
      return (value / (unit === 1e4 ? 1e3 : unit)).toPrecision(4) + "\u2009" + name;
    }
  }
  return Number.isInteger(value) ? String(value) : String(+value.toPrecision(3));
}

const ratio = (value) => Number.isFinite(value) ? value.toFixed(4) : "–";

// 0.9887(12): the error in units of the last digits.
function estimate(message) {
  const value = number(message && message.value);
  const error = number(message && message.error);
  if (!Number.isFinite(value)) return "–";
  if (!(error > 0) || !Number.isFinite(error)) return String(+value.toPrecision(5));
  let digits = 1 - Math.floor(Math.log10(error));
  if (Math.round(error * 10 ** digits) >= 100) digits -= 1;
  if (digits <= 0) return `${Math.round(value)}(${Math.round(error)})`;
  if (digits > 20) return String(value);
  return `${value.toFixed(digits)}(${Math.round(error * 10 ** digits)})`;
}

function duration(seconds) {
  seconds = Math.max(0, number(seconds));
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.round(seconds % 3600 / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.round(seconds % 86400 / 3600)} h`;
}

function clock(date) {
  return date.toLocaleTimeString([], {hour12: false});
}

// A time of the server, in the reader's zone.
function moment(text) {
  const date = new Date(text);
  if (!text || Number.isNaN(date.getTime())) return "–";
  const two = (n) => String(n).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ` +
    `${two(date.getHours())}:${two(date.getMinutes())}`;
}

// ---- charts -----------------------------------------------------------------

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, typeof value === "number" ? value.toFixed(1) : value);
  }
  element.append(...children);
  return element;
}

function ticks(low, high, most) {
  const raw = (high - low) / most;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * unit).find((s) => s >= raw * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; ++k) {
    found.push(k * step);
  }
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return found.map((value) => [value, value >= 1e4 ? count(value) : value.toFixed(digits)]);
}

function powersOfTen(low, high) {
  const found = [];
  for (let k = Math.floor(Math.log10(low)); k <= Math.ceil(Math.log10(high)); ++k) {
    for (const m of [1, 2, 5]) {
      const value = m * 10 ** k;
      if (value >= low && value <= high) found.push([value, String(+value.toPrecision(1))]);
    }
  }
  return found;
}

function agesTicks(range) {
  const unit = range > 600 ? 900 : 60;
  const found = [[0, "now"]];
  for (let age = unit; age <= range; age += unit) {
    found.push([-age, `−${age / 60}${age + unit > range ? " min" : ""}`]);
  }
  return found;
}

// A figure: its title, legend, and a drawing that is made anew for every status
// and width. `draw(status)` gives what there is to see, or null:
//   x, y: [low, high]; xTicks; log: of y; points: [[x, y, error?]];
//   line, area: how points are joined; band: [[x, low, high]]; levels: [[y, class]];
//   reference: [[x, y]]; legend: [[class, text]]; name: in words
class Chart {
  constructor(title, empty) {
    this.legend = make("p", {class: "legend"});
    this.readout = make("output", {class: "readout"});
    this.empty = empty;
    this.box = make("div", {class: "plot"});
    this.element = make("figure", {}, make("figcaption", {},
      make("h3", {}, title), this.readout), this.box, this.legend);
    this.title = title;
    this.plan = null;
    this.width = 0;
    new ResizeObserver(() => {
      if (this.box.clientWidth !== this.width) this.draw();
    }).observe(this.box);
    this.box.addEventListener("pointermove", (event) => this.point(event));
    this.box.addEventListener("pointerleave", () => this.unpoint());
  }

  show(plan) {
    this.plan = plan;
    this.draw();
  }

  draw() {
    const width = this.box.clientWidth;
    this.width = width;
    const plan = this.plan;
    if (!width) return;
    if (!plan) {
      this.box.replaceChildren(make("p", {class: "nothing"}, this.empty));
      this.legend.replaceChildren();
      this.readout.textContent = "";
      return;
    }
    const height = 168, left = 54, right = 12, top = 8, bottom = 24;
    const [x0, x1] = plan.x, [y0, y1] = plan.y;
    const scale = plan.log ? Math.log : (value) => value;
    const px = (x) => left + (x - x0) / (x1 - x0) * (width - left - right);
    const py = (y) => {
      const share = (scale(y) - scale(y0)) / (scale(y1) - scale(y0));
      return height - bottom - Math.min(1.02, Math.max(-0.02, share)) * (height - top - bottom);
    };
    const drawing = svg("svg", {width, height, viewBox: `0 0 ${width} ${height}`,
      role: "img", "aria-label": `${this.title}: ${plan.name}`});
    const yTicks = plan.log ? powersOfTen(y0, y1) : ticks(y0, y1, 4);
    for (const [value, label] of yTicks) {
      drawing.append(
        svg("line", {class: "grid", x1: left, x2: width - right, y1: py(value), y2: py(value)}),
        svg("text", {class: "tick", x: left - 6, y: py(value) + 4, "text-anchor": "end"}, label));
    }
    for (const [value, label] of plan.xTicks) {
      drawing.append(svg("text", {class: "tick", x: px(value), y: height - 6,
        "text-anchor": value === x1 && label.length > 2 ? "end" : "middle"}, label));
    }
    const path = (points) => points.map(([x, y], i) =>
      `${i ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
    if (plan.band && plan.band.length) {
      const back = [...plan.band].reverse();
      drawing.append(svg("path", {class: "band", d:
        path(plan.band.map(([x, , high]) => [x, high])) +
        path(back.map(([x, low]) => [x, low])).replace("M", "L") + "Z"}));
    }
    for (const [y, kind] of plan.levels || []) {
      if (y < y0 || y > y1) continue;
      drawing.append(svg("line", {class: kind, x1: left, x2: width - right, y1: py(y), y2: py(y)}));
    }
    if (plan.reference) drawing.append(svg("path", {class: "reference", d: path(plan.reference)}));
    const points = plan.points;
    if (plan.area && points.length) {
      drawing.append(svg("path", {class: "area", d: path(points) +
        `L${px(points[points.length - 1][0]).toFixed(1)} ${py(y0)}L${px(points[0][0]).toFixed(1)} ${py(y0)}Z`}));
    }
    if (plan.line) drawing.append(svg("path", {class: "line", d: path(points)}));
    if (!plan.area) {
      for (const [x, y, error] of points) {
        if (error > 0) {
          drawing.append(svg("line", {class: "error", x1: px(x), x2: px(x),
            y1: py(plan.log ? Math.max(y - error, y0) : y - error), y2: py(y + error)}));
        }
        drawing.append(svg("circle", {class: "dot", cx: px(x), cy: py(y),
          r: points.length > 60 ? "1.7" : "3"}));
      }
    }
    this.cursor = svg("line", {class: "cursor", y1: top, y2: height - bottom, x1: -9, x2: -9});
    drawing.append(this.cursor);
    this.box.replaceChildren(drawing);
    this.legend.replaceChildren(...plan.legend.map(([kind, text]) =>
      make("span", {}, make("i", {class: `key ${kind}`, "aria-hidden": "true"}), text)));
    this.px = px;
    this.unpoint();
  }

  point(event) {
    if (!this.plan || !this.plan.points.length) return;
    const x = event.clientX - this.box.getBoundingClientRect().left;
    const nearest = this.plan.points.reduce((best, p) =>
      Math.abs(this.px(p[0]) - x) < Math.abs(this.px(best[0]) - x) ? p : best);
    this.cursor.setAttribute("x1", this.px(nearest[0]).toFixed(1));
    this.cursor.setAttribute("x2", this.px(nearest[0]).toFixed(1));
    setText(this.readout, this.plan.read(nearest));
    this.pointed = true;
  }

  unpoint() {
    this.pointed = false;
    if (this.plan) setText(this.readout, this.plan.last || "");
  }
}

// ---- what a model's charts show ---------------------------------------------

let range = 300;

// [[-age, value, draws]] within the range; draws of ESS and acceptance only.
function seriesPoints(series) {
  const ages = (series && series.age_seconds) || [];
  const values = (series && series.value) || [];
  const draws = (series && series.draws) || [];
  const points = [];
  for (let i = 0; i < ages.length; ++i) {
    const age = number(ages[i]), value = number(values[i]);
    if (age <= range && Number.isFinite(value)) points.push([-age, value, number(draws[i])]);
  }
  return points;
}

const readAge = (format) => ([x, y]) => `${format(y)}, ${duration(-x)} ago`;

function overTime(points) {
  return {x: [-range, 0], xTicks: agesTicks(range), points};
}

// ESS or acceptance, held against the gate's value. `band(n)`: where 99 of 100
// points of n draws should lie, if draws are as they were at the gate.
function efficiency(what, series, gate, band, rollback, least) {
  const points = seriesPoints(series);
  const value = number(gate && gate.value);
  if (!points.length && !Number.isFinite(value)) return null;
  let bands = [];
  if (Number.isFinite(value)) {
    bands = points.map(([x, , n]) => [x, value - band(n), value + band(n)]);
    const of = bands.length ? band(points[0][2]) : band(NaN);
    bands.unshift([-range, value - of, value + of]);
    bands.push([0, bands[bands.length - 1][1], bands[bands.length - 1][2]]);
  }
  const low = Math.min(...points.map(([, y]) => y), ...bands.map(([, l]) => l));
  const high = Math.max(...points.map(([, y]) => y), ...bands.map(([, , h]) => h));
  const pad = Math.max(0.15 * (high - low), 2e-4);
  const last = points.length ? points[points.length - 1][1] : NaN;
  const legend = [["dot", `of ${least} or more ${what}`]];
  if (bands.length) legend.push(["band", `gate ${ratio(value)}, 99 % of points`]);
  if (rollback > 0) legend.push(["rollback", `taken back below ${ratio(rollback)}`]);
  if (!bands.length) legend.push(["none", "no gate's figure to compare with"]);
  return {...overTime(points.map(([x, y]) => [x, y])), line: true, legend,
    y: [Math.max(0, low - pad), Math.min(1, high + pad)], band: bands,
    levels: [...(bands.length ? [[value, "gate"]] : []), ...(rollback > 0 ? [[rollback, "rollback"]] : [])],
    read: readAge(ratio), last: Number.isFinite(last) ? ratio(last) : "",
    name: (points.length ? `latest ${ratio(last)}` : "no draws yet") +
      (bands.length ? `, at the gate ${ratio(value)}` : "")};
}

// The gate's jackknife error is of its own draws; a point of n draws scatters
// by as much times sqrt(draws of the gate / n), independently.
function essBand(gate) {
  return (n) => 2.576 * number(gate.ess.error) *
    Math.sqrt(1 + (n > 0 ? number(gate.draws) / n : 0));
}

// Steps of a chain accept or not, and the gate's figure has its own error.
function acceptanceBand(gate) {
  const value = number(gate.acceptance.value);
  return (n) => 2.576 * Math.hypot(number(gate.acceptance.error),
    n > 0 ? Math.sqrt(value * (1 - value) / n) : 0);
}

function amount(series, format, unit) {
  const points = seriesPoints(series);
  if (points.length < 2) return null;
  const high = Math.max(...points.map(([, y]) => y));
  const last = points[points.length - 1][1];
  return {...overTime(points), y: [0, high > 0 ? high * 1.12 : 1], line: true, area: true,
    legend: [], read: readAge(format), last: format(last), name: `latest ${format(last)} ${unit}`};
}

const observable = (model, name) => ((model.recent && model.recent.observables) || [])
  .find((one) => one.name === name);

// [t, recent, reference] for t = 0 .. L/2.
function twoPoint(model) {
  const found = [];
  for (let t = 0; ; ++t) {
    const one = observable(model, `Gt_${t}`);
    if (!one) return found;
    found.push([t, one.recent, one.reference]);
  }
}

function separations(last) {
  const step = Math.ceil((last + 1) / 9);
  const found = [];
  for (let t = 0; t <= last; t += step) found.push([t, String(t)]);
  return found;
}

function correlator(model) {
  const all = twoPoint(model);
  const points = all.map(([t, g]) => [t, number(g.value), number(g.error)])
    .filter(([, g]) => g > 0);
  if (points.length < 2) return null;
  const reference = all.filter(([, , g]) => g && number(g.value) > 0)
    .map(([t, , g]) => [t, number(g.value)]);
  const values = [...points, ...reference].map(([, g]) => g);
  const last = all.length - 1;
  const legend = [["dot", "recent draws, reweighted"]];
  if (reference.length) legend.push(["reference", "Monte Carlo reference"]);
  return {x: [-0.4, last + 0.4], xTicks: separations(last), log: true,
    y: [Math.min(...values) / 1.35, Math.max(...values) * 1.35],
    points, reference: reference.length ? reference : null, legend, last: "",
    read: ([t, g, e]) => `t = ${t}: ${estimate({value: g, error: e})}`,
    name: `for separations 0 to ${last}`};
}

function correlatorRatio(model) {
  const all = twoPoint(model).filter(([, , g]) => g && number(g.value) !== 0);
  if (all.length < 2) return null;
  const points = all.map(([t, a, b]) => [t, number(a.value) / number(b.value),
    Math.abs(number(a.error) / number(b.value))]).filter(([, r]) => Number.isFinite(r));
  const band = all.map(([t, , b]) => {
    const share = Math.abs(number(b.error) / number(b.value));
    return [t, 1 - share, 1 + share];
  });
  const low = Math.min(...points.map(([, r, e]) => r - (e || 0)), ...band.map(([, l]) => l));
  const high = Math.max(...points.map(([, r, e]) => r + (e || 0)), ...band.map(([, , h]) => h));
  const pad = 0.12 * (high - low) || 0.01;
  const last = all[all.length - 1][0];
  return {x: [-0.4, last + 0.4], xTicks: separations(last), y: [low - pad, high + pad],
    points, band, levels: [[1, "gate"]], last: "",
    legend: [["dot", "recent over reference"], ["band", "the reference's error"]],
    read: ([t, r, e]) => `t = ${t}: ${estimate({value: r, error: e})}`,
    name: `for separations 0 to ${last}`};
}

// ---- tables -----------------------------------------------------------------

function table(caption, heads) {
  const body = make("tbody");
  const element = make("table", {}, make("caption", {class: "hidden"}, caption),
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", {scope: "col"}, head)))),
    body);
  return {element, body, heads};
}

// A row whose cells know their column's head, which a phone shows beside them.
function row(heads, cells) {
  return make("tr", {}, ...cells.map((cell, i) => {
    const element = make(i === 0 ? "th" : "td", i === 0 ? {scope: "row"} : {"data-head": heads[i]});
    element.append(cell);
    return element;
  }));
}

const STATES = {LIVE: "good", GATING: "busy", LOADING: "busy", VERIFYING: "busy",
  REJECTED: "bad", QUARANTINED: "bad"};

function badge(text, kind) {
  return make("span", {class: `badge ${kind || ""}`}, text);
}

const NAMES = {chi_2: "χ₂", abs_M: "⟨|M|⟩", phi2: "⟨φ²⟩", link_energy: "link energy",
  action_per_site: "⟨S⟩/V"};

function sigmas(one) {
  if (!one || !one.reference) return NaN;
  return (number(one.recent.value) - number(one.reference.value)) /
    Math.hypot(number(one.recent.error), number(one.reference.error));
}

const signed = (value) => Number.isFinite(value)
  ? `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)} σ` : "–";

// Tiles: a description list whose values are replaced in place.
class Tiles {
  constructor(list) {
    this.list = list;
    this.tiles = new Map();
  }

  set(name, value, detail = "", kind = "") {
    let tile = this.tiles.get(name);
    if (!tile) {
      tile = {value: make("dd", {class: "value"}), detail: make("dd", {class: "detail"})};
      this.list.append(make("div", {}, make("dt", {}, name), tile.value, tile.detail));
      this.tiles.set(name, tile);
    }
    setText(tile.value, value);
    setText(tile.detail, detail);
    tile.value.className = `value ${kind}`;
  }
}

class ModelCard {
  constructor(name) {
    this.badges = make("span", {class: "badges"});
    this.mode = make("p", {class: "quiet"});
    const tiles = make("dl", {class: "tiles"});
    this.tiles = new Tiles(tiles);
    this.ess = new Chart("ESS per draw", "No draws yet.");
    this.acceptance = new Chart("Acceptance of chains", "No chain has run yet.");
    this.rate = new Chart("Draws per second", "No figures yet.");
    this.queue = new Chart("Queue, configurations", "No figures yet.");
    this.correlator = new Chart("Two-point function G̃(t)", "No draws measured yet.");
    this.ratio = new Chart("G̃(t) over the reference", "Nothing to compare yet.");
    this.recent = make("p", {class: "quiet"});
    this.observables = table("Observables of recent draws and of the reference",
      ["", "recent draws", "reference", "difference"]);
    this.observablesBox = make("div", {hidden: ""},
      make("div", {class: "charts"}, this.correlator.element, this.ratio.element),
      this.observables.element);
    this.versions = table("Versions and what the gate found",
      ["version", "state", "judged", "ESS", "acceptance", "draws/s", "published ESS"]);
    this.versionsMore = make("p", {class: "quiet"});
    this.checks = table("Checks of the gate", ["check", "value", "allowed", ""]);
    this.checksTitle = make("summary");
    this.details = make("details", {hidden: ""}, this.checksTitle, this.checks.element);
    const id = `model-${name}`;
    this.element = make("section", {class: "card", "aria-labelledby": id},
      make("div", {class: "head"}, make("h2", {id}, name), this.badges),
      this.mode, tiles,
      make("div", {class: "charts four"}, this.ess.element, this.acceptance.element,
        this.rate.element, this.queue.element),
      make("h3", {class: "part"}, "Recent draws against the reference"), this.recent,
      this.observablesBox,
      make("h3", {class: "part"}, "Versions and the gate"),
      this.versions.element, this.versionsMore, this.details);
    this.element.dataset.model = name;
    this.seen = {};
  }

  // Tables are made anew only when they change: what is selected stays so.
  changed(what, value) {
    const text = JSON.stringify(value);
    if (this.seen[what] === text) return false;
    this.seen[what] = text;
    return true;
  }

  show(model, status) {
    const live = (model.versions || []).find(
      (one) => number(one.version) === number(model.live_version));
    const gate = live && live.gate;
    this.showHead(model, live);
    this.showTiles(model, gate, status);
    const gated = gate && gate.passed ? gate : null;
    const least = count(status.draws_per_point);
    this.ess.show(efficiency("draws", model.ess_series, gated && gated.ess,
      gated && essBand(gated), number(model.rollback_ess), least));
    this.acceptance.show((model.acceptance_series && model.acceptance_series.value || []).length
      ? efficiency("steps", model.acceptance_series, gated && gated.acceptance,
        gated && acceptanceBand(gated), 0, least) : null);
    this.rate.show(amount(model.draws_per_second, count, "a second"));
    this.queue.show(amount(model.queue, count, "configurations"));
    this.showObservables(model, status);
    this.correlator.show(correlator(model));
    this.ratio.empty = model.has_reference ? "Nothing to compare yet."
      : "The model has no Monte Carlo reference.";
    this.ratio.show(correlatorRatio(model));
    if (this.changed("versions", model.versions)) this.showVersions(model, live);
  }

  showHead(model, live) {
    const badges = [number(model.live_version) > 0
      ? ["good", `version ${model.live_version} live`] : ["bad", "nothing live"]];
    const gating = (model.versions || []).find((one) => one.state.endsWith("GATING"));
    if (gating) badges.push(["busy", `version ${gating.version} at the gate`]);
    if (model.lattice) badges.push(["", model.lattice.replace("x", " × ")]);
    if (this.changed("badges", badges)) {
      this.badges.replaceChildren(...badges.map(([kind, text]) => badge(text, kind)));
    }
    setText(this.mode, live ? `digest ${live.digest}, ${model.numerics_mode}` : "");
  }

  showTiles(model, gate, status) {
    const rates = (model.draws_per_second && model.draws_per_second.value) || [];
    const rate = rates.length ? number(rates[rates.length - 1]) : NaN;
    this.tiles.set("Draw rate", Number.isFinite(rate) ? `${count(rate)}/s` : "–",
      `${count(model.draws)} delivered`);
    this.tiles.set("Queue", count(model.queued), `of ${count(model.queue_capacity)}`);
    const ess = number(model.weight_samples) > 0 ? number(model.ess) : NaN;
    const rollback = number(model.rollback_ess);
    this.tiles.set("ESS per draw", ratio(ess),
      gate && gate.ess ? `${estimate(gate.ess)} at the gate` : "not gated",
      ess < rollback ? "bad" : "");
    this.tiles.set("Acceptance",
      ratio(number(model.proposals) > 0 ? number(model.acceptance) : NaN),
      gate && gate.acceptance ? `${estimate(gate.acceptance)} at the gate` : "not gated");
    const chi = observable(model, "chi_2");
    const off = sigmas(chi);
    this.tiles.set("χ₂", chi ? estimate(chi.recent) : "–",
      !model.has_reference ? "no reference"
        : chi ? `${signed(off)} from the reference` : "waiting for draws",
      Math.abs(off) > number(status.gate_sigmas) ? "bad" : "");
  }

  showObservables(model, status) {
    const recent = model.recent;
    setText(this.recent, this.recentText(model, recent));
    const rows = ((recent && recent.observables) || [])
      .filter((one) => !one.name.startsWith("Gt_"));
    this.observablesBox.hidden = rows.length === 0;
    if (!this.changed("observables", rows)) return;
    const order = Object.keys(NAMES);
    rows.sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
    this.observables.body.replaceChildren(...rows.map((one) => {
      const off = sigmas(one);
      const kind = Math.abs(off) > number(status.gate_sigmas) ? "bad" : "";
      return row(this.observables.heads, [NAMES[one.name] || one.name, estimate(one.recent),
        one.reference ? estimate(one.reference) : "–",
        make("span", {class: kind}, signed(off))]);
    }));
  }

  recentText(model, recent) {
    if (!number(model.live_version)) return "Nothing is live.";
    const none = model.has_reference ? ""
      : " The model has no Monte Carlo reference to compare with: latticed-train reference writes one.";
    if (!recent) return "No draws of this version have been measured yet." + none;
    const text = `A sample of ${count(recent.draws)} distinct draws that clients were sent, ` +
      `${duration(recent.newest_age_seconds)} to ${duration(recent.oldest_age_seconds)} old, reweighted.`;
    return (recent.observables || []).length ? text + none
      : `${text} Errors need 8 batches, there are ${recent.blocks}.` + none;
  }

  showVersions(model, live) {
    const heads = this.versions.heads;
    const rows = [];
    for (const one of model.versions || []) {
      const state = one.state.replace("VERSION_STATE_", "");
      const gate = one.gate;
      const name = make("span", {}, String(one.version), " ",
        make("code", {}, one.digest || "unread"));
      rows.push(row(heads, [name, badge(state.toLowerCase(), STATES[state]),
        one.judge_time ? moment(one.judge_time) : "–",
        gate ? estimate(gate.ess) : "–", gate ? estimate(gate.acceptance) : "–",
        gate && number(gate.draws_per_second) > 0 ? count(gate.draws_per_second) : "–",
        one.published_ess ? estimate(one.published_ess) : "–"]));
      const notes = [one.reason, ...((gate && gate.warnings) || [])].filter((note) => note);
      if (notes.length) {
        const cell = make("td", {colspan: String(heads.length), class: "note"});
        notes.forEach((note) => cell.append(make("p", {}, note)));
        rows.push(make("tr", {class: "notes"}, cell));
      }
    }
    this.versions.body.replaceChildren(...rows);
    const more = number(model.versions_total) - (model.versions || []).length;
    setText(this.versionsMore, more > 0 ? `and ${more} older ones: latticectl models --all lists them` : "");
    this.showChecks((live && live.gate && live.gate.checks) || [], live);
  }

  showChecks(checks, live) {
    this.details.hidden = checks.length === 0;
    if (!checks.length) return;
    const passed = checks.filter((check) => check.passed).length;
    setText(this.checksTitle,
      `Gate of version ${live.version}: ${passed} of ${checks.length} checks passed, ` +
      `${count(live.gate.draws)} draws in ${duration(live.gate.seconds)}`);
    const short = (value) => {
      value = number(value);
      return Number.isFinite(value) ? String(+value.toPrecision(4)) : String(value);
    };
    this.checks.body.replaceChildren(...checks.map((check) => row(this.checks.heads,
      [make("span", {}, check.name, make("small", {}, check.detail)), short(check.value),
        short(check.bound), badge(check.passed ? "passed" : "failed", check.passed ? "good" : "bad")])));
  }
}

// ---- the page ---------------------------------------------------------------

const cards = new Map();
let tiles = null;
let status = null;
let answered = null;  // when the last answer came
let restarted = null;
let failing = false;

function showServer() {
  const calls = Object.entries(status.calls || {}).filter(([, open]) => open > 0).sort();
  const open = calls.reduce((sum, [, n]) => sum + n, 0);
  const rejected = Object.entries(status.rejected || {}).filter(([, n]) => number(n) > 0);
  const busy = (status.device_busy && status.device_busy.value) || [];
  const models = status.models || [];
  const rate = models.reduce((sum, model) => {
    const rates = (model.draws_per_second && model.draws_per_second.value) || [];
    return sum + (rates.length ? number(rates[rates.length - 1]) : 0);
  }, 0);
  const total = models.reduce((sum, model) => sum + number(model.draws), 0);
  tiles.set("Draw rate", `${count(rate)}/s`, `${count(total)} delivered`);
  tiles.set("Open calls", String(open),
    calls.map(([name, n]) => `${n} ${name.split("/")[1]}`).join(", ") || "none");
  tiles.set("Queue", count(models.reduce((sum, model) => sum + number(model.queued), 0)),
    "configurations");
  tiles.set("Device busy", busy.length ? `${Math.round(100 * number(busy[busy.length - 1]))} %` : "–",
    status.device);
  tiles.set("Refused calls", count(rejected.reduce((sum, [, n]) => sum + number(n), 0)),
    rejected.map(([name, n]) => `${count(n)} ${name.replaceAll("_", " ")}`).join(", ") || "none");
  tiles.set("Uptime", duration(status.uptime_seconds), `since ${moment(status.start_time)}`);
  const live = models.filter((model) => number(model.live_version) > 0).length;
  const state = $("state");
  setText(state, status.draining ? "draining" : live ? "serving" : "nothing live");
  state.className = `badge ${status.draining ? "busy" : live ? "good" : "bad"}`;
  setText($("about"), `build ${status.build}`);
}

function showModels() {
  const models = status.models || [];
  const names = new Set(models.map((model) => model.model));
  for (const [name, card] of cards) {
    if (names.has(name)) continue;
    card.element.remove();
    cards.delete(name);
  }
  models.forEach((model, i) => {
    let card = cards.get(model.model);
    if (!card) {
      card = new ModelCard(model.model);
      cards.set(model.model, card);
    }
    if ($("models").children[i] !== card.element) {
      $("models").insertBefore(card.element, $("models").children[i] || null);
    }
    card.show(model, status);
  });
  const more = number(status.models_total) - models.length;
  $("more").hidden = more <= 0;
  setText($("more"), `and ${more} more models: latticectl models lists them`);
}

function showLink() {
  const link = $("link");
  document.body.classList.toggle("stale", failing);
  link.className = failing ? "bad" : "quiet";
  if (failing) {
    setText(link, answered ? `no answer since ${clock(answered)}, trying again`
      : "no answer, trying again");
    document.title = "latticed: no answer";
    return;
  }
  setText(link, `live, updates every ${POLL_MS / 1000} s` +
    (restarted ? `; the server was started again, seen at ${clock(restarted)}` : ""));
  document.title = status.draining ? "latticed: draining" : "latticed";
}

async function poll() {
  try {
    const reply = await fetch("status.json",
      {cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS)});
    if (!reply.ok) throw new Error(String(reply.status));
    const next = await reply.json();
    if (status && status.start_id !== next.start_id) restarted = new Date();
    status = next;
    answered = new Date();
    failing = false;
  } catch {
    // The server is gone or busy: the page says so and asks again.
    failing = true;
  }
  if (!failing) {
    showServer();
    showModels();
  }
  showLink();
}

// Nobody looks at a hidden page: it does not ask.
let wake = () => {};
document.addEventListener("visibilitychange", () => wake());
async function run() {
  for (;;) {
    // A defect in what is shown must not end it.
    if (!document.hidden) await poll().catch((error) => console.error(error));
    await new Promise((resolve) => {
      wake = resolve;
      setTimeout(resolve, POLL_MS);
    });
  }
}

tiles = new Tiles($("tiles"));
$("range").addEventListener("change", (event) => {
  range = Number(event.target.value);
  if (status) showModels();
});
run();
