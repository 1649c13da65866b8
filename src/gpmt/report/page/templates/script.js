(() => {
  "use strict";
  const root = document.documentElement;
  const nonce = document.currentScript.nonce;
  const palettes = JSON.parse(document.getElementById("colours").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const ROWS = 25, PRINTED = 680, PRINTED_ROWS = 1000;
  const figures = [], tables = [];
  let printing = false;

  // What a browser remembers; where it may not, the page does without.
  const kept = {
    get(store, key) { try { return window[store].getItem(key); } catch { return null; } },
    set(store, key, value) { try { window[store].setItem(key, value); } catch { /* not allowed */ } },
  };

  async function content(element) {
    if (element.type === "application/json") return element.textContent;
    const bytes = Uint8Array.from(atob(element.textContent.trim()), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  // Themes
  const button = document.getElementById("theme");
  const theme = () => printing ? "light" : root.dataset.theme || (dark.matches ? "dark" : "light");
  function named() {
    button.textContent = theme() === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${button.textContent.toLowerCase()} colours`);
  }
  const chosen = kept.get("localStorage", "gpmt-theme");
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  button.hidden = false;
  named();
  button.addEventListener("click", () => {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    kept.set("localStorage", "gpmt-theme", root.dataset.theme);
    named();
    redraw();
  });
  dark.addEventListener("change", () => { named(); redraw(); });

  // Tables: a page of rows at a time, of those that the filter leaves; on paper all of them, as far as paper goes
  class Rows {
    constructor(element, table) {
      this.element = element;
      this.body = element.querySelector("tbody");
      this.filter = element.querySelector("input");
      this.count = element.querySelector(".count");
      this.back = element.querySelector(".back");
      this.next = element.querySelector(".next");
      this.start = 0;
      tables.push(this);
      this.use(table);
      if (!this.filter) return;
      this.filter.addEventListener("input", () => { this.start = 0; this.show(); });
      this.back.addEventListener("click", () => { this.start -= ROWS; this.show(); });
      this.next.addEventListener("click", () => { this.start += ROWS; this.show(); });
    }
    use(table) {
      this.table = table;
      this.start = 0;
      this.texts = this.filter ? table.rows.map((row) => row.join("\n").toLowerCase()) : [];
      this.show();
    }
    show() {
      const wanted = this.filter ? this.filter.value.trim().toLowerCase() : "";
      const rows = wanted ? this.table.rows.filter((_, at) => this.texts[at].includes(wanted)) : this.table.rows;
      const [from, most] = printing ? [0, PRINTED_ROWS] : [this.start, ROWS];
      const shown = this.filter ? rows.slice(from, from + most) : rows;
      this.body.replaceChildren(...shown.map((row) => {
        const line = document.createElement("tr");
        row.forEach((value, at) => {
          const cell = line.insertCell();
          cell.textContent = value;
          if (this.table.words.includes(at)) cell.className = "words";
        });
        return line;
      }));
      if (!this.filter) return;
      const end = from + shown.length;
      const first = shown.length ? from + 1 : 0;
      this.count.textContent = `${first.toLocaleString("en")} to ${end.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
      if (printing && wanted) this.count.textContent += ` with “${wanted}”`;
      if (printing && end < rows.length) this.count.textContent += "; the others are on the page, and in what gpmt table writes";
      this.back.disabled = this.start === 0;
      this.next.disabled = end >= rows.length;
    }
  }

  // Figures
  function painted(value, palette, coloured) {
    if (Array.isArray(value)) return value.map((entry) => painted(entry, palette, coloured));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, entry]) =>
        [key, painted(entry, palette, coloured || /color/i.test(key))]));
    }
    if (!coloured || typeof value !== "string" || !value.startsWith("@")) return value;
    const [name, share] = value.split("/");
    const colour = palette[name];
    if (!share) return colour;
    const parts = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    return `rgba(${parts.join(",")},${share})`;
  }

  function layoutOf(given, traces, height, palette, width) {
    const narrow = width < 500;
    const axis = {
      color: palette["@text"], gridcolor: palette["@grid"], linecolor: palette["@grid"], zeroline: false,
      ticks: "", title: { font: { color: palette["@muted"], size: 12 }, standoff: 8 }, automargin: true,
    };
    const layout = painted(given, palette, false);
    if (narrow && layout.yaxis?.ticktext) {
      layout.yaxis.ticktext = layout.yaxis.ticktext.map((label) =>
        label.length > 16 && !label.includes("&") ? "…" + label.slice(-15) : label);
    }
    const named = traces.filter((trace) => trace.name && trace.showlegend !== false).length;
    return {
      ...layout,
      height: height + (narrow ? 18 * named : 0), width, autosize: false,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: narrow ? 10.5 : 12, color: palette["@text"] },
      margin: { l: narrow ? 40 : 56, r: 12, t: 30, b: 46 },
      legend: { orientation: "h", x: 0, y: 1.01, yanchor: "bottom", font: { size: narrow ? 10.5 : 12 } },
      hovermode: "closest",
      hoverlabel: {
        bgcolor: palette["@background"], bordercolor: palette["@muted"], align: "left",
        font: { color: palette["@text"], size: 12 },
      },
      dragmode: matchMedia("(pointer: fine)").matches ? "zoom" : false,
      template: { layout: { xaxis: axis, yaxis: axis } },
    };
  }

  class Figure {
    constructor(element, data) {
      this.element = element;
      this.data = data;
      this.plot = element.querySelector(".plot");
      this.caption = element.querySelector("figcaption");
      this.choice = element.querySelector("select");
      this.details = element.querySelector("details");
      this.details.addEventListener("toggle", () => this.tabulate());
      this.choice?.addEventListener("change", () => { this.describe(); this.draw(); this.tabulate(); });
    }
    get view() { return this.data.views[this.choice ? Number(this.choice.value) : 0]; }
    describe() {
      this.caption.textContent = this.view.finding;
      this.plot.setAttribute("aria-label", `${this.element.querySelector(".picture-head > :first-child").textContent}. ${this.view.finding}`);
    }
    tabulate() {
      if (!this.details.open) return;
      const table = this.details.querySelector(".table");
      if (this.rows) this.rows.use(this.view.table);
      else this.rows = new Rows(table, this.view.table);
    }
    draw() {
      const palette = palettes[theme()];
      const width = printing ? PRINTED : this.plot.clientWidth;
      const { traces, layout } = this.view;
      const drawn = layoutOf(layout, traces, this.data.height, palette, width);
      this.width = width;
      this.plot.style.height = `${drawn.height}px`;
      return Plotly.react(this.plot, painted(traces, palette, false), drawn, { displayModeBar: false, doubleClick: "reset" });
    }
  }

  function redraw() { if (window.Plotly) for (const figure of figures) figure.draw(); }

  async function start() {
    for (const element of document.querySelectorAll(".table > script")) {
      new Rows(element.parentElement, JSON.parse(await content(element)));
    }
    const library = document.getElementById("plotly");
    if (library) {
      const script = document.createElement("script");
      script.nonce = nonce;
      script.textContent = await content(library);
      document.head.append(script);
      for (const element of document.querySelectorAll(".picture")) {
        const figure = new Figure(element, JSON.parse(await content(element.querySelector(":scope > script"))));
        figures.push(figure);
        await figure.draw();
        await new Promise((resolve) => setTimeout(resolve, 0));
      }
      let waiting;
      new ResizeObserver(() => {
        clearTimeout(waiting);
        waiting = setTimeout(() => {
          for (const figure of figures) if (!printing && figure.plot.clientWidth !== figure.width) figure.draw();
        }, 80);
      }).observe(document.body);
    }
    restore();
    root.dataset.drawn = Math.round(performance.now());
    if (seconds) setTimeout(reload, 1000 * seconds);
  }

  function print(on) {
    printing = on;
    for (const one of document.querySelectorAll("details.numbers, details.folded")) {
      if (on) one.dataset.closed = one.open ? "" : "closed";
      one.open = on || !one.dataset.closed;
    }
    for (const table of tables) table.show();
    redraw();
  }
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));

  // While a run goes on the page loads itself anew, and stays where the reader is.
  const seconds = Number(document.body.dataset.refresh);
  const place = `gpmt-place ${location.pathname}`;
  function restore() {
    const saved = JSON.parse(kept.get("sessionStorage", place) || "null");
    if (!saved) return;
    kept.set("sessionStorage", place, "null");
    const all = document.querySelectorAll("details");
    for (const at of saved.open) if (all[at]) all[at].open = true;
    scrollTo({ top: saved.top, behavior: "instant" });
  }
  function reload() {
    const open = [...document.querySelectorAll("details")].flatMap((one, at) => one.open ? [at] : []);
    kept.set("sessionStorage", place, JSON.stringify({ top: scrollY, open }));
    location.reload();
  }

  start().catch((error) => {
    for (const plot of document.querySelectorAll(".plot")) {
      plot.textContent = "This browser cannot draw the figure; the table below has its numbers.";
      plot.style.height = "auto";
    }
    throw error;
  });
})();
