// Shows the times in the browser's zone, unless the address says which zone. Everything works without it.
"use strict";
(() => {
  if (document.documentElement.dataset.zone) return;
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const two = (n) => String(n).padStart(2, "0");
  const forms = {
    full: (t) => `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`,
    clock: (t) => `${two(t.getHours())}:${two(t.getMinutes())}`,
    day: (t) => t.toLocaleDateString("en-GB", { day: "numeric", month: "short" }),
  };
  for (const element of document.querySelectorAll("time[datetime]")) {
    const at = new Date(element.dateTime);
    const form = forms[element.dataset.form];
    if (!form || isNaN(at)) continue;
    element.title = element.dateTime;
    element.textContent = form(at);
  }
  for (const element of document.querySelectorAll("[data-zone-text]")) {
    element.textContent = `Times are in ${zone}, as this browser.`;
  }
})();
