// Fetches the page again while somebody looks at it, and puts what has changed in its place. Without this
// script the pages do all the same things, and are as old as they were loaded.
"use strict";

(() => {
  const EVERY = 2000;
  const LONGEST = 60000;
  let pause = EVERY;

  // What was done has been told: a reload is not to tell it again.
  const here = new URL(location.href);
  if (here.searchParams.has("done")) {
    here.searchParams.delete("done");
    here.searchParams.delete("count");
    history.replaceState(null, "", here);
  }
  const plain = document.getElementById("plain");
  if (plain && !window.isSecureContext) plain.hidden = false;

  // Somebody is in the middle of something.
  const busy = (live) =>
    live.querySelector("details[open]") !== null ||
    (live.contains(document.activeElement) && document.activeElement.matches("input, select, textarea, pre")) ||
    (!window.getSelection().isCollapsed && live.contains(window.getSelection().anchorNode));

  // What is here may not be so any more.
  const stale = (is) => (document.getElementById("stale").hidden = !is);

  async function look() {
    const live = document.getElementById("live");
    if (!live || !live.dataset.tag) return;
    if (!document.hidden && !busy(live)) {
      try {
        const answer = await fetch(location.href, {
          headers: { Accept: "text/html", "If-None-Match": `"${live.dataset.tag}"` },
          credentials: "same-origin",
        });
        if (answer.status === 401 || answer.status === 403) return location.reload();
        if (answer.status === 200) {
          const page = new DOMParser().parseFromString(await answer.text(), "text/html");
          const fresh = page.getElementById("live");
          if (fresh && !busy(live)) replace(live, fresh);
        }
        const isTold = answer.ok || answer.status === 304;
        pause = isTold ? EVERY : Math.min(pause * 2, LONGEST);
        stale(!isTold);
      } catch {
        pause = Math.min(pause * 2, LONGEST);
        stale(true);
      }
    }
    setTimeout(look, pause);
  }

  // Whoever goes by the keyboard, or has scrolled a table, stays where they are.
  function replace(live, fresh) {
    const had = live.contains(document.activeElement) ? document.activeElement : null;
    const scrolled = [...live.querySelectorAll(".scroll")].map((table) => table.scrollLeft);
    live.replaceWith(fresh);
    fresh.querySelectorAll(".scroll").forEach((table, n) => (table.scrollLeft = scrolled[n] ?? 0));
    const is = (other) =>
      had.id ? other.id === had.id : had.matches("a[href]") && other.getAttribute("href") === had.getAttribute("href");
    if (had) [...fresh.querySelectorAll("a[href], [id]")].find(is)?.focus({ preventScroll: true });
  }

  setTimeout(look, pause);
})();
