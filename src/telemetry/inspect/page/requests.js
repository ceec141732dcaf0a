
  /* Requests and exports. */
  const same = (a, b) => a.trace === b.trace && a.span === b.span;
  const exportsOf = record => record === null ? [] : [...(byRecord.get(record) || [])].map(id => exports.get(id)).filter(Boolean);
  const waysOf = entry => exportsOf(entry.request.record);
  const wayState = entry => {
    const states = new Set(waysOf(entry).map(way => way.state));
    for (const state of ["rejected", "retrying", "sending", "queued"]) if (states.has(state)) return state;
    return hasUnseen(entry) || isLeftOut(entry) ? unseenState(entry) : states.has("delivered") ? "delivered" : null;
  };
  /* Finds the export that contains a part of the request, among the exports seen. */
  const wayOfSpan = (ways, span) => ways.find(way => way.export.contents.spans.some(other => same(span, other)));
  const wayOfLog = (ways, log) => {
    const traces = ways.filter(way => way.export.signal === "traces");
    const attached = traces.find(way => way.export.contents.spans.some(span => log.trace && same(span, log)));
    if (attached) return { way: attached, how: "attached to its span" };
    const left = ways.find(way => way.export.signal === "logs" && way.export.contents.logs.some(l => l.trace === log.trace && l.span === log.span && l.name === log.name));
    if (left) return { way: left, how: "exported as a log" };
    const carrier = traces.find(way => way.export.contents.spans.some(span => log.trace && span.trace === log.trace && span.parent === log.span));
    return carrier && { way: carrier, how: "event of a carrier span" };
  };
  const hasUnseen = entry => {
    const ways = waysOf(entry);
    return entry.request.lines.some(line => line.contents.spans.some(span => !wayOfSpan(ways, span)) || line.contents.logs.some(log => log.trace && !wayOfLog(ways, log)));
  };
  /* True if an export of the request was only counted, is no longer kept, or is incomplete. */
  const isLeftOut = entry => {
    const record = entry.request.record, unknown = settings.not_followed;
    return record !== null && (entry.lost || record < unknown.before || unknown.records.includes(record) || waysOf(entry).some(way => way.export.signal === "traces" && way.export.contents.spans.length < way.export.items));
  };
  /* State of a part of the request that is in no export seen; null if the request was not accepted. */
  const unseenState = entry => {
    if (entry.request.record === null) return null;
    return isLeftOut(entry) || settings.now_ms - entry.at_ms > settings.wait_ms + LATE_MS ? "not followed" : "held";
  };
  /* True if the processor still holds a part of the request. */
  const isWaiting = entry => unseenState(entry) === "held" && hasUnseen(entry);

  const pairs = attributes => attributes.flatMap(a => [a.key, a.value]);
  const spanWords = s => [s.trace, s.span, s.name, s.service, ...pairs(s.attributes), ...s.events.flatMap(e => [e.name, ...pairs(e.attributes)])];
  const wordsOf = r => [r.receiver, r.outcome, r.reason, r.event, ...r.lines.flatMap(line => [
    line.fault && line.fault.reason, line.fault && line.fault.mistake, ...line.repairs.map(repair => repair.what),
    ...line.contents.spans.flatMap(spanWords), ...line.contents.logs.flatMap(log => [log.trace, log.span, log.name, log.severity, ...pairs(log.attributes)]),
  ])];
  const haystack = list => list.filter(Boolean).join("\n").toLowerCase();
  const matches = (entry, want) => {
    const request = entry.request;
    if (want.receiver && (want.receiver === "-" ? request.receiver !== null : request.receiver !== want.receiver)) return false;
    if (want.words.length) {
      const text = entry.text + "\n" + haystack(waysOf(entry).flatMap(way => way.attempts.map(attempt => attempt.answer)));
      if (!want.words.every(word => text.includes(word))) return false;
    }
    if (!want.outcome) return true;
    if (!want.outcome.startsWith("out:")) return request.outcome === want.outcome || request.lines.some(line => line.verdict === want.outcome);
    const way = want.outcome.slice(4);
    if (way === "waiting") return isWaiting(entry) || waysOf(entry).some(w => w.state === "queued" || w.state === "sending");
    return waysOf(entry).some(w => w.state === way);
  };

  const summary = entry => {
    const r = entry.request, c = r.counts, parts = [];
    if (r.event) parts.push(r.event);
    if (c.accepted + c.repaired + c.rejected > 0 && !r.event) parts.push(count(c.accepted + c.repaired + c.rejected, "line"));
    if (c.spans) parts.push(count(c.spans, "span"));
    if (c.log_records) parts.push(count(c.log_records, "log record"));
    if (c.metric_points) parts.push(count(c.metric_points, "metric point"));
    if (r.size_bytes) parts.push(bytes(r.size_bytes));
    const way = wayState(entry);
    return el("summary", null, el("time", { datetime: iso(entry.at_ms), title: iso(entry.at_ms) }, millis(entry.at_ms)),
      el("span", { class: "name" }, r.receiver === null ? "no receiver" : r.receiver),
      tag(words[r.outcome] || r.outcome, moods[r.outcome]),
      c.repaired && tag(c.repaired + " repaired", "warn"), c.rejected && tag(c.rejected + " rejected", "bad"),
      way && way !== "rejected" && tag(way, moods[way]), way === "rejected" && tag("rejected downstream", "bad"),
      el("span", { class: "soft" }, parts.join(" · ")));
  };
  const traceLink = id => {
    const link = el("button", { type: "button", class: "link", title: "Show this trace only" }, id);
    link.addEventListener("click", () => { ui("by-text").value = id; filtered(); });
    return link;
  };
  const exportText = way => {
    const target = (settings.downstream.find(d => d.signal === way.export.signal) || {}).endpoint || "the downstream";
    const last = way.attempts[way.attempts.length - 1];
    const tries = way.attempts.length + way.more_attempts;
    const said = last ? (last.outcome === "sent" ? last.answer + " after " + humanMs(last.took_ms) : last.answer) + (tries > 1 ? ", attempt " + tries : "") : way.state;
    return "→ " + way.export.signal + " to " + target + ": " + said;
  };
  const faultView = fault => {
    const x = fault.excerpt, at = x.at === "" ? "⏎" : x.at;
    const before = (x.cut_before ? "…" : "") + x.before, after = x.after + (x.cut_after ? "…" : "");
    return [
      el("pre", null, before, el("mark", { title: "column " + fault.column }, at), after),
      el("div", null, copyButton("this excerpt", before + x.at + after)),
      fault.advice && advice(fault.advice),
    ];
  };
  const lineView = (entry, line) => {
    const ways = waysOf(entry), unseen = unseenState(entry), node = el("div", { class: "line", "data-verdict": line.verdict });
    node.append(el("p", { class: "head" }, tag(line.verdict, moods[line.verdict]), el("span", null, "line " + line.line + (line.fault ? ", column " + line.fault.column : "")), line.fault && el("span", { class: "name" }, line.fault.reason)));
    if (line.fault) node.append(...faultView(line.fault).filter(Boolean));
    for (const repair of line.repairs) node.append(el("p", { class: "soft" }, repair.what), repair.advice ? advice(repair.advice) : "");
    const used = new Set();
    for (const span of line.contents.spans) {
      const way = wayOfSpan(ways, span), state = way ? way.state : unseen;
      const now = way && way.export.contents.spans.find(other => same(span, other));
      const events = (now || span).events;
      node.append(el("div", { class: "item" }, el("span", { class: "name" }, span.name || "(no name)"), span.service && el("span", { class: "soft" }, span.service), traceLink(span.trace), el("span", { class: "soft" }, "span " + span.span), state && tag(state, moods[state])));
      if (events.length) node.append(el("p", { class: "sent" }, count(events.length, "event") + ": " + events.map(e => e.name).join(", ")));
      if (way) used.add(way.id);
    }
    for (const log of line.contents.logs) {
      const seen = wayOfLog(ways, log);
      const how = seen ? seen.how : unseen !== "held" ? unseen : log.trace ? "waiting for its span" : "in the pipeline";
      node.append(el("div", { class: "item" }, el("span", { class: "name" }, log.name || "log record"), log.trace && traceLink(log.trace), how && tag(how, how === "attached to its span" ? "good" : "")));
      if (seen) used.add(seen.way.id);
    }
    if (line.contents.metric_points) {
      node.append(el("div", { class: "item" }, count(line.contents.metric_points, "metric point")));
      for (const way of ways) if (way.export.signal === "metrics") used.add(way.id);
    }
    if (line.contents.more) node.append(el("p", { class: "soft" }, "and " + line.contents.more + " more"));
    for (const id of used) node.append(el("p", { class: "sent" }, exportText(exports.get(id))));
    return node;
  };
  const fill = entry => {
    const r = entry.request, node = entry.node;
    entry.unseen = unseenState(entry);
    if (entry.unseen === "not followed") for (const line of r.lines) for (const span of line.contents.spans) lose(span);
    node.replaceChildren(summary(entry));
    entry.filled = node.open;
    if (!node.open) return;
    if (r.reason) node.append(el("div", { class: "line" }, el("p", { class: "name" }, r.reason), advice(r.advice)));
    for (const line of r.lines) node.append(lineView(entry, line));
    if (r.more_lines) node.append(el("div", { class: "line soft" }, "and " + count(r.more_lines, "more line")));
    if (!r.reason && !r.lines.length) node.append(el("div", { class: "line soft" }, r.outcome === "empty" ? "The body was empty." : "Not shown in detail: traffic too fast for this view."));
  };
  const addRequest = entry => {
    entry.node = el("details", { class: "entry", "data-id": entry.id, "data-outcome": entry.request.outcome });
    entry.node.addEventListener("toggle", () => { if (entry.node.open && !entry.filled) fill(entry); });
    entry.text = haystack(wordsOf(entry.request));
    requests.set(entry.id, entry);
    for (const line of entry.request.lines) {
      for (const span of line.contents.spans) place(span, entry.request.record === null ? "not accepted" : "held", entry.request.receiver);
      for (const log of line.contents.logs) if (log.trace) touch(log.trace, entry.request.receiver);
    }
    fill(entry);
    ui("request-list").prepend(entry.node);
    while (requests.size > MAX_REQUESTS) {
      const [oldest, gone] = requests.entries().next().value;
      gone.node.remove();
      requests.delete(oldest);
    }
  };
  const addExport = way => {
    const known = exports.has(way.id);
    exports.set(way.id, way);
    for (const record of way.export.records) {
      if (!byRecord.has(record)) byRecord.set(record, new Set());
      byRecord.get(record).add(way.id);
    }
    for (const span of way.export.contents.spans) place(span, way.state, null);
    while (!known && exports.size > MAX_EXPORTS) {
      const [oldest, gone] = exports.entries().next().value;
      for (const record of gone.export.records) {
        const ids = byRecord.get(record);
        if (ids && ids.delete(oldest) && !ids.size) byRecord.delete(record);
        for (const entry of requests.values()) if (entry.request.record === record) entry.lost = true;
      }
      exports.delete(oldest);
    }
  };
