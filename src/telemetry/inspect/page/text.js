  /* Text and elements. */
  const ui = id => document.getElementById(id);
  /* All content is added here, as text nodes. */
  const el = (tag, attributes, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === undefined || value === null || value === false) continue;
      if (name === "class") node.className = value; else node.setAttribute(name, value);
    }
    for (const child of children.flat(Infinity)) if (child instanceof Node || typeof child === "string" && child !== "") node.append(child);
    return node;
  };
  const tag = (word, mood) => el("span", { class: "tag " + (mood || ""), title: hints[word] }, word);
  const count = (n, word) => n + " " + word + (n === 1 ? "" : "s");
  const number = n => n >= 100 ? Math.round(n).toLocaleString("en") : n >= 10 ? n.toFixed(0) : n === 0 ? "0" : n.toFixed(1);
  const bytes = n => n < 1024 ? n + " B" : n < 1048576 ? (n / 1024).toFixed(1) + " KiB" : n < 1073741824 ? (n / 1048576).toFixed(1) + " MiB" : (n / 1073741824).toFixed(2) + " GiB";
  const padded = (n, width) => String(n).padStart(width, "0");
  const clock = ms => { const d = new Date(ms); return padded(d.getHours(), 2) + ":" + padded(d.getMinutes(), 2) + ":" + padded(d.getSeconds(), 2); };
  const millis = ms => clock(ms) + "." + padded(new Date(ms).getMilliseconds(), 3);
  const date = ms => { const d = new Date(ms); return d.getFullYear() + "-" + padded(d.getMonth() + 1, 2) + "-" + padded(d.getDate(), 2); };
  const iso = ms => Math.abs(ms) < 8.64e15 ? new Date(ms).toISOString() : "";

  /* Durations as in `spanrelay demo`: three digits, rounded down. Nanoseconds need a BigInt. */
  const US = 1000n, MS = 1000n * US, S = 1000n * MS, MIN = 60n * S, H = 60n * MIN, DAY = 24n * H;
  const human = ns => {
    const decimal = (unit, name) => { const whole = ns / unit, tenth = ns % unit / (unit / 10n); return whole >= 100n || tenth === 0n ? whole + " " + name : whole + "." + tenth + " " + name; };
    const pair = (large, largeName, small, smallName) => ns / large + largeName + " " + ns % large / small + smallName;
    return ns === 0n ? "0 s" : ns < US ? ns + " ns" : ns < MS ? decimal(US, "us") : ns < S ? decimal(MS, "ms") : ns < MIN ? decimal(S, "s") : ns < H ? pair(MIN, "m", S, "s") : ns < DAY ? pair(H, "h", MIN, "m") : pair(DAY, "d", H, "h");
  };
  const between = (from, to) => to < from ? "-" + human(from - to) : human(to - from);
  const offset = (from, to) => to < from ? between(from, to) : "+" + between(from, to);
  const humanMs = ms => human(BigInt(Math.max(0, Math.round(ms))) * MS);
  /* Ages change every second; their tenths do not matter. */
  const age = ms => humanMs(ms - ms % 1000);

  const hints = { "not followed": "Outcome unknown: traffic too fast for this view, or dropped by the processor." };
  const words = { declined: "rejected early", refused: "refused, queue full" };
  const moods = { accepted: "good", delivered: "good", sent: "good", repaired: "warn", partial: "warn", retrying: "warn", throttled: "warn", retryable: "warn", refused: "bad", rejected: "bad", unauthorized: "bad", declined: "bad", permanent: "bad", blocked: "bad", ignored: "warn" };
  const advice = text => text && el("p", { class: "advice" }, text);

  /* Copies text. Browsers offer the clipboard only to pages of this machine and of HTTPS. */
  const toClipboard = async text => {
    if (navigator.clipboard && isSecureContext) return navigator.clipboard.writeText(text);
    const area = el("textarea", { "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    if (!copied) throw new Error("not copied");
  };
  const copyButton = (what, text) => {
    const button = el("button", { type: "button", class: "copy", "aria-label": "Copy " + what, title: "Copy " + what }, "Copy");
    button.addEventListener("click", async event => {
      event.preventDefault();
      try { await toClipboard(text); button.textContent = "Copied"; } catch { button.textContent = "Not copied"; }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    return button;
  };
