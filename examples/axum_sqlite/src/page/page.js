const SECONDS = 60;
const LANES = ["without", "with"];
const $ = id => document.getElementById(id);

/** The charts of a lane. `scale` maps a value to the height of the chart, from 0 to 1. */
const CHARTS = {
  requests: {
    series: [["good", "answered"], ["bad", "failed"]],
    stacked: true,
    scale: ofRate,
    ticks: () => [0, rate / 2, rate],
    show: ({ answered, failed }) => `${answered} answered, ${failed} failed`,
  },
  latency: {
    series: [["good", "p50"], ["warm", "p99"]],
    // From 0.01 ms to 1 s, by powers of ten.
    scale: value => (Math.log10(Math.max(value, 0.01)) + 2) / 5,
    ticks: () => [0.1, 10, 1000],
    unit: value => value < 1000 ? `${value} ms` : "1 s",
    show: ({ p50, p99 }) => `p50 ${milliseconds(p50)}, p99 ${milliseconds(p99)}`,
  },
  queries: {
    series: [["good", "queries"]],
    scale: ofRate,
    ticks: () => [0, rate / 2, rate],
    show: ({ queries }) => `${queries} queries`,
  },
  without_query: {
    series: [["good", "without_query"]],
    scale: value => value,
    ticks: () => [0, 0.5, 1],
    unit: percent,
    show: ({ without_query }) => percent(without_query),
  },
};

const NUMBERS = {
  answered: ({ answered }) => `${answered}/s`,
  failed: ({ failed }) => `${failed}/s`,
  queries: ({ queries }) => `${queries}/s`,
  without_query: ({ without_query }) => percent(without_query),
  p50: ({ p50 }) => milliseconds(p50),
  p99: ({ p99 }) => milliseconds(p99),
};

let rate = 300;
let samples = [];
let switches = null;
let isConnected = false;
/** A change whose effect is told a few seconds later. */
let pending = null;

function ofRate(value) {
  return value / (rate * 1.2);
}

function milliseconds(value) {
  if (value == null) return "–";
  return `${value < 10 ? value.toFixed(2) : value.toFixed(0)} ms`;
}

function percent(value) {
  if (value == null) return "–";
  // 99.97 % is not all.
  return `${Math.floor(value * 1000) / 10} %`.replace(/\.0 %/, " %");
}

async function request(path, method = "GET", body) {
  const headers = body === undefined ? {} : { "content-type": "application/json" };
  const response = await fetch(path, { method, headers, body: JSON.stringify(body) });
  const json = await response.json();
  if (!response.ok) throw new Error(json.error);
  return json;
}

/** Shows a sentence, which screen readers read out. */
function tell(text, isAlarm = false) {
  pending = null;
  $("news").textContent = text;
  $("news").classList.toggle("alarm", isAlarm);
}

/** Tells of a change now, and of what it leads to after some seconds. */
function changed(text, isAlarm = false) {
  tell(text, isAlarm);
  pending = { text, isAlarm, at: performance.now() + 5000 };
}

function tellEffect() {
  if (!pending || performance.now() < pending.at || samples.length === 0) return;
  const { without, with: cached } = samples.at(-1);
  const { text, isAlarm } = pending;
  const of = lane => `${lane.answered} of ${lane.answered + lane.failed}`;
  tell(`${text} Answered in the last second: ${of(without)} requests without cacheio, ${of(cached)} with it.`, isAlarm);
}

