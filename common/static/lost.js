// For both pages: says plainly when a page has heard nothing for too long, of when it is, and for how long.
"use strict";
const hearing = (quietMs, time) => {
  const lost = document.getElementById("lost");
  let last = performance.now();

  const age = (ms) => {
    const s = Math.round(ms / 1000);
    return s < 120 ? `${s} s` : `${Math.floor(s / 60)} min`;
  };

  const check = () => {
    const quiet = performance.now() - last;
    const gone = quiet > quietMs;
    document.body.classList.toggle("stale", gone);
    if (gone) lost.textContent = lost.dataset.text.replace("{time}", time()).replace("{age}", age(quiet));
    lost.hidden = !gone;
    return gone;
  };

  const heard = () => {
    last = performance.now();
    check();
  };

  return { check, heard };
};
