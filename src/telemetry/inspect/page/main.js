
  /* State of the page. */
  const MAX_REQUESTS = 200, MAX_EXPORTS = 2000, MAX_TRACES = 80, SHOWN_TRACES = 40, EVERY_MS = 1000, PING_MS = 20000, SPARK = 60;
  /* Grace period after `wait`, for reports in flight between the processor and this page. */
  const LATE_MS = 2000;
  /* Retries that succeed sooner are not worth a banner. */
  const OUTAGE_MS = 5000;
  let cursor = 0, process = null, paused = false, timer = 0, reached = 0;
  let settings = { receivers: [], downstream: [], wait_ms: 0, now_ms: 0, trace_link: null, not_followed: { records: [], before: 0 } };
  const requests = new Map(), exports = new Map(), byRecord = new Map(), traces = new Map(), sparks = new Map();
  const history = [], wanted = { receiver: "" };

  /* Filters and the selected tab are in the address, so that it can be shared. */
  const TABS = ["overview", "requests", "traces"];
  const filter = () => ({ words: ui("by-text").value.toLowerCase().split(/\s+/).filter(Boolean), receiver: ui("by-receiver").value || wanted.receiver, outcome: ui("by-outcome").value });
  const readAddress = () => {
    const query = new URLSearchParams(location.search);
    ui("by-text").value = query.get("q") || "";
    ui("by-receiver").value = wanted.receiver = query.get("receiver") || "";
    ui("by-outcome").value = query.get("outcome") || "";
    if (ui("by-outcome").selectedIndex < 0) ui("by-outcome").value = "";
    if (ui("by-receiver").selectedIndex < 0) ui("by-receiver").value = "";
    selectTab(TABS.includes(query.get("tab")) ? query.get("tab") : "requests");
  };
  const writeAddress = () => {
    const query = new URLSearchParams(), want = filter(), tab = document.body.dataset.tab;
    for (const [name, value] of [["q", ui("by-text").value.trim()], ["receiver", want.receiver], ["outcome", want.outcome], ["tab", tab === "requests" ? "" : tab]]) if (value) query.set(name, value);
    const text = query.toString();
    window.history.replaceState(null, "", location.pathname + (text ? "?" + text : "") + location.hash);
  };
  const selectTab = name => {
    document.body.dataset.tab = name;
    for (const tab of ui("tabs").children) {
      tab.setAttribute("aria-selected", String(tab.dataset.of === name));
      tab.tabIndex = tab.dataset.of === name ? 0 : -1;
    }
  };

  /* A changed trace is redrawn and moves up, so the focus within it is restored. */
  const focusInTraces = () => {
    const focused = document.activeElement, trace = focused && focused.closest("[data-trace]");
    if (!trace) return () => {};
    const row = focused.closest("[data-span]"), span = row && row.dataset.span;
    return () => {
      if (!trace.isConnected || trace.contains(document.activeElement)) return;
      const again = span === null ? trace : [...trace.querySelectorAll("[data-span]")].find(r => r.dataset.span === span);
      const target = again && again.querySelector(span === null ? "button.link" : "summary");
      if (target) target.focus({ preventScroll: true });
    };
  };
  /* Filters apply to existing entries without a new request. */
  const refilter = () => {
    const want = filter(), isFiltered = want.words.length || want.receiver || want.outcome;
    let shown = 0;
    for (const entry of requests.values()) shown += !(entry.node.hidden = !matches(entry, want));
    const found = new Set();
    if (want.outcome) for (const entry of requests.values()) if (!entry.node.hidden) for (const line of entry.request.lines) for (const item of [...line.contents.spans, ...line.contents.logs]) if (item.trace) found.add(item.trace);
    const visible = [...traces.values()].reverse().filter(t => want.words.every(word => textOf(t).includes(word)) && (!want.receiver || t.receivers.has(want.receiver)) && (!want.outcome || found.has(t.id))).slice(0, SHOWN_TRACES);
    const refocus = focusInTraces();
    visible.forEach(t => { if (t.changed) drawTrace(t); });
    const list = ui("trace-list");
    /* An unchanged list is not touched, to keep the focus. */
    if (visible.length !== list.children.length || visible.some((t, i) => list.children[i] !== t.node)) list.replaceChildren(...visible.map(t => t.node));
    refocus();
    ui("no-requests").hidden = shown > 0 || !ui("start").hidden;
    ui("no-requests").textContent = requests.size && isFiltered ? "No request matches the filters." : "Waiting for requests…";
    ui("no-traces").hidden = visible.length > 0;
    ui("no-traces").textContent = traces.size && isFiltered ? "No trace matches the filters." : "Traces appear here as spans arrive.";
    for (const [name, label, n] of [["requests", "Requests", shown], ["traces", "Traces", visible.length]]) ui("tabs").querySelector("[data-of=" + name + "]").textContent = label + (n ? " " + n : "");
  };
  const filtered = () => { refilter(); writeAddress(); };

  const forget = () => {
    cursor = 0; history.length = 0;
    for (const map of [requests, exports, byRecord, traces, sparks]) map.clear();
    ui("request-list").replaceChildren();
    ui("start").replaceChildren();
  };
  const apply = data => {
    if (process !== null && process !== data.process) { process = data.process; forget(); return true; }
    process = data.process;
    settings = data;
    const focused = document.activeElement && document.activeElement.closest("[data-id]"), stale = new Set();
    for (const way of data.exports) { addExport(way); way.export.records.forEach(record => stale.add(record)); }
    for (const entry of data.requests) if (!requests.has(entry.id)) addRequest(entry);
    for (const way of data.exports) {
      const receivers = [...requests.values()].filter(e => way.export.records.includes(e.request.record)).map(e => e.request.receiver);
      for (const span of way.export.contents.spans) { const t = traces.get(span.trace); if (t) receivers.forEach(r => t.receivers.add(r)); }
    }
    for (const entry of requests.values()) if (stale.has(entry.request.record) || entry.unseen !== unseenState(entry)) fill(entry);
    if (focused && !focused.contains(document.activeElement)) { const again = focused.querySelector("summary"); if (again) again.focus({ preventScroll: true }); }
    cursor = data.cursor;
    showReceivers(data);
    showWay(data);
    showProblems(problemsOf(data));
    showStart(data);
    ui("values").textContent = data.show_values ? "values shown" : "values hidden";
    const left = data.requests_left_out + data.exports_left_out;
    ui("foot").textContent = "spanrelay " + data.version + (left ? " · " + left.toLocaleString("en") + " requests and exports not shown (traffic too fast for this view)" : "");
    refilter();
    document.body.dataset.cursor = cursor;
    return data.more;
  };
  const state = (name, text) => {
    const s = ui("state");
    if (s.textContent !== text) s.textContent = text;
    s.dataset.state = name;
    document.body.toggleAttribute("data-stale", name === "lost");
  };
  const poll = async () => {
    clearTimeout(timer);
    const wasPaused = paused;
    let again = wasPaused ? PING_MS : EVERY_MS;
    try {
      /* While paused, polls only keep the reporting alive. */
      const answer = await fetch("/inspect/data?since=" + (wasPaused ? "9007199254740991" : cursor), { cache: "no-store", credentials: "same-origin" });
      if (!answer.ok) throw new Error("status " + answer.status);
      const data = await answer.json();
      reached = Date.now();
      if (!wasPaused && !paused) {
        if (apply(data)) again = 0;
        state("live", "live");
      }
    } catch (error) {
      if (!paused) { state("lost", "connection lost, reconnecting"); showProblems([lostProblem()]); }
    }
    clearTimeout(timer);
    timer = setTimeout(poll, again);
  };
  const pause = () => {
    paused = !paused;
    ui("pause").setAttribute("aria-pressed", String(paused));
    ui("pause-word").textContent = paused ? "Resume" : "Pause";
    state(paused ? "paused" : "wait", paused ? "paused" : "resuming");
    history.length = 0;
    poll();
  };
  ui("pause").addEventListener("click", pause);
  ui("filters").addEventListener("input", event => { if (event.target === ui("by-receiver")) wanted.receiver = ""; filtered(); });
  ui("filters").addEventListener("submit", event => event.preventDefault());
  ui("filters").addEventListener("reset", () => { wanted.receiver = ""; setTimeout(filtered); });
  ui("tabs").addEventListener("click", event => { const tab = event.target.closest("[data-of]"); if (tab) { selectTab(tab.dataset.of); writeAddress(); } });
  ui("tabs").addEventListener("keydown", event => {
    const step = { ArrowLeft: TABS.length - 1, ArrowRight: 1 }[event.key];
    if (!step) return;
    const next = TABS[(TABS.indexOf(document.body.dataset.tab) + step) % TABS.length];
    selectTab(next);
    writeAddress();
    ui("tabs").querySelector("[data-of=" + next + "]").focus();
  });
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest("input, select, textarea");
    if (event.key === "Escape" && typing) { ui("filters").reset(); typing.blur(); }
    if (typing) return;
    if (event.key === "p") { event.preventDefault(); pause(); }
    if (event.key === "/") { event.preventDefault(); ui("by-text").focus(); }
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
  readAddress();
  poll();
