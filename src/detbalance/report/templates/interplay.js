// The moving candidate: its sliders, its picture, and what answers.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("interplay-data").textContent);
  const control = Object.fromEntries(["shift", "scale", "score", "label", "measure"].map((id) => [id, document.getElementById(id)]));
  const svg = document.querySelector("svg.scene"), plot = document.querySelector("#slide .plot");
  const [scales, labels, scores] = [data.scales.length, data.labels.length, data.scores.length];
  const state = () => ["shift", "scale", "label", "score"].map((id) => Number(control[id].value));
  const value = (recipe, measure, [i, j, k, l]) => recipe.values[measure][((i * scales + j) * labels + k) * scores + l];
  const STATES = { "1": "positive", "0": "negative", "-1": "ignored" };

  const iou = (a, b) => {
    const w = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), h = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
    if (w <= 0 || h <= 0) return 0;
    return (w * h) / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h);
  };
  const moved = ([x1, y1, x2, y2], shift, scale) => {
    const [x, y, w, h] = [(x1 + x2) / 2 + shift * (x2 - x1), (y1 + y2) / 2, (x2 - x1) * scale, (y2 - y1) * scale];
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2];
  };
  const box = ([x1, y1, x2, y2], kind, words) => {
    const mark = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = words;
    mark.append(title);
    for (const [name, number] of Object.entries({ x: x1, y: y1, width: x2 - x1, height: y2 - y1 })) mark.setAttribute(name, number);
    mark.setAttribute("class", kind);
    svg.append(mark);
  };
  const kindOf = (b) => {
    const best = Math.max(...data.scene.objects.map((object) => iou(object, b)));
    return best >= 0.5 ? "positive" : best >= 0.4 ? "ignored" : "negative";
  };

  const paint = (now) => {
    svg.replaceChildren();
    for (const b of data.background) box(b, "negative easy", "an easy negative");
    data.scene.objects.forEach((b) => box(b, "object", "an object"));
    for (const b of data.scene.others) box(b, kindOf(b), "a candidate that stays");
    const first = data.recipes[0], kind = STATES[value(first, "state", now)];
    box(moved(data.scene.objects[0], data.shifts[now[0]], data.scales[now[1]]), `moving ${kind}`, "the candidate that moves");
    const told = data.recipes.map((r) => `${r.name}: ${STATES[value(r, "state", now)]}${value(r, "drawn", now) ? "" : ", does not train"}`);
    document.getElementById("says").textContent = `IoU with its object ${value(first, "iou", now).toFixed(2)}. ${told.join("; ")}.`;
  };
  const answer = (now) => {
    for (const row of document.querySelectorAll("tr[data-measure]"))
      row.querySelectorAll("td").forEach((cell, i) => {
        const number = value(data.recipes[i], row.dataset.measure, now);
        cell.querySelector("b").textContent = number === null ? "-" : Number.isInteger(number) && !row.dataset.bar ? String(number) : number.toFixed(3);
        const fill = cell.querySelector(".fill");
        if (fill) { fill.style.width = `${100 * Math.min(1, number ?? 0)}%`; fill.style.background = data.recipes[i].colour; }
      });
  };
  const chart = (now) => {
    const measure = control.measure.value, spec = JSON.parse(plot.nextElementSibling.textContent);
    spec.data.forEach((trace, i) => { trace.y = data.shifts.map((_, at) => value(data.recipes[i], measure, [at, ...now.slice(1)])); });
    spec.layout.yaxis.title.text = data.measures[measure];
    const x = data.shifts[now[0]];
    spec.layout.shapes = [{ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: "var(--muted)", width: 1.5, dash: "dot" } }];
    plot.dispatchEvent(new CustomEvent("figure", { bubbles: true, detail: spec }));
  };
  const update = () => {
    const now = state();
    const words = {
      shift: `${data.shifts[now[0]].toFixed(2)} widths to the right`, scale: `${data.scales[now[1]]} of its object's side`, score: String(data.scores[now[3]]),
    };
    for (const [id, text] of Object.entries(words)) document.querySelector(`output[for=${id}]`).textContent = text;
    paint(now);
    answer(now);
    chart(now);
  };
  document.querySelector(".knobs").addEventListener("input", update);
  update();
})();