/** Makes an SVG element. */
function shape(name, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

function draw(svg, chart, lane) {
  const [width, height, left, top] = [svg.clientWidth, svg.clientHeight, 40, 8];
  const step = (width - left) / (SECONDS - 1);
  const first = samples.length - SECONDS;
  const x = i => left + (i - first) * step;
  const y = value => height - 6 - Math.min(chart.scale(value), 1) * (height - 6 - top);
  const shapes = [];

  samples.forEach((sample, i) => {
    if (sample.database === "normal" && sample.redis !== "down") return;
    const from = Math.max(x(i) - step, left);
    shapes.push(shape("rect", { class: "fault", x: from, y: 0, width: x(i) - from, height }));
  });
  for (const tick of chart.ticks()) {
    shapes.push(shape("line", { class: "grid", x1: left, x2: width, y1: y(tick), y2: y(tick) }));
    shapes.push(shape("text", { x: left - 5, y: y(tick) }, (chart.unit ?? Math.round)(tick)));
  }
  const sums = samples.map(() => 0);
  for (const [color, name] of chart.series) {
    let path = "";
    samples.forEach((sample, i) => {
      const value = sample[lane][name];
      const continues = samples[i - 1]?.[lane][name] != null;
      if (value == null) return;
      if (chart.stacked) {
        const [from, to] = [sums[i], sums[i] += value];
        const start = Math.max(x(i) - step, left);
        if (value) path += `M${start} ${y(from)}V${y(to)}H${x(i)}V${y(from)}Z`;
      } else {
        // A point without neighbours is a dot: the ends of lines are round.
        path += continues ? `L${x(i)} ${y(value)}` : `M${x(i)} ${y(value)}h0`;
      }
    });
    shapes.push(shape("path", { class: `${chart.stacked ? "area" : "line"} ${color}`, d: path }));
  }
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("aria-label", samples.length ? chart.show(samples.at(-1)[lane]) : "no data yet");
  svg.replaceChildren(...shapes);
}

function showSamples() {
  for (const lane of LANES) {
    const last = samples.at(-1)?.[lane];
    for (const number of $(lane).querySelectorAll("[data-number]")) {
      const name = number.dataset.number;
      if (last) number.textContent = NUMBERS[name](last);
      number.classList.toggle("alarm", name === "failed" && last?.failed > 0);
    }
    for (const svg of $(lane).querySelectorAll("[data-chart]")) draw(svg, CHARTS[svg.dataset.chart], lane);
  }
}

function showSwitches(now) {
  switches = now;
  document.querySelector(`[name=database][value=${now.database}]`).checked = true;
  $("redis").disabled = now.redis === "none";
  $("redis").textContent = now.redis === "down" ? "Start Redis" : "Kill Redis";
  $("redis-state").textContent = {
    none: "redis-server is not installed: the cache is in memory.",
    up: "The cache is on a Redis of its own.",
    down: "Redis is dead. The service answers all the same.",
  }[now.redis];
  for (const [name, isOn] of Object.entries(now.policies)) document.querySelector(`[name=${name}]`).checked = isOn;
  document.querySelector("[name=soft_timeout]").disabled = !now.policies.stale_for;
  document.querySelector("[name=retry_after]").disabled = !now.policies.stale_for && !now.policies.refresh_ahead;
  document.querySelector("[name=l1]").disabled = now.redis === "none";
}

/** Sets a switch in the program, and shows all switches as they are then. */
async function set(path, value, text, isAlarm) {
  try {
    showSwitches(await request(path, "PUT", value));
    changed(text, isAlarm);
  } catch (error) {
    showSwitches(switches);
    tell(`Not changed: ${error.message}`, true);
  }
}

/** Runs the action of a button, which cannot be pressed meanwhile. */
function onClick(id, action) {
  $(id).onclick = async () => {
    // A disabled button would lose the focus.
    if ($(id).ariaBusy === "true") return;
    $(id).ariaBusy = "true";
    try {
      await action();
    } catch (error) {
      tell(`That failed: ${error.message}`, true);
    }
    $(id).ariaBusy = "false";
  };
}

$("database").onchange = ({ target: { value } }) =>
  set("demo/database", value, `The database is ${value === "hangs" ? "hanging" : value}.`, value !== "normal");

onClick("redis", () => {
  const start = switches.redis === "down";
  return set("demo/redis", start, start ? "Redis is back, and empty." : "Redis is dead.", !start);
});

onClick("burst", async () => {
  tell("Sending 200 requests to each lane …");
  const { callers, without, with: cached } = await request("demo/burst", "POST");
  const part = ({ queries, failed, milliseconds }) =>
    `${queries} ${queries === 1 ? "query" : "queries"}, ${failed} failed, ${milliseconds} ms`;
  tell(`${callers} requests at once. Without cacheio: ${part(without)}. With cacheio: ${part(cached)}.`);
});

onClick("invalidate", async () => {
  const { invalidated } = await request("demo/invalidate", "POST");
  if (invalidated) tell("All products are invalidated: the next request for each of them loads it.");
  else tell("Not invalidated: Redis does not answer. The call is an error, which the service sees.", true);
});

$("policies").onchange = ({ target: { name, checked } }) =>
  set("demo/policies", { ...switches.policies, [name]: checked }, `${name} is ${checked ? "on" : "off"}.`);

async function poll() {
  try {
    const next = samples.length ? samples.at(-1).number + 1 : 0;
    const state = await request(`demo?since=${next}`);
    if (state.rate !== rate) $("rate").textContent = rate = state.rate;
    samples = [...samples, ...state.samples].slice(-SECONDS);
    if (JSON.stringify(state.switches) !== JSON.stringify(switches)) showSwitches(state.switches);
    if (!isConnected && samples.length) {
      isConnected = true;
      tell("All is well. Break something.");
    }
    tellEffect();
    showSamples();
  } catch {
    // The program was restarted, or does not run.
    samples = [];
    isConnected = false;
    tell("No response from the program.", true);
  }
  setTimeout(poll, 500);
}

for (const lane of LANES) $(lane).append($("lane").content.cloneNode(true));
addEventListener("resize", showSamples);
poll();
