"use strict";

/* Draws canvas[data-backtest]: how many entities a rule would have fired for on each day, how many
   it could not decide about, and on how many it would have acted. */
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  let drawn = [];

  function settings(data) {
    const ink = token("--ink");
    const quiet = token("--ink-2");
    const surface = token("--surface");
    const bars = (label, values, colour) => ({
      label,
      data: values,
      backgroundColor: colour,
      stack: "answers",
      categoryPercentage: 0.85,
      barPercentage: 1,
      order: 2,
    });
    return {
      type: "bar",
      data: {
        labels: data.days,
        datasets: [
          bars("Fires", data.fired, token("--chart-2")),
          bars("Unknown", data.unknown, token("--line")),
          {
            type: "line",
            label: "Actions",
            data: data.actions,
            borderColor: token("--chart-1"),
            backgroundColor: token("--chart-1"),
            showLine: false,
            pointStyle: "rectRot",
            pointRadius: (context) => (data.actions[context.dataIndex] ? 4 : 0),
            order: 1,
          },
        ],
      },
      options: {
        animation: calm.matches ? false : { duration: 250 },
        maintainAspectRatio: false,
        interaction: { mode: "index", intersect: false },
        scales: {
          x: { stacked: true, grid: { display: false }, border: { color: token("--line") }, ticks: { color: quiet, maxRotation: 0, autoSkipPadding: 18 } },
          y: { stacked: true, beginAtZero: true, grid: { color: token("--line") }, border: { display: false }, ticks: { color: quiet, precision: 0, maxTicksLimit: 6 } },
        },
        plugins: {
          legend: { position: "bottom", labels: { color: ink, usePointStyle: true, boxHeight: 8 } },
          tooltip: {
            backgroundColor: ink,
            titleColor: surface,
            bodyColor: surface,
            padding: 10,
            cornerRadius: 8,
            callbacks: { title: (items) => data.titles[items[0].dataIndex] },
          },
        },
      },
    };
  }

  /* Colours are copied into a chart, so it does not follow the page by itself. */
  function draw() {
    for (const chart of drawn) chart.destroy();
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    Chart.defaults.font.size = 12;
    drawn = [...document.querySelectorAll("canvas[data-backtest]")].map(
      (canvas) => new Chart(canvas, settings(JSON.parse(canvas.dataset.backtest))),
    );
  }

  document.addEventListener("DOMContentLoaded", draw);
  dark.addEventListener("change", draw);
  calm.addEventListener("change", draw);
})();
