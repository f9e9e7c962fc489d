"use strict";
// A window on the API. Whatever comes from outside is shown through textContent only.

const main = document.getElementById("main");
const store = window.sessionStorage;
let timer = 0;

function el(tag, content, more) {
  const made = document.createElement(tag);
  for (const part of [].concat(content ?? [])) made.append(part instanceof Node ? part : document.createTextNode(String(part)));
  return Object.assign(made, more);
}

function show(...parts) {
  main.replaceChildren(...parts);
}

async function api(path, options = {}) {
  const headers = { Accept: "application/json", ...(options.headers || {}) };
  const token = store.getItem("token");
  if (token) headers.Authorization = "Token " + token;
  const answer = await fetch(path, { ...options, headers });
  const text = await answer.text();
  let body = text;
  try { body = JSON.parse(text); } catch { /* some answers are plain sentences */ }
  if (answer.status === 401) { store.removeItem("token"); login(explained(body)); throw new Error("logged out"); }
  if (!answer.ok) throw new Error(explained(body));
  return body;
}

function explained(body) {
  if (typeof body !== "object" || body === null) return String(body);
  if (body.message || body.detail) return body.message || body.detail;
  return Object.entries(body).map(([name, faults]) => {
    const texts = [].concat(faults).map((f) => (typeof f === "object" ? f.message || JSON.stringify(f) : f)).join(" ");
    return name === "non_field_errors" ? texts : name + ": " + texts;
  }).join("\n");
}

function table(titles, rows) {
  return el("table", [
    el("thead", el("tr", titles.map((title) => el("th", title, { scope: "col" })))),
    el("tbody", rows.map((cells) => el("tr", cells.map((cell) => el("td", cell))))),
  ]);
}

function facts(pairs) {
  const rows = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("table", el("tbody", rows.map(([name, value]) => el("tr", [el("th", name, { scope: "row" }), el("td", value)]))));
}

function link(text, href) {
  return el("a", text, { href });
}

function text(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

function status(execution) {
  return el("span", execution.status, { className: "status " + execution.status });
}

function login(message) {
  clearTimeout(timer);
  document.getElementById("nav").hidden = true;
  const name = el("input", [], { name: "username", autocomplete: "username" });
  const password = el("input", [], { name: "password", type: "password", autocomplete: "current-password" });
  const token = el("input", [], { name: "token", type: "password", autocomplete: "off" });
  const wrong = el("p", message || "", { className: "wrong" });
  const form = el("form", [
    el("h1", "Log in"), wrong,
    el("label", ["Name ", name]), el("label", ["Password ", password]),
    el("p", "or", { className: "quiet" }), el("label", ["Token ", token]),
    el("button", "Log in", { type: "submit" }),
  ]);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      if (token.value) store.setItem("token", token.value.trim());
      else {
        const body = new URLSearchParams({ username: name.value, password: password.value });
        store.setItem("token", (await api("/api/v0/get-token/", { method: "POST", body })).token);
      }
      await route();
    } catch (error) { wrong.textContent = error.message; }
  });
  show(form);
  name.focus();
}

async function projects() {
  const found = (await api("/api/v0/projects/?limit=1000")).results;
  const rows = found.map((p) => [link(p.name, new URL(p.urls.display).pathname), p.description, p.owner.username, p.ctime.slice(0, 10)]);
  const empty = el("p", ["No projects yet. Make one with ", el("code", "vh project create"), "."]);
  show(el("h1", "Projects"), found.length ? table(["Name", "Description", "Owner", "Since"], rows) : empty);
}

async function project(owner, name) {
  const found = (await api("/api/v0/projects/?limit=10000")).results.find((p) => p.owner.username === owner && p.name === name);
  if (!found) return show(el("h1", "There is no such project"), link("All projects", "/"));
  const page = await api("/api/v0/executions/?limit=200&ordering=-counter&project=" + encodeURIComponent(found.id));
  const rows = page.results.map((e) => [
    link("#" + e.counter, new URL(e.urls.display).pathname), status(e), e.step, e.title, e.environment.name,
    e.duration === null ? "" : e.duration.toFixed(1) + " s", e.ctime.slice(0, 19).replace("T", " "), e.creator_name,
  ]);
  const titles = ["", "Status", "Step", "Title", "Environment", "Duration", "Created (UTC)", "By"];
  show(el("h1", found.name), el("p", found.description), rows.length ? table(titles, rows) : el("p", "No executions yet."));
  timer = setTimeout(() => { project(owner, name).catch(fail); }, 5000);
}

function ranIn(execution) {
  if (!execution.ran) return "It has not started yet.";
  if (execution.ran.runtime === "process") return "No container: plain process" + (execution.ran.interpreter ? " (" + execution.ran.interpreter + ")" : "");
  return "Docker container of " + execution.image + (execution.ran.image_digest ? " (" + execution.ran.image_digest + ")" : "");
}

