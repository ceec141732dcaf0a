
  /* Traces. */
  const touch = (id, receiver) => {
    let trace = traces.get(id);
    if (!trace) trace = { id, spans: new Map(), receivers: new Set(), node: el("article", { class: "trace", "data-trace": id }), open: new Set(), text: "" };
    traces.delete(id);
    traces.set(id, trace);
    if (receiver) trace.receivers.add(receiver);
    trace.changed = true;
    trace.text = null;
    while (traces.size > MAX_TRACES) {
      const [oldest, gone] = traces.entries().next().value;
      gone.node.remove();
      traces.delete(oldest);
    }
    return trace;
  };
  const place = (span, state, receiver) => {
    if (!span.trace) return;
    const trace = touch(span.trace, receiver), known = trace.spans.get(span.span);
    if ((state === "held" || state === "not accepted") && known && known.state !== "not accepted" && known.state !== state) return;
    trace.spans.set(span.span, { ...span, state });
  };
  /* Marks a span that is no longer held and whose export was not reported. */
  const lose = span => {
    const trace = traces.get(span.trace), known = trace && trace.spans.get(span.span);
    if (known && known.state === "held") { known.state = "not followed"; trace.changed = true; }
  };
  const textOf = trace => trace.text === null ? trace.text = haystack([trace.id, ...[...trace.spans.values()].flatMap(spanWords)]) : trace.text;
  const ordered = spans => {
    const byId = new Map(spans.map(s => [s.span, s])), children = new Map(), roots = [], out = [], seen = new Set();
    const start = s => BigInt(s.start || s.end || 0);
    const sorted = [...spans].sort((a, b) => start(a) < start(b) ? -1 : start(a) > start(b) ? 1 : 0);
    for (const s of sorted) {
      if (s.parent && byId.has(s.parent) && s.parent !== s.span) children.set(s.parent, [...(children.get(s.parent) || []), s]);
      else roots.push(s);
    }
    const visit = root => {
      const stack = [[root, 0]];
      while (stack.length) {
        const [s, depth] = stack.pop();
        if (seen.has(s.span)) continue;
        seen.add(s.span);
        out.push([s, depth]);
        for (const child of [...(children.get(s.span) || [])].reverse()) stack.push([child, depth + 1]);
      }
    };
    roots.forEach(visit);
    sorted.forEach(s => { if (!seen.has(s.span)) visit(s); });
    return out;
  };
  const valueOf = attribute => attribute.value === null ? el("dd", { class: "hiddenvalue", title: "hidden: telemetry.inspect.show_values is false" }, "•••") : el("dd", null, attribute.value);
  const attributeList = attributes => attributes.length ? el("dl", null, attributes.map(a => [el("dt", null, a.key), valueOf(a)])) : null;

  /* Range of the times of a trace, in nanoseconds. */
  const rangeOf = spans => {
    const times = spans.flatMap(s => [s.start, s.end, ...s.events.map(e => e.time)]).filter(Boolean).map(BigInt);
    if (!times.length) return null;
    const first = times.reduce((a, b) => a < b ? a : b), last = times.reduce((a, b) => a > b ? a : b);
    return { first, last, length: last - first };
  };
  /* Round distances of the marks of a ruler. */
  const STEPS = [...Array(10).keys()].flatMap(power => [1n, 2n, 5n].map(n => n * 10n ** BigInt(power))).concat([30n, 60n, 120n, 300n, 600n, 1200n, 1800n, 3600n, 7200n, 14400n, 43200n, 86400n].map(n => n * S));
  /* Marks with their positions in percent: at least a quarter apart, with room for the last one, which is the end. */
  const marksOf = range => {
    const step = STEPS.find(s => s * 4n >= range.length) || range.length / 2n;
    const marks = [];
    for (let at = 0n; at * 20n <= range.length * 11n; at += step) marks.push({ text: at === 0n ? "0" : human(at), at: 100 * Number(at) / Number(range.length) });
    return [...marks, { text: human(range.length), at: 100 }];
  };
  const ruler = marks => el("div", { class: "ruler", "aria-hidden": "true" }, el("span"), el("div", { class: "scale" }, marks.map(mark => {
    const node = el("span", null, mark.text);
    if (mark.at < 100) node.style.left = mark.at + "%";
    return node;
  })), el("span"));
  const track = (span, range, marks) => {
    const node = el("div", { class: "track" }), from = span.start || span.end;
    const at = t => Math.min(100, Math.max(0, 100 * Number(BigInt(t) - range.first) / Number(range.length || 1n)));
    for (const mark of marks) if (mark.at > 0 && mark.at < 100) {
      const line = el("i", { class: "grid" });
      line.style.left = mark.at + "%";
      node.append(line);
    }
    if (from) {
      const bar = el("div", { class: "bar" + (span.state === "held" ? " held" : "") + (span.is_error ? " error" : "") });
      const left = at(from), right = span.end ? at(span.end) : left;
      bar.style.left = "min(" + left + "%, calc(100% - 3px))";
      bar.style.width = Math.max(0, right - left) + "%";
      node.append(bar);
    }
    for (const event of span.events) if (event.time) {
      const tick = el("div", { class: "tick", title: event.name });
      tick.style.left = at(event.time) + "%";
      node.append(tick);
    }
    return node;
  };
  const spanRow = (trace, span, depth, range, marks, service) => {
    const from = span.start || span.end;
    const length = span.start && span.end ? between(BigInt(span.start), BigInt(span.end)) : span.start ? "no end" : "no start";
    const who = el("span", { class: "who" },
      span.is_error && el("span", { class: "wrong", title: "The status of the span is an error." }, "!"),
      el("span", { class: "label", title: span.name }, span.name || "(no name)"),
      service !== null && el("span", { class: "service" }, service || "no service name"));
    who.style.paddingLeft = Math.min(depth, 8) * .75 + "rem";
    const row = el("details", { "data-span": span.span }, el("summary", null, who, range ? track(span, range, marks) : el("span"), el("span", { class: "took" }, length)));
    row.open = trace.open.has(span.span);
    row.addEventListener("toggle", () => { if (row.open) trace.open.add(span.span); else trace.open.delete(span.span); });
    row.append(el("div", { class: "inside" },
      el("div", { class: "tags" }, tag(span.state, moods[span.state]), span.kind && tag(span.kind), span.is_error && tag("error", "bad"), el("span", { class: "mono" }, span.span), copyButton("the span id", span.span), span.parent && !trace.spans.has(span.parent) && el("span", { class: "soft" }, "parent " + span.parent + " has not been seen")),
      range && span.start && el("span", { class: "soft" }, "starts " + offset(range.first, BigInt(span.start)) + " into the trace" + (span.service ? ", in " + span.service : "")),
      attributeList(span.attributes),
      span.events.length ? el("ul", { class: "events" }, span.events.map(e => el("li", null, e.name, e.time && from ? el("span", { class: "soft" }, " " + offset(BigInt(from), BigInt(e.time))) : "", attributeList(e.attributes)))) : null,
      span.more_events ? el("span", { class: "soft" }, "and " + count(span.more_events, "more event")) : null));
    return row;
  };
  /* Link to the trace elsewhere. The template is configured, and the id is checked: a link is followed. */
  const elsewhere = id => {
    if (!settings.trace_link || !/^[0-9a-f]{32}$/.test(id)) return null;
    let url;
    try { url = new URL(settings.trace_link.replaceAll("{trace_id}", id)); } catch { return null; }
    if (url.protocol !== "http:" && url.protocol !== "https:") return null;
    return el("a", { href: url.href, target: "_blank", rel: "noopener noreferrer", title: url.href }, "Open in " + url.host);
  };
  const drawTrace = trace => {
    const spans = [...trace.spans.values()], range = rangeOf(spans), marks = range && range.length > 0n ? marksOf(range) : [];
    const services = [...new Set(spans.map(s => s.service).filter(Boolean))];
    const events = spans.reduce((n, s) => n + s.events.length + s.more_events, 0), errors = spans.filter(s => s.is_error).length;
    const facts = [count(spans.length, "span") + (events ? ", " + count(events, "event") : "") + (errors ? ", " + count(errors, "error") : "")];
    if (services.length) facts.unshift(services.slice(0, 4).join(", ") + (services.length > 4 ? " and " + count(services.length - 4, "more service") : ""));
    if (range) facts.push(human(range.length));
    const head = el("div", { class: "head" }, traceLink(trace.id), copyButton("the trace id", trace.id), elsewhere(trace.id));
    const about = el("div", { class: "facts" }, spans.length ? facts.join(" · ") : "no spans seen yet");
    if (range) {
      const ms = Number(range.first / MS);
      about.append(" · ", el("time", { datetime: iso(ms), title: iso(ms) }, date(ms) + " " + millis(ms)));
    }
    let above = services.length > 1 ? null : services[0] || "";
    const rows = ordered(spans).map(([span, depth]) => {
      const service = span.service === above ? null : span.service;
      above = span.service;
      return spanRow(trace, span, depth, range, marks, service);
    });
    trace.node.replaceChildren(head, about, el("div", { class: "rows" }, marks.length ? ruler(marks) : null, rows));
    trace.changed = false;
  };
