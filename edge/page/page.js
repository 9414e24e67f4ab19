// Asks for the page again, puts its live part in place, and says plainly when no answer comes.
"use strict";
(() => {
  const EVERY_MS = 5000;
  const QUIET_MS = 15000;
  const lost = document.getElementById("lost");
  let heard = performance.now();

  const age = (ms) => {
    const s = Math.round(ms / 1000);
    return s < 120 ? `${s} s` : `${Math.floor(s / 60)} min`;
  };

  const check = () => {
    const quiet = performance.now() - heard;
    const gone = quiet > QUIET_MS;
    document.body.classList.toggle("stale", gone);
    if (gone) {
      const time = document.getElementById("live").dataset.time;
      lost.textContent = lost.dataset.text.replace("{time}", time).replace("{age}", age(quiet));
    }
    lost.hidden = !gone;
  };

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
      heard = performance.now();
      check();
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
