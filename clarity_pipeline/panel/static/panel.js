"use strict";

/* Every moment is in the page as UTC; the viewer's own time is put before it. */
function localTimes(root) {
  const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  for (const time of root.querySelectorAll("time[data-instant]")) {
    const utc = time.textContent;
    time.removeAttribute("data-instant");
    const local = document.createElement("span");
    local.textContent = format.format(new Date(time.dateTime));
    const beside = document.createElement("small");
    beside.className = "quiet";
    beside.textContent = ` (${utc})`;
    time.replaceChildren(local, beside);
  }
}

document.addEventListener("DOMContentLoaded", () => localTimes(document));
document.addEventListener("htmx:afterSwap", (event) => localTimes(event.detail.elt.parentNode ?? document));
