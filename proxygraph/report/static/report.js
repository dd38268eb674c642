"use strict";
// The page is whole without this: all articles (a formula, a network) stand below each other, plots and
// tables link to them. Here one article of a run is shown at a time, and is marked wherever it occurs.
(() => {
  const all = (query, within = document) => [...within.querySelectorAll(query)];
  const root = document.documentElement;
  const copies = JSON.parse(document.getElementById("data").textContent);
  const said = document.getElementById("said");
  root.classList.add("js");

  // ---- which article of a run, and which run, is shown
  const runs = all(".run");
  const runOf = (id) => document.getElementById(id)?.closest(".run");

  function choose(id, { address = true } = {}) {
    const run = runOf(id);
    if (!run) return;
    for (const article of all("article", run)) article.hidden = article.id !== id;
    for (const one of all("[data-pick]", run)) {
      const chosen = one.dataset.pick === id;
      one.classList.toggle("chosen", chosen);
      if (one.matches(".pick")) one.setAttribute("aria-checked", chosen);
      else chosen ? one.setAttribute("aria-current", "true") : one.removeAttribute("aria-current");
    }
    for (const one of all("[data-row], [data-mark]", run))
      one.classList.toggle("chosen", (one.dataset.row ?? one.dataset.mark) === id);
    for (const plot of all(".picks", run)) {
      const picks = all(".pick", plot); // one stop of the tab key for the whole plot
      const at = picks.find((one) => one.dataset.pick === id) ?? picks[0];
      for (const one of picks) one.setAttribute("tabindex", one === at ? "0" : "-1");
    }
    if (address) history.replaceState(null, "", `#${id}`);
  }

  function showRun(id) {
    for (const run of runs) run.hidden = runs.length > 1 && run.id !== id;
    for (const row of all("[data-run-row]")) {
      const chosen = row.dataset.runRow === id;
      row.classList.toggle("chosen", chosen);
      const link = row.querySelector("[data-run]");
      chosen ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
    }
  }

  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const go = (element) => {
    element.scrollIntoView({ block: "start", behavior: calm.matches ? "auto" : "smooth" });
    element.focus({ preventScroll: true });
  };

  for (const run of runs) {
    const best = run.querySelector("[data-best]");
    if (best) choose(best.id, { address: false });
    for (const plot of all(".picks", run)) {
      plot.setAttribute("role", "radiogroup");
      for (const one of all(".pick", plot)) one.setAttribute("role", "radio");
    }
  }
  function follow() {
    const target = document.getElementById(location.hash.slice(1));
    const run = target?.closest(".run");
    if (run || !runs.some((one) => one.hidden)) showRun((run ?? runs[0])?.id); // #main leaves the run shown
    if (target?.matches("article")) choose(target.id, { address: false });
  }
  addEventListener("hashchange", follow);
  follow();

  document.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    const run = event.target.closest("[data-run]");
    if (run) {
      event.preventDefault();
      showRun(run.dataset.run);
      history.replaceState(null, "", `#${run.dataset.run}`);
      document.getElementById(run.dataset.run).focus({ preventScroll: true });
      return;
    }
    const pick = event.target.closest("[data-pick]");
    if (!pick) return;
    event.preventDefault();
    choose(pick.dataset.pick);
    if ("go" in pick.dataset) go(document.getElementById(pick.dataset.pick));
  });

  // ---- arrow keys go through a plot and through the list beside it
  const STEP = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };
  document.addEventListener("keydown", (event) => {
    const here = event.target.closest?.("[data-pick]");
    if (!here || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " ") {
      event.preventDefault();
      here.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true }));
      return;
    }
    if (!(event.key in STEP)) return;
    const group = all("[data-pick]", here.closest(".picks, table, .gallery"));
    const next = group[Math.min(Math.max(group.indexOf(here) + STEP[event.key], 0), group.length - 1)];
    event.preventDefault();
    choose(next.dataset.pick);
    next.focus();
  });

  // ---- what is pointed at is marked everywhere
  let hot = [];
  function mark(elements) {
    for (const one of hot) one.classList.remove("hot");
    hot = elements;
    for (const one of hot) one.classList.add("hot");
  }
  document.addEventListener("pointerover", (event) => {
    const node = event.target.closest("[data-node]");
    if (node) return mark(all(`[data-node="${node.dataset.node}"]`, node.closest("article")));
    const one = event.target.closest("[data-pick], [data-row], [data-mark]");
    const id = one && (one.dataset.pick ?? one.dataset.row ?? one.dataset.mark);
    mark(id ? all(`[data-pick="${id}"], [data-row="${id}"], [data-mark="${id}"]`) : []);
  });

  // ---- copy
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = Object.assign(document.createElement("textarea"), { value: text });
      area.className = "unseen";
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      if (!done) throw new Error("the browser does not allow it");
    }
  }
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const kind = button.dataset.copy;
    said.textContent = ""; // what is said again must change
    try {
      await copy(copies[button.dataset.of][kind]);
      said.textContent = `Copied as ${kind}`;
      button.textContent = "copied";
    } catch (error) {
      said.textContent = `Not copied: ${error.message}`;
      button.textContent = "not copied";
    }
    setTimeout(() => { button.textContent = kind; }, 1600);
  });

  // ---- the dot under the pointer; names and numbers are those of a table
  const text = (row, i) => row.cells[i].textContent.trim();
  const dotsOf = (path) => [...(path?.getAttribute("d") ?? "").matchAll(/M(\S+) ([\d.-]+?)(?=[hm])/g)]
    .map(([, x, y], k) => ({ k, x: +x, y: +y }));

  function telling(plot, places, say) {
    const tell = plot.closest("figure").querySelector("[data-tell]");
    const usual = tell.textContent;
    const ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    ring.setAttribute("r", "7");
    ring.setAttribute("class", "ringed");
    let dots;
    plot.addEventListener("pointermove", (event) => {
      dots ??= places();
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(plot.getScreenCTM().inverse());
      let best = null, least = 24 ** 2;
      for (const dot of dots) {
        const far = (dot.x - at.x) ** 2 + (dot.y - at.y) ** 2;
        if (far < least) [best, least] = [dot, far];
      }
      ring.remove();
      tell.textContent = usual;
      if (!best) return;
      ring.setAttribute("cx", best.x);
      ring.setAttribute("cy", best.y);
      plot.append(ring);
      tell.textContent = say(best);
    });
    plot.addEventListener("pointerleave", () => { ring.remove(); tell.textContent = usual; });
  }

  const PARTS = ["train", "validation", "test"];
  const rowsOf = new Map();
  function rows(run) {
    if (!rowsOf.has(run)) {
      const found = { train: [], validation: [], test: [] };
      for (const row of all("[data-rows] tbody tr", run)) found[text(row, 1)]?.push(row);
      rowsOf.set(run, found);
    }
    return rowsOf.get(run);
  }
  for (const plot of all(".scatter")) { // rows of the runs of a formula
    const article = plot.closest("article"), run = plot.closest(".run");
    const column = 3 + all("article", run).indexOf(article);
    telling(
      plot,
      () => PARTS.flatMap((part) => dotsOf(plot.querySelector(`.rows.${part}`)).map((dot) => ({ part, ...dot }))),
      ({ part, k }) => {
        const row = rows(run)[part].filter((one) => text(one, column) !== "–")[k];
        return `${text(row, 0)} (${part}): target ${text(row, 2)}, formula ${text(row, column)}`;
      },
    );
  }
  for (const plot of all("[data-cloud]")) { // candidates: name, cost, score
    telling(
      plot,
      () => dotsOf(plot.querySelector(".cloud")),
      ({ k }) => {
        const row = document.getElementById(plot.dataset.cloud).tBodies[0].rows[k];
        return `${text(row, 0)}: ${text(row, 1)} ms, score ${text(row, 2)}`;
      },
    );
  }
})();
