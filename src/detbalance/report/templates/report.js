// Charts, theme, example images. Everything on the page that text alone can tell is there without this script.
(() => {
  "use strict";
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const probe = document.body.appendChild(document.createElement("i"));
  probe.hidden = true;

  // --- colours: "var(--name)" in a figure is looked up in the style sheet ---
  const COLOUR_KEYS = new Set(["color", "colorscale", "fillcolor", "bgcolor", "bordercolor"]);
  const lookup = (name) => {
    probe.style.color = name;
    return getComputedStyle(probe).color;
  };
  const resolve = (value, key = "") => {
    if (typeof value === "string") return COLOUR_KEYS.has(key) && value.startsWith("var(") ? lookup(value) : value;
    if (Array.isArray(value)) return value.map((item) => resolve(item, key));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([k, item]) => [k, resolve(item, k)]));
    return value;
  };
  const template = () => {
    const [ink, muted, line, zero, surface] = ["ink", "muted", "line", "zero", "surface"].map((n) => lookup(`var(--${n})`));
    const axis = {
      automargin: true, ticklabelstandoff: 4, gridcolor: line, linecolor: line, zerolinecolor: zero, zerolinewidth: 1.5, ticks: "",
      tickfont: { color: muted, size: 12 }, title: { font: { color: muted, size: 12 }, standoff: 10 }, exponentformat: "none",
      separatethousands: true, minor: { showgrid: false },
    };
    return {
      layout: {
        font: { family: getComputedStyle(document.body).fontFamily, color: ink, size: 13 },
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 8, r: 12, t: 12, b: 8 },
        hovermode: "x unified", hoverlabel: { bgcolor: surface, bordercolor: line, font: { color: ink, size: 13 }, align: "left" },
        legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", font: { color: ink } },
        xaxis: axis, yaxis: axis, colorway: [1, 2, 3, 4, 5, 6, 7, 8].map((n) => lookup(`var(--series-${n})`)),
      },
      data: { heatmap: [{ colorbar: { tickfont: { color: muted }, title: { font: { color: muted, size: 12 } } } }] },
    };
  };

  // --- charts ---
  const CONFIG = { displaylogo: false, responsive: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  const charts = [...document.querySelectorAll(".plot")].map((element) => ({
    element, spec: JSON.parse(element.nextElementSibling.textContent), drawn: false,
  }));
  const draw = (chart, width = chart.element.clientWidth) => {
    const spec = resolve(chart.spec);
    const layout = { height: 320, ...spec.layout, template: template() };
    if (width) layout.width = layout.yaxis?.scaleanchor ? Math.min(width, 1.2 * layout.height) : width;
    Plotly.react(chart.element, spec.data, layout, CONFIG);
    chart.drawn = true;
    chart.width = width;
  };
  const redraw = () => charts.filter((c) => c.drawn).forEach((c) => draw(c));
  const sizes = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      const chart = charts.find((c) => c.element === target);
      const width = Math.round(contentRect.width);
      if (!printing && chart.drawn && width && width !== chart.width) draw(chart, width);
    }
  });
  let printing = false;
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const chart = charts.find((c) => c.element === entry.target);
      if (entry.isIntersecting && !chart.drawn) draw(chart);
    }
  }, { rootMargin: "400px" });
  charts.forEach((c) => { near.observe(c.element); sizes.observe(c.element); });
  // The rest follows while the reader reads, so that jumping finds it drawn; what is folded away waits until it opens.
  const visible = (chart) => chart.element.checkVisibility();
  const later = window.requestIdleCallback ?? ((task) => setTimeout(task, 20));
  const next = () => {
    const waiting = charts.find((c) => !c.drawn && visible(c));
    if (!waiting) return root.setAttribute("data-ready", "");
    draw(waiting);
    later(next);
  };
  later(next);

  // --- a page's own script gives a chart another figure ---
  document.addEventListener("figure", ({ target, detail }) => {
    const chart = charts.find((c) => c.element === target);
    chart.spec = detail;
    if (chart.drawn) draw(chart);
  });

  // --- theme ---
  const toggle = document.getElementById("theme");
  const isDark = () => (root.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const show = () => {
    toggle.setAttribute("aria-pressed", String(isDark()));
    redraw();
  };
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("detbalance-theme", root.dataset.theme); } catch { /* it holds until the page is left */ }
    show();
  });
  dark.addEventListener("change", show);
  toggle.setAttribute("aria-pressed", String(isDark()));

  // --- print: light, at the width of a sheet, and whole ---
  const PAPER = 620;
  let opened = [];
  addEventListener("beforeprint", () => {
    printing = true;
    root.dataset.screen = root.dataset.theme ?? "";
    root.dataset.theme = "light";
    opened = [...document.querySelectorAll(".setting:not([open]), .more:not([open]), .dirt details:not([open])")];
    opened.forEach((d) => { d.open = true; });
    charts.filter(visible).forEach((c) => draw(c, c.element.closest(".pair") ? PAPER / 2 - 25 : PAPER));
  });
  addEventListener("afterprint", () => {
    printing = false;
    if (root.dataset.screen) root.dataset.theme = root.dataset.screen;
    else delete root.dataset.theme;
    delete root.dataset.screen;
    opened.forEach((d) => { d.open = false; });
    redraw();
  });

  // --- one of several charts ---
  for (const group of document.querySelectorAll(".switch")) {
    const buttons = [...group.querySelectorAll(":scope > .choices button")];
    const panels = [...group.querySelectorAll(":scope > .choice")];
    buttons.forEach((button, chosen) => button.addEventListener("click", () => {
      buttons.forEach((b, i) => b.setAttribute("aria-pressed", String(i === chosen)));
      panels.forEach((p, i) => { p.hidden = i !== chosen; });
    }));
  }

  // --- commands ---
  for (const button of document.querySelectorAll(".copy"))
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(button.previousElementSibling.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(button.previousElementSibling);
        button.textContent = "Press Ctrl+C";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });

  // --- example images: ground truth and detections ---
  const iou = (a, b) => {
    const w = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), h = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
    if (w <= 0 || h <= 0) return 0;
    return (w * h) / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h);
  };
  const place = (canvas, example, box, kind, words) => {
    const mark = document.createElement("div");
    const text = document.createElement("span");
    mark.className = `box ${kind}`;
    const [x, y, w, h] = [box[0] / example.width, box[1] / example.height, (box[2] - box[0]) / example.width, (box[3] - box[1]) / example.height];
    Object.assign(mark.style, { left: `${100 * x}%`, top: `${100 * y}%`, width: `${100 * w}%`, height: `${100 * h}%` });
    text.textContent = mark.title = words;
    if (y < 0.06) text.classList.add("inside");
    mark.append(text);
    canvas.append(mark);
  };
  const paint = (figure, example, recipe, threshold, withTruth) => {
    const canvas = figure.querySelector(".canvas");
    canvas.querySelectorAll(".box").forEach((b) => b.remove());
    const free = example.truth.map((t) => ({ box: t, found: false }));
    const detections = (example.detections[recipe] ?? []).filter((d) => d[5] >= threshold).sort((a, b) => b[5] - a[5]);
    let right = 0;
    const marks = detections.map((d) => {
      const best = free.filter((t) => !t.found && t.box[4] === d[4]).reduce((m, t) => (iou(t.box, d) > (m ? iou(m.box, d) : 0) ? t : m), null);
      const hit = best !== null && iou(best.box, d) >= 0.5;
      if (hit) { best.found = true; right += 1; }
      return [d, hit ? "found" : "wrong", `${d[4]} ${d[5].toFixed(2)}`];
    });
    const wrong = marks.length - right, missed = example.truth.length - right;
    canvas.classList.toggle("dense", marks.length + missed > 8);
    for (const t of free) if (withTruth || !t.found) place(canvas, example, t.box, t.found ? "truth" : "missed", String(t.box[4]));
    for (const [d, kind, words] of marks) place(canvas, example, d, kind, words);
    figure.querySelector(".counts").textContent = `${right} found, ${wrong} false ${wrong === 1 ? "alarm" : "alarms"}, ${missed} missed`;
  };
  for (const viewer of document.querySelectorAll(".viewer")) {
    const { examples, recipes } = JSON.parse(viewer.querySelector(".boxes").textContent);
    const figures = [...viewer.querySelectorAll(".picture")];
    const slider = viewer.querySelector("input[type=range]"), truth = viewer.querySelector("input[name=truth]");
    const update = () => {
      const recipe = recipes[viewer.querySelector("input[type=radio]:checked")?.value ?? 0];
      viewer.querySelector("output").textContent = Number(slider.value).toFixed(2);
      figures.forEach((figure, i) => paint(figure, examples[i], recipe, Number(slider.value), truth.checked));
    };
    viewer.addEventListener("input", update);
    update();
  }

  // --- where the reader is ---
  const links = new Map([...document.querySelectorAll(".contents a")].map((a) => [a.hash.slice(1), a]));
  const spy = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      links.forEach((a) => a.removeAttribute("aria-current"));
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  for (const id of links.keys()) { const section = document.getElementById(id); if (section) spy.observe(section); }
})();
