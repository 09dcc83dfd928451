/**
 * A windowed list: of thousands of entries, only those near the view have elements.
 *
 * A block of entries outside the view is emptied and keeps its measured height. A block that was never
 * in view has an estimated height. New entries do not move a view that is scrolled back. When a height
 * above changes, the browser's scroll anchoring keeps the position.
 */

/** Entries per block: a screen or two, so that three or four blocks are filled at a time. */
const BLOCK_ENTRIES = 40;
/** The height of an entry in pixels until one is measured. */
const ENTRY_PX = 72;
/** The distance from the end that still counts as the end. */
const END_PX = 32;

/** @template T */
export class Timeline {
  #scroller;
  #render;
  #onPinned;
  #near;
  /** @type {{ element: HTMLElement, entries: T[], filled: boolean }[]} */ #blocks = [];
  #blockOf = new WeakMap();
  /** @type {T[]} */ #pending = [];
  #pinned = true;
  #entryPx = ENTRY_PX;
  #frame = 0;

  /**
   * @param {HTMLElement} scroller
   * @param {(entry: T, before: T | undefined) => Node} render
   * @param {() => void} onPinned called when the view reaches or leaves the end
   */
  constructor(scroller, render, onPinned) {
    this.#scroller = scroller;
    this.#render = render;
    this.#onPinned = onPinned;
    this.#near = new IntersectionObserver((changes) => this.#turn(changes), {
      root: scroller,
      rootMargin: '100% 0px',
    });
    scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    // An entry that is opened at the end grows below the view, without a scroll event.
    for (const type of ['click', 'toggle']) {
      scroller.addEventListener(type, () => requestAnimationFrame(() => this.#scrolled()), true);
    }
    new ResizeObserver(() => this.#pinned && this.toEnd()).observe(scroller);
  }

  /** Whether the view follows the end of the list. */
  get pinned() {
    return this.#pinned;
  }

  /**
   * Adds entries at the end, with the next frame.
   * @param {T[]} entries
   */
  append(entries) {
    this.#pending = this.#pending.concat(entries);
    this.#frame ||= requestAnimationFrame(() => this.#flush());
  }

  /**
   * Replaces all entries, and shows the end of the list.
   * @param {T[]} entries
   */
  replace(entries) {
    this.#near.disconnect();
    this.#scroller.replaceChildren();
    this.#blocks = [];
    this.#pending = entries;
    this.#pin(true);
    this.#flush();
  }

  /**
   * Removes the oldest entries, by whole blocks.
   * @param {Set<T>} gone
   */
  drop(gone) {
    this.#pending = this.#pending.filter((entry) => !gone.has(entry));
    while (this.#blocks.length > 1 && gone.has(/** @type {T} */ (this.#blocks[0].entries.at(-1)))) {
      const { element } = this.#blocks[0];
      this.#blocks.shift();
      this.#near.unobserve(element);
      element.remove();
    }
  }

  toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#pin(true);
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    this.#pin(scrollHeight - scrollTop - clientHeight <= END_PX);
  }

  #pin(pinned) {
    if (pinned === this.#pinned) return;
    this.#pinned = pinned;
    this.#onPinned();
  }

  #flush() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const entries = this.#pending;
    this.#pending = [];
    // At the end these will be in view; elsewhere the observer fills blocks near the view.
    const fillFrom = this.#pinned ? entries.length - 2 * BLOCK_ENTRIES : Infinity;
    entries.forEach((entry, i) => this.#place(entry, i >= fillFrom));
    if (this.#pinned) this.toEnd();
  }

  #place(entry, inView) {
    let block = this.#blocks.at(-1);
    if (!block || block.entries.length >= BLOCK_ENTRIES) block = this.#open();
    block.entries.push(entry);
    if (block.filled) block.element.append(this.#render(entry, block.entries.at(-2)));
    else if (inView) this.#fill(block);
    else block.element.style.height = `${block.entries.length * this.#entryPx}px`;
  }

  #open() {
    const element = document.createElement('div');
    element.className = 'block';
    const block = { element, entries: [], filled: false };
    this.#blocks.push(block);
    this.#blockOf.set(element, block);
    this.#scroller.append(element);
    this.#near.observe(element);
    return block;
  }

  #turn(changes) {
    for (const { target, isIntersecting, boundingClientRect } of changes) {
      const block = this.#blockOf.get(target);
      if (!target.isConnected || block.filled === isIntersecting) continue;
      if (isIntersecting) this.#fill(block);
      else this.#empty(block, boundingClientRect.height);
    }
    if (this.#pinned) this.toEnd();
  }

  #fill(block) {
    block.filled = true;
    block.element.style.height = '';
    const nodes = block.entries.map((entry, i) => this.#render(entry, this.#before(block, i)));
    block.element.replaceChildren(...nodes);
  }

  #empty(block, heightPx) {
    // Removing the focused element would lose the focus.
    if (block.element.contains(document.activeElement)) return;
    block.filled = false;
    block.element.replaceChildren();
    block.element.style.height = `${heightPx}px`;
    this.#entryPx = heightPx / block.entries.length;
  }

  #before(block, i) {
    return block.entries[i - 1] ?? this.#blocks[this.#blocks.indexOf(block) - 1]?.entries.at(-1);
  }
}
