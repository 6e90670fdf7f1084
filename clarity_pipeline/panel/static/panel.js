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
    beside.textContent = `(${utc})`;
    time.replaceChildren(local, " ", beside);
  }
}

/* What a poll brings is read out once, and not again every two seconds. */
function announce(root) {
  const announcer = document.getElementById("announcer");
  const latest = root.querySelector("[data-announce]")?.dataset.announce;
  if (announcer && latest && announcer.textContent !== latest) announcer.textContent = latest;
}

/* What went well is seen where the button is; what did not must not stay out of sight. */
function showNotice() {
  document.querySelector("#notice > .bad, #notice > .warn")?.scrollIntoView({ block: "nearest" });
}

/* A field with `data-says-invalid` is checked against its pattern while somebody types. */
function checkField(field) {
  const wrong = field.value !== "" && !field.validity.valid;
  const says = document.getElementById(`${field.id}-error`);
  field.setAttribute("aria-invalid", String(wrong));
  if (says) says.textContent = wrong ? field.dataset.saysInvalid : "";
}

document.addEventListener("input", (event) => {
  if (event.target.matches?.("[data-says-invalid]")) checkField(event.target);
});

/* Somebody who comes back to the page sees what others have begun meanwhile. */
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") document.body.dispatchEvent(new Event("panel-visible"));
});

/* What was just done is not said again by a reload or a bookmark. */
function forgetWhatWasDone() {
  if (new URLSearchParams(location.search).has("done")) history.replaceState(null, "", location.pathname);
}

document.addEventListener("DOMContentLoaded", () => {
  localTimes(document);
  forgetWhatWasDone();
});
document.addEventListener("htmx:afterSettle", (event) => {
  localTimes(document);
  announce(document);
  if (event.detail.requestConfig?.verb === "post") showNotice();
});