async function download(id) {
  const { url } = await api("/api/v0/data/" + encodeURIComponent(id) + "/download/");
  window.location.assign(url);
}

function outputs(execution) {
  if (!execution.outputs.length) return el("p", "None.");
  return table(["Name", "Bytes", "SHA-256", ""], execution.outputs.map((o) => {
    const button = el("button", "Download", { type: "button", disabled: o.purged });
    button.addEventListener("click", () => { download(o.id).catch(fail); });
    return [o.name, o.size, el("code", o.sha256), o.purged ? "purged" : button];
  }));
}

async function execution(id) {
  const base = "/api/v0/executions/" + encodeURIComponent(id) + "/";
  const [found, log] = await Promise.all([api(base), api(base + "events/?limit=500")]);
  const waiting = found.status === "queued" ? (await api(base + "explain/")).reasons : [];
  const over = ["complete", "error", "crashed", "stopped"].includes(found.status);
  const stop = el("button", "Stop", { type: "button", hidden: over || found.status === "stopping" });
  stop.addEventListener("click", async () => {
    try { await api(base + "stop/", { method: "POST" }); await route(); } catch (error) { fail(error); }
  });
  const lines = log.events.map((e) => e.time.slice(11, 23) + "  " + (e.stream === "stdout" ? "" : "[" + e.stream + "] ") + e.message);
  const entries = (object) => Object.entries(object).map(([name, value]) => [name, text(value)]);
  const before = document.querySelector("pre");
  const follow = !before || before.scrollTop + before.clientHeight >= before.scrollHeight - 20;
  const at = before ? before.scrollTop : 0;
  const pre = el("pre", lines.join("\n"));
  show(
    el("h1", [found.project.name + " #" + found.counter + " ", status(found)]), stop,
    el("ul", waiting.map((r) => el("li", [r.text, r.unblock ? " — " + r.unblock : ""]))),
    facts([
      ["Detail", waiting.length ? "" : found.status_detail], ["Step", found.step], ["Title", found.title],
      ["Ran in", ranIn(found)], ["Environment", found.environment.name],
      ["Commit", el("code", found.commit.identifier)], ["Exit code", found.exit_code],
      ["Duration", found.duration === null ? null : found.duration.toFixed(1) + " s"],
      ["Created", found.ctime], ["Command", el("code", found.interpolated_command)],
    ]),
    el("h2", "Parameters"), facts(entries(found.parameters)),
    el("h2", "Inputs"), table(["Name", "URLs"], found.inputs.map((i) => [i.name, i.urls.join("\n")])),
    el("h2", "Outputs"), outputs(found),
    el("h2", "Latest metadata"), facts(entries(found.cumulative_metadata)),
    el("h2", log.truncated ? "Log (the last " + log.events.length + " of " + log.total + " lines)" : "Log"), pre,
  );
  pre.scrollTop = follow ? pre.scrollHeight : at;
  if (!over) timer = setTimeout(() => { execution(id).catch(fail); }, 1500);
}

async function tokens() {
  const found = (await api("/api/v0/tokens/")).results.filter((t) => !t.revoked);
  const name = el("input", [], { name: "name", required: true, maxLength: 200, placeholder: "what it is for" });
  const made = el("p", []);
  const form = el("form", [el("label", ["Name ", name]), el("button", "Make a token", { type: "submit" }), made]);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const body = JSON.stringify({ name: name.value });
      const token = await api("/api/v0/tokens/", { method: "POST", body, headers: { "Content-Type": "application/json" } });
      made.replaceChildren("Shown only now: ", el("code", token.token));
    } catch (error) { made.textContent = error.message; }
  });
  const rows = found.map((t) => {
    const end = el("button", "Revoke", { type: "button" });
    end.addEventListener("click", async () => {
      try { await api("/api/v0/tokens/" + t.id + "/", { method: "DELETE" }); await tokens(); } catch (error) { fail(error); }
    });
    return [el("code", t.hint + "…"), t.name, t.ctime.slice(0, 10), t.expires_at ? t.expires_at.slice(0, 10) : "never", end];
  });
  show(el("h1", "Tokens"), form, table(["Token", "Name", "Made", "Expires", ""], rows));
}

function fail(error) {
  if (error.message !== "logged out") main.prepend(el("p", error.message, { className: "wrong" }));
}

async function route() {
  clearTimeout(timer);
  if (!store.getItem("token")) return login("");
  document.getElementById("nav").hidden = false;
  const parts = window.location.pathname.split("/").filter(Boolean).map(decodeURIComponent);
  if (parts[0] === "auth") return tokens();
  if (parts[0] === "p" && parts[3] === "execution" && parts[4]) return execution(parts[4]);
  if (parts[0] === "p" && parts[2]) return project(parts[1], parts[2]);
  return projects();
}

document.getElementById("out").addEventListener("click", () => { store.removeItem("token"); login(""); });
route().catch(fail);
