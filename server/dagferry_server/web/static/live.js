/* Keeps an open page current. Everything on it works without this script, except that it changes by itself.
   Own code, without libraries. All texts come escaped from the server; nothing is evaluated. */
"use strict";

const MAX_WAIT_SECONDS = 45;
const MAX_ANSWER_MS = 75000;
const PAUSE_MS = 5000;
const MAX_PAUSE_MS = 60000;
const TICK_MS = 10000;

const page = document.getElementById("main");
const started = Date.now();

/* --- a hidden page asks for nothing: a browser has few connections to a server, and other tabs need them ----------- */

let hidden = new AbortController();
let wake = () => {};
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    hidden.abort();
  } else {
    hidden = new AbortController();
    wake();
  }
});

async function visible() {
  while (document.hidden) await new Promise((resolve) => { wake = resolve; });
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/* --- replace the parts of the page that a response has ------------------------------------------------------------- */

function replace(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  const reason = document.getElementById("reason")?.textContent;
  for (const part of fresh.querySelectorAll("body > [id], #list")) {
    const old = document.getElementById(part.id);
    if (!old || old.isEqualNode(part)) continue;
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const open = [...old.querySelectorAll("details[open][data-key]")].map((details) => details.dataset.key);
    for (const details of part.querySelectorAll("details[data-key]")) details.open = open.includes(details.dataset.key);
    old.replaceWith(document.adoptNode(part));
    if (!focused) continue;
    const same = (link) => link.getAttribute("href") === focused.getAttribute("href") && link.text === focused.text;
    [...part.querySelectorAll("a")].find(same)?.focus({ preventScroll: true });
  }
  const now = document.getElementById("reason")?.textContent;
  const announce = document.getElementById("announce");
  if (announce && now !== reason) announce.textContent = now;
  tick();
}

function say(text) {
  const notice = document.getElementById("connection");
  if (!notice || notice.textContent === text) return;
  notice.textContent = text;
  notice.hidden = !text;
}

/* Asks until it is of no use. `next` asks once, and returns how many milliseconds to pause. */
async function keepAsking(next) {
  let failures = 0;
  for (;;) {
    await visible();
    try {
      const ms = await next();
      failures = 0;
      say("");
      await pause(ms);
    } catch (error) {
      if (error.final) return say(error.message);
      if (document.hidden || error.name === "AbortError") continue;
      failures += 1;
      if (failures > 1) say("The server does not answer, so this page may be out of date. Trying again …");
      await pause(Math.min(1000 * 2 ** failures, MAX_PAUSE_MS) * (0.5 + Math.random()));
    }
  }
}

async function ask(address, headers) {
  // Ends after a time too: in a network that swallows everything, nobody would notice that the page is out of date.
  const request = new AbortController();
  const { signal } = hidden;
  const stop = () => request.abort();
  const timer = setTimeout(() => request.abort(new Error("no answer")), MAX_ANSWER_MS);
  signal.addEventListener("abort", stop);
  let answer;
  try {
    answer = await fetch(address, { headers, signal: request.signal, cache: "no-store", redirect: "error" });
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
  if ([401, 403, 404].includes(answer.status)) {
    throw Object.assign(new Error("You are signed out, or may not see this any more. Reload the page."), { final: true });
  }
  if (answer.status !== 304 && !(answer.ok && answer.headers.get("Content-Type")?.startsWith("text/html"))) {
    throw new Error(`status ${answer.status}`);
  }
  return answer;
}

let tag = page.dataset.tag;

async function follow() {
  const asked = Date.now();
  const answer = await ask(page.dataset.live, { "If-None-Match": `"${tag}"`, Prefer: `wait=${MAX_WAIT_SECONDS}` });
  if (answer.status === 200) {
    const html = await answer.text();
    tag = answer.headers.get("ETag").slice(1, -1);
    replace(html);
    return 300;
  }
  return Date.now() - asked < 1000 ? PAUSE_MS : 0; // too many wait already
}

async function refresh() {
  await pause(PAUSE_MS * (1 + Math.random()));
  if (!document.hidden) replace(await (await ask(location.href, {})).text());
  return 0;
}

if (page.dataset.live) keepAsking(follow);
else if ("refresh" in page.dataset) keepAsking(refresh);

/* --- times, as the server writes them (texts.py) ------------------------------------------------------------------- */

const UNITS = [[31536000, "year"], [2592000, "month"], [86400, "day"], [3600, "h"], [60, "min"], [1, "s"]];
/* By the server's clock: this machine's may be wrong. */
const serverNow = Number(page.dataset.now) * 1000;

function tick() {
  const now = serverNow + (Date.now() - started);
  for (const time of document.querySelectorAll("time")) {
    const seconds = (now - Date.parse(time.dateTime)) / 1000;
    const unit = UNITS.find(([size]) => seconds >= size);
    const number = unit && Math.floor(seconds / unit[0]);
    time.textContent = unit ? `${number} ${unit[1]}${unit[1].length > 3 && number > 1 ? "s" : ""} ago` : "just now";
  }
}
setInterval(tick, TICK_MS);

/* --- commands: the address of the server as this browser has it, and a button to copy ------------------------------ */

for (const place of document.querySelectorAll("[data-server]")) {
  place.textContent = location.origin + location.pathname.split("/-/ui/")[0];
}
for (const command of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) break;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(command.textContent);
    button.textContent = "Copied";
  });
  command.before(button);
}
