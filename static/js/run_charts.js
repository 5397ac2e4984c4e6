// The charts of a run page: uPlot on a canvas, and the same numbers as a table. Colours are the page's own tokens.
/* global uPlot */
import { gettext } from "./i18n.js";

const [SHOWN, TICKS] = [4, 6].map((digits) => new Intl.NumberFormat(document.documentElement.lang, { maximumSignificantDigits: digits, useGrouping: false }));
const INKS = ["--accent", "--warn", "--good"];
const DASHES = [[], [8, 4], [2, 4]];

function ink(name, alpha = 1) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const color = getComputedStyle(probe).color;
  probe.remove();
  return alpha === 1 ? color : color.replace(/^rgb\(/, "rgba(").replace(/\)$/, `, ${alpha})`);
}

export function format(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return SHOWN.format(value);
}

// Ticks are round numbers, so short forms of them are exact.
function tick(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential().replace("e+", "e");
  return TICKS.format(value);
}

export class Chart {
  constructor(section) {
    this.section = section;
    this.metrics = section.dataset.metrics.split(" ");
    this.band = section.dataset.band ? section.dataset.band.split(" ") : [];
    this.all = [...this.metrics, ...this.band];
    this.plotArea = section.querySelector(".plot");
    this.tableArea = section.querySelector(".table-wrap");
    this.points = new Map(); // metric -> Map of step -> value
    this.asTable = false;
    this.plot = null;
    const toggle = section.querySelector("[data-table]");
    toggle.addEventListener("click", () => {
      this.asTable = !this.asTable;
      toggle.setAttribute("aria-pressed", String(this.asTable));
      this.draw();
    });
  }

  load(series) {
    for (const metric of this.all) {
      const [steps, values] = series[metric] || [[], []];
      this.points.set(metric, new Map(steps.map((step, i) => [step, values[i]])));
    }
  }

  add(step, metrics) {
    let news = false;
    for (const metric of this.all) {
      if (metrics[metric] === undefined || metrics[metric] === null) continue;
      this.points.get(metric).set(step, metrics[metric]);
      news = true;
    }
    return news;
  }

  // One column of steps, one of values per metric; null where a metric was not reported at a step.
  columns() {
    const steps = [...new Set(this.all.flatMap((metric) => [...this.points.get(metric).keys()]))].sort((a, b) => a - b);
    return [steps, ...this.all.map((metric) => steps.map((step) => this.points.get(metric).get(step) ?? null))];
  }

  draw() {
    const data = this.columns();
    const empty = data[0].length === 0;
    this.section.querySelector(".none").hidden = !empty;
    this.section.querySelector(".legend").hidden = empty;
    this.plotArea.hidden = empty || this.asTable;
    this.tableArea.hidden = empty || !this.asTable;
    if (empty) return;
    this.tellValues(data, data[0].length - 1);
    if (this.asTable) this.drawTable(data);
    else if (this.plot) this.plot.setData(data);
    else this.drawPlot(data);
  }

  tellValues(data, index) {
    this.metrics.forEach((metric, i) => {
      let at = index;
      while (at > 0 && data[i + 1][at] === null) at -= 1;
      this.section.querySelector(`[data-value="${metric}"]`).textContent = format(data[i + 1][at]);
    });
  }

  drawPlot(data) {
    const axis = { stroke: () => ink("--muted"), grid: { stroke: () => ink("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    const line = (i) => ({ stroke: () => ink(INKS[i]), width: 2, dash: DASHES[i], spanGaps: true, points: { show: data[0].length < 25, size: 5 } });
    const edge = { stroke: "transparent", width: 0, spanGaps: true, points: { show: false } };
    const first = this.metrics.length + 1;
    this.plot = new uPlot({
      width: this.plotArea.clientWidth || 300,
      height: this.plotArea.clientHeight || 184,
      legend: { show: false },
      scales: { x: { time: false }, y: { range: (_, low, high) => (low === 0 && high === 0 ? [0, 1] : uPlot.rangeNum(low ?? 0, high ?? 1, 0.1, true)) } },
      cursor: { y: false, points: { size: 6 } },
      axes: [
        { ...axis, size: 28, values: (_, ticks) => ticks.map((step) => (Number.isInteger(step) ? String(step) : "")) },
        { ...axis, size: 58, values: (_, ticks) => ticks.map(tick) },
      ],
      series: [{}, ...this.metrics.map((_, i) => line(i)), ...this.band.map(() => edge)],
      bands: this.band.length ? [{ series: [first + 1, first], fill: () => ink("--accent", 0.18) }] : [],
      hooks: { setCursor: [(plot) => this.tellValues(plot.data, plot.cursor.idx ?? plot.data[0].length - 1)] },
    }, data, this.plotArea);
    new ResizeObserver(() => {
      if (this.plotArea.clientWidth) this.plot.setSize({ width: this.plotArea.clientWidth, height: this.plotArea.clientHeight });
    }).observe(this.plotArea);
  }

  drawTable(data) {
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    const names = [gettext("Step"), ...this.all.map((metric) => this.nameOf(metric))];
    for (const name of names) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = name;
      head.append(cell);
    }
    const body = table.createTBody();
    for (let row = data[0].length - 1; row >= 0; row -= 1) { // newest first
      const line = body.insertRow();
      data.forEach((column, i) => {
        const cell = document.createElement(i ? "td" : "th");
        if (!i) cell.scope = "row";
        cell.textContent = i ? format(column[row]) : column[row];
        line.append(cell);
      });
    }
    this.tableArea.replaceChildren(table);
  }

  nameOf(metric) {
    const label = this.section.querySelector(`[data-name="${metric}"]`);
    return label ? label.textContent : metric.endsWith("_low") ? "lower bound" : "upper bound";
  }

  repaint() {
    if (this.plot) this.plot.redraw(false);
  }
}
