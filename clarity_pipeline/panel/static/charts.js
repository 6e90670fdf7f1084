"use strict";

/* Draws every canvas[data-chart]: a line of days whose gaps stay gaps, in the colours of the page. */
(() => {
  const drawn = new Map();
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const dark = matchMedia("(prefers-color-scheme: dark)");

  const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  /* A colour of the page, mostly transparent. */
  function faint(colour, share) {
    const context = document.createElement("canvas").getContext("2d");
    context.fillStyle = colour;
    const alpha = Math.round(share * 255).toString(16).padStart(2, "0");
    return context.fillStyle + alpha;
  }

  /* Diagonal stripes: a missing day is told by more than a colour. */
  function hatch(colour, ground) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 8;
    const context = tile.getContext("2d");
    context.fillStyle = ground;
    context.fillRect(0, 0, 8, 8);
    context.strokeStyle = colour;
    context.lineWidth = 1.5;
    context.beginPath();
    for (const shift of [-8, 0, 8]) {
      context.moveTo(shift, 8);
      context.lineTo(shift + 8, 0);
    }
    context.stroke();
    return context.createPattern(tile, "repeat");
  }

  function tick(value, unit) {
    const text = value.toLocaleString("en-GB", { maximumFractionDigits: 2 });
    return unit === "percent" ? `${text} %` : unit === "time" ? `${text} s` : text;
  }

  function settings(data) {
    const ink = token("--ink");
    const quiet = token("--ink-2");
    const line = token("--line");
    const surface = token("--surface");
    const colour = token("--chart-1");
    const missing = data.values.map((value) => (value === null ? 1 : null));
    const few = data.values.length <= 31;
    const doubtful = (index) => data.doubtful[index] && data.values[index] !== null;
    const alone = (index) =>
      (data.values[index - 1] ?? null) === null && (data.values[index + 1] ?? null) === null;
    const radius = (index) => (doubtful(index) ? 5 : few || alone(index) ? 3 : 0);
    const animation = calm.matches ? false : { duration: 250 };
    return {
      data: {
        labels: data.days,
        datasets: [
          {
            type: "line",
            label: data.label,
            data: data.values,
            spanGaps: false,
            borderColor: colour,
            borderWidth: 2,
            tension: 0.25,
            cubicInterpolationMode: "monotone",
            fill: "origin",
            backgroundColor: faint(colour, 0.1),
            pointStyle: (context) => (doubtful(context.dataIndex) ? "rectRot" : "circle"),
            pointRadius: (context) => radius(context.dataIndex),
            pointHoverRadius: 6,
            pointHitRadius: 12,
            pointBackgroundColor: (context) => (doubtful(context.dataIndex) ? surface : colour),
            pointBorderColor: colour,
            pointBorderWidth: (context) => (doubtful(context.dataIndex) ? 2 : 0),
            yAxisID: "y",
            order: 1,
          },
          {
            type: "bar",
            label: "No data",
            data: missing,
            backgroundColor: hatch(faint(quiet, 0.4), token("--surface-2")),
            hoverBackgroundColor: hatch(quiet, token("--surface-2")),
            barPercentage: 1,
            categoryPercentage: 1,
            yAxisID: "missing",
            order: 2,
          },
        ],
      },
      options: {
        animation,
        maintainAspectRatio: false,
        responsive: true,
        interaction: { mode: "index", intersect: false },
        layout: { padding: { top: 8, right: 4 } },
        scales: {
          x: {
            grid: { display: false },
            border: { color: line },
            ticks: { color: quiet, maxRotation: 0, autoSkipPadding: 18 },
          },
          y: {
            beginAtZero: true,
            grace: "8%",
            grid: { color: line },
            border: { display: false },
            ticks: {
              color: quiet,
              maxTicksLimit: 6,
              precision: data.unit === "count" ? 0 : undefined,
              callback: (value) => tick(value, data.unit),
            },
          },
          missing: { display: false, min: 0, max: 1 },
        },
        plugins: {
          legend: { display: false },
          tooltip: {
            backgroundColor: ink,
            titleColor: surface,
            bodyColor: surface,
            footerColor: surface,
            footerFont: { weight: "normal" },
            padding: 10,
            cornerRadius: 8,
            displayColors: false,
            callbacks: {
              title: (items) => data.titles[items[0].dataIndex],
              label: (item) =>
                item.datasetIndex === 0 ? `${data.label}: ${data.texts[item.dataIndex]}` : "No data",
              footer: (items) => wrapped(data.notes[items[0].dataIndex]),
            },
          },
        },
      },
    };
  }

  /* Canvas text does not break by itself. */
  function wrapped(text) {
    const lines = [];
    for (const word of text.split(" ").filter(Boolean)) {
      const last = lines.at(-1);
      if (last !== undefined && last.length + word.length < 40) lines[lines.length - 1] = `${last} ${word}`;
      else lines.push(word);
    }
    return lines;
  }

  function draw() {
    for (const [canvas, chart] of drawn) {
      if (!canvas.isConnected) {
        chart.destroy();
        drawn.delete(canvas);
      }
    }
    for (const canvas of document.querySelectorAll("canvas[data-chart]")) {
      if (drawn.has(canvas)) continue;
      const font = getComputedStyle(document.body);
      Chart.defaults.font.family = font.fontFamily;
      Chart.defaults.font.size = 12;
      drawn.set(canvas, new Chart(canvas, settings(JSON.parse(canvas.dataset.chart))));
    }
  }

  /* Colours are copied into a chart, so it does not follow the page by itself. */
  function redraw() {
    for (const chart of drawn.values()) chart.destroy();
    drawn.clear();
    draw();
  }

  document.addEventListener("DOMContentLoaded", draw);
  document.addEventListener("htmx:afterSettle", draw);
  dark.addEventListener("change", redraw);
  calm.addEventListener("change", redraw);
})();
