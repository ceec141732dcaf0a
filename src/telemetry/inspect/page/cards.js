
  /* Numbers. */
  const rates = data => {
    /* Rate over the last ten seconds; the sparkline uses the last one. */
    while (history.length > 10) history.shift();
    const first = history[0], last = history[history.length - 1], out = new Map();
    const seconds = then => then ? Math.max(.001, (data.now_ms - then.now_ms) / 1000) : 0;
    const total = c => c ? Object.values(c.requests).reduce((a, b) => a + b, 0) : 0;
    for (const id of new Set([...data.receivers.map(r => r.id), ...Object.keys(data.counts)])) {
      const lines = c => c ? c.items.accepted + c.items.repaired + c.items.rejected : 0;
      const rate = (f, then) => then ? Math.max(0, f(data.counts[id]) - f(then.counts[id])) / seconds(then) : 0;
      out.set(id, { requests: rate(total, first), lines: rate(lines, first), now: rate(total, last) });
    }
    history.push({ now_ms: data.now_ms, counts: data.counts });
    return out;
  };
  const spark = (id, value) => {
    const values = sparks.get(id) || [];
    values.push(value);
    while (values.length > SPARK) values.shift();
    sparks.set(id, values);
    const top = Math.max(1, ...values), ns = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(ns, "svg"), path = document.createElementNS(ns, "path");
    svg.setAttribute("class", "spark");
    svg.setAttribute("viewBox", "0 0 " + (SPARK - 1) + " 20");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    const shift = SPARK - values.length;
    path.setAttribute("d", values.map((v, i) => (i ? "L" : "M") + (i + shift) + " " + (19 - 18 * v / top).toFixed(2)).join(""));
    svg.append(path);
    return svg;
  };
  const isWebhook = id => !["fastly", "otlp"].includes(id.split("/")[0]);
  const showReceivers = data => {
    const now = rates(data), known = new Map(data.receivers.map(r => [r.id, r.path]));
    ui("receivers-since").textContent = "counts since " + clock(data.counting_since_ms) + ", rates over 10 s, curves over 60 s";
    ui("receivers").replaceChildren(...[...now].map(([id, rate]) => {
      const c = data.counts[id] || { requests: {}, items: {} };
      return el("div", { class: "card", "data-receiver": id },
        el("h3", null, id || "no receiver", el("span", { class: "path mono" }, known.get(id) || (id ? "" : "unmatched path"))),
        el("div", { class: "pair" }, el("div", null, el("div", { class: "big" }, number(rate.requests), el("small", null, " requests/s")), el("div", { class: "soft" }, number(rate.lines) + (isWebhook(id) ? " events/s" : " lines/s"))), spark(id, rate.now)),
        el("div", { class: "tags" }, Object.entries(c.requests).map(([outcome, n]) => tag(n.toLocaleString("en") + " " + (words[outcome] || outcome), moods[outcome])), c.items.repaired ? tag(count(c.items.repaired, "line") + " repaired", "warn") : "", c.items.rejected ? tag(count(c.items.rejected, "line") + " rejected", "bad") : ""));
    }));
    const select = ui("by-receiver"), ids = [...known.keys(), ...(data.counts[""] ? ["-"] : [])];
    if (ids.join() !== [...select.options].slice(1).map(o => o.value).join()) {
      const chosen = select.value || wanted.receiver;
      select.replaceChildren(el("option", { value: "" }, "Every receiver"), ...ids.map(id => el("option", { value: id }, id === "-" ? "no receiver" : id)));
      select.value = ids.includes(chosen) ? chosen : "";
    }
  };
  const lastSuccess = (data, signal) => {
    const flow = data.flow.find(f => f.signal === signal);
    return flow && flow.last_success_ms !== null ? "last success " + clock(flow.last_success_ms) + ", " + age(data.now_ms - flow.last_success_ms) + " ago" : "no success since the start";
  };
  /* Signals by endpoint, because most relays have one for all. */
  const downstreamView = data => {
    const endpoints = new Map();
    for (const d of data.downstream) endpoints.set(d.endpoint, [...(endpoints.get(d.endpoint) || []), d.signal]);
    return [...endpoints].map(([endpoint, signals]) => {
      const answerOf = signal => data.answers.find(a => a.signal === signal);
      const isUsed = signal => answerOf(signal) || data.flow.some(f => f.signal === signal && f.last_success_ms !== null);
      const unused = signals.filter(signal => !isUsed(signal));
      return el("div", { class: "soft" }, el("span", { class: "mono" }, endpoint),
        signals.filter(isUsed).map(signal => el("div", null, signal + " ", answerOf(signal) ? tag(answerOf(signal).answer, moods[answerOf(signal).outcome]) : "", el("div", null, lastSuccess(data, signal)))),
        unused.length ? el("div", null, unused.join(", ") + ": nothing exported yet") : "");
    });
  };
  const showWay = data => {
    const meter = part => { const bar = el("i"); bar.style.width = Math.min(100, 100 * part) + "%"; return el("div", { class: "meter" }, bar); };
    const way = data.on_the_way, rejected = data.rejected, queue = data.queue;
    ui("way-since").textContent = "now; failed attempts since " + clock(data.counting_since_ms);
    const cards = [
      el("div", { class: "card", "data-way": "held" }, el("h3", null, "Waiting for log events"), el("div", { class: "big" }, String(data.held.spans), el("small", null, data.held.spans === 1 ? " span" : " spans")), el("div", { class: "soft" }, bytes(data.held.bytes))),
      queue && el("div", { class: "card", "data-way": "queue" }, el("h3", null, "Queue"), el("div", { class: "big" }, bytes(queue.bytes), el("small", null, " of " + bytes(queue.capacity_bytes))), el("div", { class: "soft" }, queue.bytes ? "oldest " + age(queue.oldest_ms) : "empty"), (queue.failure || queue.is_full) && el("div", { class: "tags" }, tag(queue.failure ? "cannot write: " + queue.failure : "full", "bad")), meter(queue.capacity_bytes ? queue.bytes / queue.capacity_bytes : 0)),
      el("div", { class: "card", "data-way": "out" }, el("h3", null, "Exporting"), el("div", { class: "big" }, String(way.queued + way.sending + way.retrying), el("small", null, way.queued + way.sending + way.retrying === 1 ? " request" : " requests")), el("div", { class: "tags" }, tag(way.queued + " queued"), tag(way.sending + " sending"), tag(way.retrying + " retrying", way.retrying ? "warn" : ""), tag(count(data.retries, "attempt") + " failed", data.retries ? "warn" : ""))),
      el("div", { class: "card", "data-way": "downstream" }, el("h3", null, "Downstream"), downstreamView(data)),
      el("div", { class: "card", "data-way": "rejected" }, el("h3", null, "Rejected input"), rejected.bytes === null ? el("div", { class: "soft" }, "kept in the dead-letter topic") : [el("div", { class: "big" }, bytes(rejected.bytes), el("small", null, " of " + bytes(rejected.capacity_bytes))), el("div", { class: "soft" }, "kept in rejected.ndjson"), meter(rejected.bytes / rejected.capacity_bytes)], rejected.discarded ? el("div", { class: "tags" }, tag(rejected.discarded.toLocaleString("en") + " discarded since the start", "bad")) : ""),
    ];
    ui("way").replaceChildren(...cards.filter(Boolean));
  };

  /* What keeps data from flowing, and what to do. */
  const NAMES = { traces: "Traces", logs: "Logs", metrics: "Metrics" };
  const kept = queue => queue ? bytes(queue.bytes) + " of " + bytes(queue.capacity_bytes) + " kept in the queue" + (queue.bytes ? ", the oldest for " + age(queue.oldest_ms) : "") : "";
  const since = (from, now) => "since " + clock(from) + " (" + age(now - from) + ")";
  const exportProblems = data => {
    const groups = new Map();
    for (const { signal, obstacle } of data.flow) {
      if (!obstacle || obstacle.remedy === null && data.now_ms - obstacle.since_ms < OUTAGE_MS) continue;
      const key = "export " + (obstacle.remedy || obstacle.reason);
      groups.set(key, [...(groups.get(key) || []), { signal, ...obstacle }]);
    }
    return [...groups].map(([key, group]) => {
      const first = Math.min(...group.map(o => o.since_ms));
      const target = (data.downstream.find(d => d.signal === group[0].signal) || {}).endpoint || "the downstream";
      return {
        key, title: group.map((o, i) => i ? o.signal : NAMES[o.signal]).join(" and ") + " are not exported",
        what: target + ": " + group[0].reason,
        remedy: group[0].remedy || "The relay retries. Check that the downstream is up and can be reached.",
        facts: [since(first, data.now_ms), kept(data.queue), lastSuccess(data, group[0].signal)],
      };
    });
  };
  const problemsOf = data => {
    const problems = exportProblems(data), queue = data.queue;
    if (queue && queue.stopped_ms !== null) problems.unshift({
      key: "queue", title: "No data is accepted",
      what: queue.failure ? "The queue cannot write: " + queue.failure : "The queue is full.",
      remedy: queue.failure ? "Senders get 503 and retry until the queue can be written." : "Senders get 503 and retry. Let the downstream accept data, or raise queue.max_size.",
      facts: ["at least " + since(queue.stopped_ms, data.now_ms), kept(queue)],
    });
    return problems;
  };
  const lostProblem = () => ({
    key: "relay", title: "The relay does not respond",
    what: "No response from " + location.host + ". What is shown below is its last known state.",
    remedy: "Check that the process runs, and that this address can be reached.",
    facts: [reached ? "since " + clock(reached) + " (" + age(Date.now() - reached) + ")" : "never since this page was opened"],
  });
  /* Nodes stay, so that a screen reader speaks only of changes. */
  const showProblems = problems => {
    const box = ui("banner"), nodes = new Map([...box.children].map(node => [node.dataset.problem, node]));
    for (const [key, node] of nodes) if (!problems.some(problem => problem.key === key)) node.remove();
    for (const problem of problems) {
      const node = nodes.get(problem.key) || el("div", { class: "banner", "data-problem": problem.key }, el("h3"), el("p"), el("p"), el("p", { class: "facts", "aria-live": "off" }));
      const texts = [problem.title, problem.what, "What to do: " + problem.remedy, problem.facts.filter(Boolean).join(" · ")];
      texts.forEach((text, i) => { if (node.children[i].textContent !== text) node.children[i].textContent = text; });
      if (!node.isConnected) box.append(node);
    }
    box.hidden = !problems.length;
  };

  /* What to do while nothing has arrived. */
  const hex = n => [...crypto.getRandomValues(new Uint8Array(n))].map(b => padded(b.toString(16), 2)).join("");
  const sample = (server, receiver) => {
    const path = receiver.path.split(" ").find(p => p.endsWith("/traces")) || receiver.path;
    const now = Date.now(), time = ms => ms + "000000";
    const span = { traceId: hex(16), spanId: hex(8), name: "hello", kind: 2, startTimeUnixNano: time(now - 120), endTimeUnixNano: time(now) };
    const body = { resourceSpans: [{ resource: { attributes: [{ key: "service.name", value: { stringValue: "example" } }] }, scopeSpans: [{ spans: [span] }] }] };
    const tokens = receiver.headers.filter(name => /^[A-Za-z0-9-]+$/.test(name)).map(name => " -H \"" + name + ": $TOKEN\"").join("");
    return "curl -i -H 'content-type: application/json'" + tokens + " --data-binary '" + JSON.stringify(body) + "' " + server + path;
  };
  const showStart = data => {
    const box = ui("start"), receiver = data.receivers.find(r => !isWebhook(r.id));
    box.hidden = requests.size > 0 || Object.keys(data.counts).length > 0;
    if (box.hidden || box.childElementCount) return;
    box.append(el("p", null, el("strong", null, "Nothing has arrived since this page was opened."), " The page fills as requests arrive."));
    if (receiver) {
      const command = sample(data.server, receiver);
      box.append(el("p", null, "Send a span to ", el("span", { class: "mono" }, receiver.id), receiver.headers.length ? ", with its token in TOKEN:" : ":"), el("pre", null, command), copyButton("this command", command));
    } else {
      box.append(el("p", null, "Point a webhook here, and send its test event:"), el("pre", null, data.receivers.map(r => data.server + r.path).join("\n")));
    }
  };
