// Keeps the page current: the server renders its parts, this replaces them. After lost.js.
"use strict";
(() => {
  const QUIET_MS = 10000;
  const RETRY_MS = 5000;
  const title = document.title;
  const { check, heard } = hearing(QUIET_MS, () => document.getElementById("time").dataset.time);
  let dialled = 0;
  let source = null;

  const connect = () => {
    if (source) source.close();
    dialled = performance.now();
    source = new EventSource(document.body.dataset.events);
    source.addEventListener("part", (event) => {
      const part = JSON.parse(event.data);
      const old = document.getElementById(part.id);
      if (old) old.outerHTML = part.html;
      heard();
      const worst = document.getElementById("summary").dataset.worst;
      document.title = worst ? `(${worst}) ${title}` : title;
    });
  };

  connect();
  setInterval(() => {
    if (check() && performance.now() - dialled > RETRY_MS) connect();
  }, 1000);
})();
