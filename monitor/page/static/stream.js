// One connection to the monitor, which comes back by itself.

const SILENT_MS = 6000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10000;
// A page that nobody sees lets go after a while: it costs the monitor nothing.
const HIDDEN_MS = 15000;

export class Stream {
  constructor(onEvent, onState) {
    this.onEvent = onEvent;
    this.onState = onState;
    this.source = null;
    this.query = "";
    this.wait = FIRST_WAIT_MS;
    this.heard = performance.now();
    this.lost = null;
    this.timer = 0;
    setInterval(() => this.check(), 1000);
    document.addEventListener("visibilitychange", () => {
      clearTimeout(this.hidden);
      if (document.hidden) this.hidden = setTimeout(() => this.close(), HIDDEN_MS);
      else if (!this.source) this.open(this.query);
    });
  }

  open(query) {
    this.close();
    this.query = query;
    const source = new EventSource(`events?${query}`);
    this.source = source;
    this.heard = performance.now();
    for (const name of ["status", "everyone", "wearer", "drift"]) {
      source.addEventListener(name, (event) => {
        if (source !== this.source) return;
        this.heard = performance.now();
        this.wait = FIRST_WAIT_MS;
        if (this.lost !== null) {
          this.lost = null;
          this.onState(null);
        }
        this.onEvent(name, JSON.parse(event.data));
      });
    }
    source.addEventListener("error", () => {
      if (source === this.source) this.again();
    });
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  again() {
    this.lost ??= performance.now();
    this.close();
    this.timer = setTimeout(() => this.open(this.query), this.wait);
    this.wait = Math.min(this.wait * 2, LONGEST_WAIT_MS);
    this.check();
  }

  check() {
    if (this.source && this.lost === null && performance.now() - this.heard > SILENT_MS) this.again();
    else if (this.source && this.lost !== null && performance.now() - this.heard > SILENT_MS) this.again();
    if (this.lost !== null) this.onState((performance.now() - this.lost) / 1000);
  }
}
