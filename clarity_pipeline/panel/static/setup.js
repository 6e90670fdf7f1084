"use strict";

/* The code is in the link's fragment, which browsers send to nobody; here it becomes a field, and
   leaves the address bar, where somebody could read it over a shoulder. */
const code = document.getElementById("setup-code");
if (code && location.hash.length > 1) {
  code.value = decodeURIComponent(location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
}
