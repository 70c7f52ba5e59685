"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (id) => document.getElementById(id);

  /* Light, dark, or as the system has it. */
  const root = document.documentElement;
  const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (systemIsDark.matches ? "dark" : "light")) === "dark";
  const theme = one("theme");
  const nameTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
  theme.hidden = false;
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    nameTheme();
  });
  systemIsDark.addEventListener("change", nameTheme);
  nameTheme();

  /* Tables sort by the number of a cell, or by its text. */
  for (const table of all("table.sortable")) {
    const heads = all("thead th", table);
    const body = table.tBodies[0];
    const inOrder = [...body.rows];
    const key = (row, column) => {
      const cell = row.cells[column];
      return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
    };
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const isNumber = head.classList.contains("number");
        const first = isNumber ? "descending" : "ascending";
        const second = isNumber ? "ascending" : "descending";
        const now = before === null ? first : before === first ? second : null;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        const rows = [...inOrder];
        if (now !== null) {
          head.setAttribute("aria-sort", now);
          const sign = now === "ascending" ? 1 : -1;
          rows.sort((a, b) => {
            const [x, y] = [key(a, column), key(b, column)];
            return sign * (typeof x === "number" ? x - y : x.localeCompare(y));
          });
        }
        body.append(...rows);
      });
    });
  }

  /* Examples: a cell of every sheet is behind its frame. */
  const slider = one("step");
  const play = one("play");
  const head = one("head");
  const state = { step: 0, head: 0, example: 0 };

  const rowOf = (cell) => {
    if (cell.dataset.row === "head") {
      return Math.min(state.head, Number(cell.dataset.rows) - 1);
    }
    if (cell.dataset.row === "token") {
      return Number(cell.closest("figure").querySelector(".token-slider").value) - 1;
    }
    return 0;
  };

  const place = (cell) => {
    const { cell: kind, width, height } = cell.dataset;
    if (kind === "mark") {
      cell.setAttribute("x", (state.step - cell.dataset.first) * width);
    } else if (kind === "line") {
      cell.setAttribute("y", state.step);
    } else if (kind === "token") {
      const number = Number(cell.closest("figure").querySelector(".token-slider").value) - 1;
      const { columns, stride } = cell.dataset;
      cell.setAttribute("x", (number % columns) * stride * cell.getAttribute("width"));
      cell.setAttribute("y", Math.floor(number / columns) * stride * cell.getAttribute("height"));
    } else {
      if (kind.includes("x")) { cell.setAttribute("x", -state.step * width); }
      if (kind.includes("y")) { cell.setAttribute("y", -rowOf(cell) * height); }
    }
  };

  const show = (root = document) => {
    all("[data-cell]", root).forEach(place);
    for (const answer of all("[data-answer]", root)) {
      answer.classList.toggle("current", Number(answer.dataset.answer) === state.step + 1);
    }
    if (slider) {
      slider.value = state.step + 1;
      one("step-now").textContent = state.step + 1;
    }
  };

  const choices = all("button[data-example]");
  const examples = all("div[data-example]");
  for (const choice of choices) {
    choice.addEventListener("click", () => {
      state.example = choice.dataset.example;
      choices.forEach((other) => other.setAttribute("aria-pressed", other === choice));
      examples.forEach((each) => { each.hidden = each.dataset.example !== state.example; });
      show();
    });
  }

  let timer = null;
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const stop = () => {
    clearInterval(timer);
    timer = null;
    if (play) { play.textContent = calm.matches ? "Next step" : "Play"; }
  };
  const next = () => {
    state.step = (state.step + 1) % Number(slider.max);
    show();
  };
  if (slider) {
    slider.addEventListener("input", () => {
      stop();
      state.step = Number(slider.value) - 1;
      show();
    });
    play.addEventListener("click", () => {
      if (timer !== null) { stop(); return; }
      next();
      /* Who asks for less motion moves it step by step. */
      if (calm.matches) { return; }
      play.textContent = "Pause";
      timer = setInterval(next, 350);
    });
    calm.addEventListener("change", stop);
    stop();
    for (const strip of all(".strip")) {
      strip.addEventListener("click", (event) => {
        const box = strip.getBoundingClientRect();
        const { first, columns } = strip.dataset;
        const column = Math.floor(((event.clientX - box.left) / box.width) * columns);
        stop();
        state.step = Math.min(Number(first) + column, Number(slider.max) - 1);
        show();
      });
    }
  }
  if (head) {
    head.addEventListener("change", () => { state.head = Number(head.value); show(); });
  }
  for (const token of all(".token-slider")) {
    const figure = token.closest("figure");
    token.addEventListener("input", () => {
      figure.querySelector("output").textContent = token.value;
      show(figure);
    });
  }
  const under = one("under");
  if (under) {
    under.addEventListener("change", () => {
      all(".example").forEach((each) => each.classList.toggle("bare", !under.checked));
    });
    show();
  }
})();
