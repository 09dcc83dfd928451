/**
 * A windowed list: of thousands of entries only those near the view are elements of the page.
 *
 * Entries are cut into blocks. A block out of view is emptied and keeps its measured height; one that
 * never was in view has an estimated height. Reading back is undisturbed by what arrives at the
 * end: the browser's scroll anchoring holds the place when heights above it turn out different.
 */

/** Entries per block: a few screens, so that three or four blocks are filled at a time. */
const BLOCK_ENTRIES = 40;
/** Height of an entry in pixels before any was measured. */
const ENTRY_PX = 72;
/** So close to the end counts as at the end. */
const END_PX = 32;
/** How far from the view blocks are filled. */
const MARGIN = '100% 0px';

/**
 * @template T
 * @typedef {{ element: HTMLElement, entries: T[], filled: boolean }} Block
 */

/** @template T */
export class Timeline {
  #scroller;
  #render;
  #onPinned;
  /** @type {Block<T>[]} */ #blocks = [];
  /** @type {WeakMap<Element, Block<T>>} */ #blockOf = new WeakMap();
  #near;
  #pinned = true;
  #entryPx = ENTRY_PX;
  /** @type {T[]} */ #pending = [];
  #frame = 0;

  /**
   * @param {HTMLElement} scroller
   * @param {(entry: T, before: T | undefined) => Node} render
   * @param {(pinned: boolean) => void} onPinned told when the view reaches or leaves the end
   */
  constructor(scroller, render, onPinned) {
    this.#scroller = scroller;
    this.#render = render;
    this.#onPinned = onPinned;
    this.#near = new IntersectionObserver((changes) => this.#turn(changes), {
      root: scroller,
      rootMargin: MARGIN,
    });
    scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#pinned && this.toEnd()).observe(scroller);
  }

  /** True if the view is at the end and stays there. */
  get pinned() {
    return this.#pinned;
  }

  /**
   * Adds entries at the end, with the next frame.
   * @param {T[]} entries
   */
  append(entries) {
    for (const entry of entries) this.#pending.push(entry);
    this.#frame ||= requestAnimationFrame(() => this.#flush());
  }

  /**
   * Shows other entries, at their end.
   * @param {T[]} entries
   */
  replace(entries) {
    for (const block of this.#blocks) this.#near.unobserve(block.element);
    this.#scroller.replaceChildren();
    this.#blocks = [];
    this.#pending = entries.slice();
    this.#flush();
    this.toEnd();
  }

  /**
   * Forgets the oldest entries, by whole blocks.
   * @param {Set<T>} gone
   */
  drop(gone) {
    this.#pending = this.#pending.filter((entry) => !gone.has(entry));
    while (this.#blocks.length > 1 && gone.has(/** @type {T} */ (this.#blocks[0].entries.at(-1)))) {
      const [block] = this.#blocks.splice(0, 1);
      this.#near.unobserve(block.element);
      block.element.remove();
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

  /** @param {boolean} pinned */
  #pin(pinned) {
    if (pinned === this.#pinned) return;
    this.#pinned = pinned;
    this.#onPinned(pinned);
  }

  #flush() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const entries = this.#pending;
    this.#pending = [];
    // At the end, the last blocks will be in view; elsewhere the observer fills what comes near.
    const fillFrom = this.#pinned ? entries.length - 2 * BLOCK_ENTRIES : Infinity;
    entries.forEach((entry, i) => this.#place(entry, i >= fillFrom));
    if (this.#pinned) this.toEnd();
  }

  /**
   * @param {T} entry
   * @param {boolean} inView
   */
  #place(entry, inView) {
    let block = this.#blocks.at(-1);
    if (!block || block.entries.length >= BLOCK_ENTRIES) block = this.#open(inView);
    block.entries.push(entry);
    if (block.filled) block.element.append(this.#render(entry, this.#before(block, block.entries.length - 1)));
    else if (inView) this.#fill(block);
    else this.#estimate(block);
  }

  /** @param {boolean} filled */
  #open(filled) {
    const element = document.createElement('div');
    element.className = 'block';
    const block = { element, entries: [], filled };
    this.#blocks.push(block);
    this.#blockOf.set(element, block);
    this.#scroller.append(element);
    this.#near.observe(element);
    return block;
  }

  /** @param {IntersectionObserverEntry[]} changes */
  #turn(changes) {
    for (const { target, isIntersecting, boundingClientRect } of changes) {
      const block = this.#blockOf.get(target);
      if (!block || !target.isConnected || block.filled === isIntersecting) continue;
      if (isIntersecting) this.#fill(block);
      else this.#empty(block, boundingClientRect.height);
    }
    if (this.#pinned) this.toEnd();
  }

  /** @param {Block<T>} block */
  #fill(block) {
    block.filled = true;
    block.element.style.blockSize = '';
    block.element.replaceChildren(
      ...block.entries.map((entry, i) => this.#render(entry, this.#before(block, i))),
    );
  }

  /**
   * @param {Block<T>} block
   * @param {number} heightPx
   */
  #empty(block, heightPx) {
    // The focus must not fall out of the page.
    if (block.element.contains(document.activeElement)) return;
    block.filled = false;
    block.element.style.blockSize = `${heightPx}px`;
    block.element.replaceChildren();
    this.#entryPx = heightPx / block.entries.length;
  }

  /** @param {Block<T>} block */
  #estimate(block) {
    block.element.style.blockSize = `${block.entries.length * this.#entryPx}px`;
  }

  /**
   * @param {Block<T>} block
   * @param {number} i
   */
  #before(block, i) {
    if (i > 0) return block.entries[i - 1];
    return this.#blocks[this.#blocks.indexOf(block) - 1]?.entries.at(-1);
  }
}
