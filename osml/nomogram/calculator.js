"use strict";
(() => {
  const model = JSON.parse(document.getElementById("data").textContent);
  const byName = new Map(model.predictors.map((p) => [p.name, p]));
  const rows = new Map();

  // ---- the model ----------------------------------------------------------------------------------------------
  function basis(term, values) {
    if (term.kind === "interaction") {
      const second = basis(term.second, values);
      return basis(term.first, values).flatMap((a) => second.map((b) => a * b));
    }
    const x = values.get(term.input);
    if (term.kind === "linear") return [x];
    if (term.kind === "log") return [Math.log(x)];
    if (term.kind === "category") return term.levels.slice(1).map((_, i) => (x === i + 1 ? 1 : 0));
    const t = term.knots, k = t.length, last = t[k - 1], previous = t[k - 2];
    const cube = (knot) => Math.max(x - knot, 0) ** 3;
    const out = [x];
    for (let j = 0; j < k - 2; j++) {
      const a = (last - t[j]) / (last - previous), b = (previous - t[j]) / (last - previous);
      out.push((cube(t[j]) - a * cube(previous) + b * cube(last)) / (last - t[0]) ** 2);
    }
    return out;
  }

  const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);
  const quadratic = (v, M) => dot(v, M.map((row) => dot(row, v)));
  const logistic = (lp) => (lp >= 0 ? 1 / (1 + Math.exp(-lp)) : Math.exp(lp) / (1 + Math.exp(lp)));

  function cox(lp, survival) {
    const hazard = -Math.log(survival) * Math.exp(lp);
    return model.outcome.show === "risk" ? -Math.expm1(-hazard) : Math.exp(-hazard);
  }

  function quantile(sorted, q) {
    const h = (sorted.length - 1) * q, i = Math.floor(h), j = Math.min(i + 1, sorted.length - 1);
    return sorted[i] + (h - i) * (sorted[j] - sorted[i]);
  }

  function bounds(design, lp, j) {
    const interval = model.interval, outcome = model.outcome;
    if (interval === null) return null;
    if (interval.kind === "wald") {
      if (outcome.kind === "logistic") {
        const half = interval.z * Math.sqrt(quadratic([1, ...design], model.covariance));
        return [logistic(lp - half), logistic(lp + half)];
      }
      const away = design.map((v, i) => v - outcome.mean_design[j][i]);
      const half = interval.z * Math.sqrt(outcome.log_hazard_variance[j] + quadratic(away, model.covariance));
      const ends = [cox(lp - half, outcome.survival[j]), cox(lp + half, outcome.survival[j])];
      return ends.sort((a, b) => a - b);
    }
    const all = interval.refits.map((refit, b) => {
      const own = refit[0] + dot(design, refit.slice(1));
      return outcome.kind === "logistic" ? logistic(own) : cox(own, interval.refit_survival[b][j]);
    }).sort((a, b) => a - b);
    const tail = (1 - interval.level) / 2;
    return [quantile(all, tail), quantile(all, 1 - tail)];
  }

  function compute(values) {
    const columns = model.terms.map((term) => basis(term, values));
    let at = 0;
    const effects = columns.map((c) => { const e = dot(c, model.coef.slice(at, at + c.length)); at += c.length; return e; });
    const design = columns.flat();
    const lp = model.intercept + dot(design, model.coef);
    const points = model.components.map((c) => (c.terms.reduce((sum, i) => sum + effects[i], 0) - c.minimum) * model.scale);
    const chances = model.outcome.names.map((name, j) => ({
      name, j,
      p: model.outcome.kind === "logistic" ? logistic(lp) : cox(lp, model.outcome.survival[j]),
      bounds: bounds(design, lp, j),
    })).filter((c) => model.outcome.shown[c.j]);
    return { points, total: points.reduce((a, b) => a + b, 0), chances };
  }

  // ---- the form -----------------------------------------------------------------------------------------------
  function element(tag, attributes = {}, text = null) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== null) node.textContent = text;
    return node;
  }

  const short = (v) => String(Number(v.toPrecision(6)));

  function addRow(p, index) {
    const id = `input-${index}`, row = element("div", { class: "row" });
    const head = element("div");
    head.append(element("label", { for: id }, p.units.length ? p.label : p.title));
    const hint = element("p", { class: "hint", id: `${id}-hint` });
    head.append(hint);
    const controls = element("div", { class: "controls" });
    const output = element("output", { for: id });
    const problem = element("p", { class: "problem", id: `${id}-problem` });
    const parts = { p, hint, output, problem, control: null, unit: null, unknown: null };
    if (p.kind === "category") {
      parts.control = element("select", { id });
      parts.control.append(element("option", { value: "" }, "choose"));
      p.levels.forEach((level, i) => parts.control.append(element("option", { value: String(i) }, level)));
      if (p.unknown !== null) parts.control.append(element("option", { value: "unknown" }, "not known"));
      controls.append(parts.control);
    } else {
      parts.control = element("input", { id, type: "number", step: "any", inputmode: "decimal" });
      controls.append(parts.control);
      if (p.units.length) {
        parts.unit = element("select", { id: `${id}-unit`, "aria-label": `Unit of ${p.label}` });
        [{ name: p.unit, factor: 1, offset: 0 }, ...p.units].forEach((u, i) => parts.unit.append(element("option", { value: String(i) }, u.name)));
        parts.unit.addEventListener("change", () => changeUnit(parts));
        controls.append(parts.unit);
      }
      if (p.unknown !== null) {
        const label = element("label"), box = element("input", { type: "checkbox", id: `${id}-unknown` });
        label.append(box, " not known");
        parts.unknown = box;
        controls.append(label);
      }
    }
    parts.control.setAttribute("aria-describedby", `${id}-hint ${id}-problem`);
    row.append(head, controls, output, problem);
    document.getElementById("inputs").append(row);
    parts.shownUnit = 0;
    rows.set(p.name, parts);
    describe(parts);
  }

  function unitOf(parts, index) {
    return index ? parts.p.units[index - 1] : { factor: 1, offset: 0 };
  }

  function describe(parts) {
    const p = parts.p, notes = p.definition ? [p.definition] : [];
    if (p.kind === "number") {
      const u = unitOf(parts, parts.shownUnit);
      const ends = [p.low, p.high].map((v) => u.factor * v + u.offset).sort((a, b) => a - b);
      notes.push(`axis ${short(ends[0])} to ${short(ends[1])}`);
    }
    if (!p.by_hand) notes.push("computed by software");
    parts.hint.textContent = notes.join("; ");
  }

  // The entered quantity stays the same when its unit changes.
  function changeUnit(parts) {
    const from = unitOf(parts, parts.shownUnit), index = Number(parts.unit.value), to = unitOf(parts, index);
    if (parts.control.value !== "") {
      const value = (Number(parts.control.value) - from.offset) / from.factor;
      parts.control.value = short(to.factor * value + to.offset);
    }
    parts.shownUnit = index;
    describe(parts);
    update();
  }

  function read(parts) {
    const p = parts.p, given = parts.control.value;
    parts.problem.textContent = "";
    parts.control.removeAttribute("aria-invalid");
    if (parts.unknown) parts.control.disabled = parts.unknown.checked;
    if ((parts.unknown && parts.unknown.checked) || given === "unknown") return p.unknown;
    if (p.kind === "number" && parts.control.validity.badInput) return invalid(parts, "Not a number.");
    if (given === "") return null;
    if (p.kind === "category") return Number(given);
    const u = unitOf(parts, parts.shownUnit), value = (Number(given) - u.offset) / u.factor;
    if (!Number.isFinite(value)) return invalid(parts, "Not a number.");
    const logged = model.terms.some((t) => [t, t.first, t.second].some((s) => s && s.kind === "log" && s.input === p.name));
    if (logged && value <= 0) return invalid(parts, "Must be above 0.");
    if (value < p.low || value > p.high) parts.problem.textContent = "Outside the printed axis: extrapolated.";
    return value;
  }

  function invalid(parts, message) {
    parts.problem.textContent = message;
    parts.control.setAttribute("aria-invalid", "true");
    return null;
  }

  // ---- the answer ---------------------------------------------------------------------------------------------
  function update() {
    const values = new Map(), missing = [];
    for (const [name, parts] of rows) {
      const value = read(parts);
      if (value === null) missing.push(parts.p.label); else values.set(name, value);
      parts.output.textContent = "";
    }
    const result = document.getElementById("result");
    result.replaceChildren();
    delete result.dataset.probability;
    clearDrawing();
    if (missing.length) {
      result.append(element("p", {}, `Still to enter: ${missing.join(", ")}.`));
      return;
    }
    const answer = compute(values);
    model.components.forEach((c, i) => {
      rows.get(c.inputs[c.inputs.length - 1]).output.textContent = `${answer.points[i].toFixed(1)} points`;
    });
    const rounded = answer.points.map((v) => Number(v.toFixed(1)));
    const sum = rounded.reduce((a, b) => a + b, 0).toFixed(1);
    result.append(element("p", { class: "sum" }, `${rounded.map((v) => v.toFixed(1)).join(" + ")} = ${sum} points`));
    for (const c of answer.chances) {
      const line = element("p", { class: "chance" }, `${c.name}: `);
      line.append(element("strong", {}, `${(100 * c.p).toFixed(1)} %`));
      line.append(c.bounds === null ? "no interval available"
        : `${(100 * c.bounds[0]).toFixed(1)} to ${(100 * c.bounds[1]).toFixed(1)} %, ${model.interval.words}`);
      result.append(line);
    }
    result.dataset.probability = JSON.stringify(answer.chances.map((c) => c.p));
    result.dataset.bounds = JSON.stringify(answer.chances.map((c) => c.bounds));
    result.dataset.total = String(answer.total);
    draw(values, answer);
  }

  // ---- the drawing --------------------------------------------------------------------------------------------
  const svg = document.querySelector(".chart svg"), geometry = model.geometry;
  const place = new Map(geometry.rows.map(([role, name, ys]) => [name, ys]));

  function clearDrawing() {
    const old = document.getElementById("live");
    if (old) old.remove();
  }

  function shape(tag, attributes) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  }

  function draw(values, answer) {
    const group = shape("g", { id: "live", "aria-hidden": "true" });
    const span = geometry.x1 - geometry.x0;
    const inside = (x) => Math.min(Math.max(x, geometry.x0 - 3), geometry.x1 + 6);
    const line = (x, y1, y2) => group.append(shape("line", { x1: x, x2: x, y1, y2, stroke: "#b84f00", "stroke-width": 0.35, "stroke-dasharray": "1 0.7" }));
    const mark = (x, y) => group.append(shape("path", { d: `M${x} ${y - 1.3}l1.3 1.3l-1.3 1.3l-1.3 -1.3z`, fill: "#b84f00", stroke: "#fff", "stroke-width": 0.2 }));
    const top = place.get("points")[0];
    model.components.forEach((c, i) => {
      const axis = c.axes.find((a) => Object.entries(a.settings).every(([name, level]) => values.get(name) === level));
      const ys = place.get(axis.key), value = values.get(axis.input);
      const part = axis.parts.find((s) => value <= s.high) || axis.parts[axis.parts.length - 1];
      const y = ys[part ? part.line : 0], x = inside(geometry.x0 + answer.points[i] / 100 * span);
      line(x, top, y);
      mark(x, y);
    });
    const below = geometry.rows.filter(([role]) => role === "total" || role === "outcome");
    const x = inside(geometry.x0 + answer.total / geometry.full * span);
    line(x, below[0][2][0], below[below.length - 1][2][0]);
    below.forEach(([, , ys]) => mark(x, ys[0]));
    svg.append(group);
  }

  model.predictors.forEach(addRow);
  document.getElementById("form").addEventListener("input", update);
  document.getElementById("form").addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("form").addEventListener("reset", () => setTimeout(() => {
    for (const parts of rows.values()) { parts.shownUnit = 0; describe(parts); }
    update();
  }));
  update();
})();
