"""The status page's script: fetches the page again and again and puts what has changed in its place. PURE.

There is no second way of drawing anything: what the keeper writes is what is shown, with a script or without.
"""

SCRIPT = """
"use strict";
(() => {
  const EVERY_MS = 5000, WITHIN_MS = 20000;
  const main = document.querySelector("main"), form = document.querySelector("form");
  const said = document.getElementById("said"), lost = document.getElementById("lost");
  const pause = document.getElementById("pause");
  const version = document.documentElement.dataset.version;
  let timer = 0, latest = 0, paused = false, lastSeen = new Date();

  // An element stays the same one as long as its id does, or, without one, its place and kind: so focus, scrolling,
  // what is selected and what was opened stay where they are.
  const alike = (a, b) => a && a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");

  function become(old, fresh) {
    if (old.nodeType === Node.TEXT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) return;
    for (const { name } of [...old.attributes])
      if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes)
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    if (old.nodeName === "INPUT") return;  // its value is the reader's
    const byId = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
    let at = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      const same = child.id ? byId.get(child.id) : alike(at, child) ? at : null;
      if (!same || !alike(same, child)) {
        old.insertBefore(document.importNode(child, true), at);
      } else {
        if (same === at) at = at.nextSibling; else old.insertBefore(same, at);
        become(same, child);
      }
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }

  function show(fresh) {
    const focused = document.activeElement && document.activeElement.id;
    become(main, fresh);
    const again = focused && document.getElementById(focused);  // what moves loses it
    if (again && again !== document.activeElement) again.focus({ preventScroll: true });
  }

  async function look() {
    clearTimeout(timer);
    const mine = ++latest;
    try {
      const answer = await fetch(new URL(location.pathname + location.search, location.origin),
        { cache: "no-store", signal: AbortSignal.timeout(WITHIN_MS) });
      const text = await answer.text();
      if (mine !== latest) return;  // another question was asked since
      if (!answer.ok) throw new Error(answer.status);
      const fresh = new DOMParser().parseFromString(text, "text/html");
      if (fresh.documentElement.dataset.version !== version) return location.reload();
      document.title = fresh.title;
      show(fresh.querySelector("main"));
      lastSeen = new Date();
      tell("");
    } catch {
      if (mine !== latest) return;
      tell(`No answer since ${lastSeen.toLocaleTimeString()}: what is below is old. Asking again.`);
    }
    if (!paused) timer = setTimeout(look, EVERY_MS);
  }

  function tell(trouble) {
    lost.hidden = !trouble;
    if (lost.textContent !== trouble) lost.textContent = trouble;
    document.body.classList.toggle("old", Boolean(trouble));
  }

  function go(address) {
    history.replaceState(null, "", address);
    look();
  }

  async function refresh(button) {
    if (button.getAttribute("aria-disabled") === "true") return;
    button.setAttribute("aria-disabled", "true");
    const name = button.querySelector("span").textContent.trim();
    try {
      const answer = await fetch(new URL(`/api/staples/${button.dataset.key}/refresh`, location.origin),
        { method: "POST", headers: { "Content-Type": "application/json" } });
      const told = await answer.json();
      said.textContent = answer.ok ? `Asking the responder for ${name}.` : `${name}: ${told.error}.`;
    } catch {
      said.textContent = `${name}: no answer.`;
    }
    setTimeout(look, 500);
  }

  let typing = 0;
  form.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => form.requestSubmit(), 250);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const fields = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
    go(fields.size ? `/?${fields}` : "/");
  });
  main.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='/?'], a[href='/']"), button = event.target.closest("[data-key]");
    if (button) refresh(button);
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    go(link.getAttribute("href"));
  });
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", paused);
    if (paused) clearTimeout(timer); else look();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer); else if (!paused) look();
  });
  document.documentElement.classList.add("live");
  timer = setTimeout(look, EVERY_MS);
})();
"""
