// Keeps the page current: the server renders its parts, this replaces them, and says plainly when it hears nothing more.
"use strict";
(() => {
  const QUIET_MS = 10000;
  const RETRY_MS = 5000;
  const lost = document.getElementById("lost");
  const title = document.title;
  let heard = performance.now();
  let dialled = 0;
  let source = null;

  const age = (ms) => {
    const s = Math.round(ms / 1000);
    return s < 120 ? `${s} s` : `${Math.floor(s / 60)} min`;
  };

  const check = () => {
    const quiet = performance.now() - heard;
    const gone = quiet > QUIET_MS;
    document.body.classList.toggle("stale", gone);
    if (gone) {
      const time = document.getElementById("time").dataset.time;
      lost.textContent = lost.dataset.text.replace("{time}", time).replace("{age}", age(quiet));
    }
    lost.hidden = !gone;
    if (gone && performance.now() - dialled > RETRY_MS) connect();
  };

  const connect = () => {
    if (source) source.close();
    dialled = performance.now();
    source = new EventSource(document.body.dataset.events);
    source.addEventListener("part", (event) => {
      const part = JSON.parse(event.data);
      const old = document.getElementById(part.id);
      if (old) old.outerHTML = part.html;
      heard = performance.now();
      const worst = document.getElementById("summary").dataset.worst;
      document.title = worst ? `(${worst}) ${title}` : title;
      if (!lost.hidden) check();
    });
  };

  connect();
  setInterval(check, 1000);
})();
