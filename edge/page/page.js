// Asks for the page again and puts its live part in place. After common/static/lost.js.
"use strict";
(() => {
  const EVERY_MS = 5000;
  const QUIET_MS = 15000;
  const { check, heard } = hearing(QUIET_MS, () => document.getElementById("live").dataset.time);

  const ask = async () => {
    const late = new AbortController(); // older phones know no AbortSignal.timeout
    const timer = setTimeout(() => late.abort(), EVERY_MS);
    try {
      const answer = await fetch("/", { cache: "no-store", signal: late.signal });
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const live = fresh.getElementById("live");
      if (!live) return;
      document.getElementById("live").replaceWith(live);
      document.title = fresh.title;
      heard();
    } catch {
      // What is not heard, `check` tells.
    } finally {
      clearTimeout(timer);
      setTimeout(ask, EVERY_MS);
    }
  };

  setTimeout(ask, EVERY_MS);
  setInterval(check, 1000);
})();
