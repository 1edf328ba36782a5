//! Where task cells live: pages of equal slots, owned by one loop.
//!
//! A page is an aligned block: its header, then slots of one size. A cell finds its loop by masking its own
//! address, so it spends no word on it; a loop finds its tasks by walking the pages, so they need no list; a
//! freed slot is taken again by the next spawn of its size, so a steady program allocates nothing per task. Pages
//! that became empty are kept until the loop has nothing to do: a burst of tasks again and again costs no pages.
//!
//! Only the loop's own thread takes and gives back slots, until the loop has closed. What is still
//! referenced then (a waker in another thread, a `Task` in a variable) is an *orphan*: each page counts its
//! orphans, whichever thread gives back the last one frees the page.

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    cell::Cell,
    ptr::{self, NonNull},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::cell::{Header, STAGE};
use crate::scheduler::Scheduler;

/// Alignment of every page, and the size of those that hold more than one slot.
const PAGE: usize = 8 * 1024;

/// Left free at the end of a page: what glibc and dlmalloc put before each allocation, so that aligned pages lie back to
/// back. With a few bytes more between two pages they would be too few for a chunk, and every other page would be lost.
const SLACK: usize = 2 * size_of::<usize>();

/// Slot sizes are multiples of this.
const STEP: usize = 8;

/// Slots larger than this get a page of their own.
const LARGEST_SHARED: usize = 1024;

/// Stages of a higher alignment get a page of their own as well.
const SHARED_ALIGN: usize = 16;

/// No cell has a higher alignment: it has to begin within the first `PAGE` bytes of its page.
pub(super) const MAX_ALIGN: usize = PAGE / 2;

const CLASSES: usize = LARGEST_SHARED / STEP + 1;

/// So many empty pages stay with an idle loop, or as many as it uses.
const KEPT: usize = 64;

#[repr(C)]
struct Page {
    scheduler: *const Scheduler,
    /// Slots given back, linked through their first word.
    free: Cell<*mut Slot>,
    /// Slots in use while the loop is open.
    live: Cell<u32>,
    /// Slots ever handed out; the rest of the page is untouched.
    carved: Cell<u32>,
    /// Where the first slot begins.
    first: u32,
    slot_size: u32,
    slots: u32,
    next: Cell<Option<PagePtr>>,
    prev: Cell<Option<PagePtr>>,
    /// Whether the page is in the list of pages with a free slot.
    available: Cell<bool>,
    /// The list of all pages.
    next_of_all: Cell<Option<PagePtr>>,
    prev_of_all: Cell<Option<PagePtr>>,
    size: usize,
    /// Slots in use after the loop has closed.
    orphans: AtomicUsize,
}

#[repr(C)]
struct Slot {
    /// Zero in a free slot; a cell's first word is its vtable pointer, never zero.
    tag: usize,
    next: *mut Slot,
}

/// Where the first slot begins at least.
const HEADER: usize = first_slot(SHARED_ALIGN);

/// Where a slot begins whose stage has this alignment.
const fn first_slot(align: usize) -> usize {
    (size_of::<Page>() + STAGE).next_multiple_of(align) - STAGE
}

/// A page by its address, with provenance for all of it (a `&Page` covers the header only).
#[derive(Clone, Copy, PartialEq)]
struct PagePtr(NonNull<Page>);

impl std::ops::Deref for PagePtr {
    type Target = Page;

    #[inline]
    fn deref(&self) -> &Page {
        // SAFETY: a `PagePtr` is made from a live page and not kept beyond `free_page`.
        unsafe { self.0.as_ref() }
    }
}

impl PagePtr {
    fn slot(self, index: u32) -> NonNull<Slot> {
        let this = self.0.cast::<u8>();
        // SAFETY: `index < slots`, and the page was allocated with room for that many.
        unsafe { this.add(self.first as usize + index as usize * self.slot_size as usize).cast() }
    }

    /// A slot that was never used, with a zeroed header.
    fn blank(self, index: u32) -> NonNull<Header> {
        let slot = self.slot(index).cast::<Header>();
        // SAFETY: a slot has room for the header, and nobody else knows it yet.
        unsafe { slot.write_bytes(0, 1) };
        slot
    }
}

/// The page of a cell.
///
/// # Safety
///
/// `cell` was returned by [`Arena::take`], with provenance for its page, and has not been given back.
#[inline]
unsafe fn page_of(cell: NonNull<Header>) -> PagePtr {
    let page = cell.as_ptr().map_addr(|address| address & !(PAGE - 1)).cast::<Page>();
    // SAFETY: cells start within the first `PAGE` bytes of their aligned page, which lives as long as they do.
    PagePtr(unsafe { NonNull::new_unchecked(page) })
}

/// The loop of a cell.
///
/// # Safety
///
/// As for [`page_of`].
#[inline]
pub(super) unsafe fn scheduler_of<'a>(cell: NonNull<Header>) -> &'a Scheduler {
    // SAFETY: as the caller promises; a page keeps its scheduler alive.
    unsafe { &*page_of(cell).scheduler }
}

/// The pages of one loop.
pub(crate) struct Arena {
    /// Per size class, the pages that have a free slot; the first is the one in use.
    available: [Cell<Option<PagePtr>>; CLASSES],
    /// The last page that was made, from which all are linked, for walking: so a new page is one allocation.
    pages: Cell<Option<PagePtr>>,
    count: Cell<usize>,
    /// Pages without a live slot, all of them in the lists of `available`.
    empty: Cell<usize>,
}

impl Arena {
    pub(crate) fn new() -> Self {
        Self {
            available: [const { Cell::new(None) }; CLASSES],
            pages: Cell::new(None),
            count: Cell::new(0),
            empty: Cell::new(0),
        }
    }

    /// Cells in use.
    #[cfg(all(test, not(all(target_family = "wasm", target_os = "unknown"))))]
    pub(crate) fn live(&self) -> u32 {
        self.all().map(|page| page.live.get()).sum()
    }

    /// Every page; the one that was given out may be freed before the next is asked for.
    fn all(&self) -> impl Iterator<Item = PagePtr> {
        let mut next = self.pages.get();
        std::iter::from_fn(move || {
            let page = next?;
            next = page.next_of_all.get();
            Some(page)
        })
    }

    /// A slot for a header and such a stage; never fails. It holds the header of a cell that has gone, or zeros.
    #[inline(always)]
    pub(super) fn take(&self, scheduler: &Scheduler, stage: Layout) -> NonNull<Header> {
        let size = (STAGE + stage.size()).next_multiple_of(stage.align());
        let class = if stage.align() > SHARED_ALIGN { CLASSES } else { size.div_ceil(STEP) };
        if class < CLASSES {
            if let Some(page) = self.available[class].get() {
                let slot = page.free.get();
                if !slot.is_null() {
                    // SAFETY: a free slot of a live page, linked by `give_back`.
                    page.free.set(unsafe { (*slot).next });
                    self.count_live(page);
                    // SAFETY: not null.
                    return unsafe { NonNull::new_unchecked(slot.cast()) };
                }
            }
        }
        self.take_slow(scheduler, stage, class)
    }

    #[inline]
    fn count_live(&self, page: PagePtr) {
        let live = page.live.get();
        if live == 0 {
            self.empty.set(self.empty.get() - 1);
        }
        page.live.set(live + 1);
    }

    #[cold]
    #[inline(never)]
    fn take_slow(&self, scheduler: &Scheduler, stage: Layout, class: usize) -> NonNull<Header> {
        if class >= CLASSES {
            let (first, size) = (first_slot(stage.align().max(STEP)), STAGE + stage.size());
            let page = self.new_page(scheduler, first, first + size, size, 1);
            self.count_live(page);
            page.carved.set(1);
            return page.blank(0);
        }
        let list = &self.available[class];
        loop {
            let Some(page) = list.get() else {
                let size = class * STEP;
                let slots = (PAGE - SLACK - HEADER) / size;
                let page = self.new_page(scheduler, HEADER, PAGE - SLACK, size, slots as u32);
                Self::link(list, page);
                continue;
            };
            let slot = if let Some(free) = NonNull::new(page.free.get()) {
                // SAFETY: a free slot of a live page.
                page.free.set(unsafe { free.as_ref() }.next);
                free.cast()
            } else if page.carved.get() < page.slots {
                let index = page.carved.get();
                page.carved.set(index + 1);
                page.blank(index)
            } else {
                Self::unlink(list, page);
                continue;
            };
            self.count_live(page);
            return slot;
        }
    }

    fn new_page(
        &self,
        scheduler: &Scheduler,
        first: usize,
        size: usize,
        slot_size: usize,
        slots: u32,
    ) -> PagePtr {
        let layout = Layout::from_size_align(size, PAGE).expect("a future smaller than the address space");
        // SAFETY: the size is not zero.
        let page = unsafe { alloc(layout) }.cast::<Page>();
        if page.is_null() {
            handle_alloc_error(layout);
        }

        // SAFETY: freshly allocated with room for the header.
        unsafe {
            page.write(Page {
                // The page owns one count; `free_page` gives it back.
                scheduler: Arc::into_raw(scheduler.this()),
                free: Cell::new(ptr::null_mut()),
                live: Cell::new(0),
                carved: Cell::new(0),
                first: first as u32,
                slot_size: slot_size as u32,
                slots,
                next: Cell::new(None),
                prev: Cell::new(None),
                available: Cell::new(false),
                next_of_all: Cell::new(None),
                prev_of_all: Cell::new(None),
                size,
                orphans: AtomicUsize::new(0),
            });
        }
        // SAFETY: checked above.
        let page = PagePtr(unsafe { NonNull::new_unchecked(page) });
        let next = self.pages.replace(Some(page));
        page.next_of_all.set(next);
        if let Some(next) = next {
            next.prev_of_all.set(Some(page));
        }
        self.count.set(self.count.get() + 1);
        self.empty.set(self.empty.get() + 1);
        page
    }

    /// Takes back the slot of a cell whose contents have been dropped.
    ///
    /// # Safety
    ///
    /// The cell came from this arena, nothing refers to it, and the loop is open.
    #[inline]
    pub(super) unsafe fn give_back(&self, cell: NonNull<Header>) {
        // SAFETY: the caller passes a cell of ours.
        let page = unsafe { page_of(cell) };
        let slot = cell.as_ptr().cast::<Slot>();
        // SAFETY: nothing refers to the cell; a slot has room for two words.
        unsafe { slot.write(Slot { tag: 0, next: page.free.get() }) };
        page.free.set(slot);
        let live = page.live.get() - 1;
        page.live.set(live);
        if live == 0 {
            self.empty.set(self.empty.get() + 1);
        }
        if !page.available.get() {
            self.settle(page);
        }
    }

    /// A full page got its first free slot.
    #[cold]
    fn settle(&self, page: PagePtr) {
        match self.available.get(page.slot_size as usize / STEP) {
            Some(list) if page.slots > 1 => Self::link(list, page),
            _ => self.release(page),
        }
    }

    /// Frees empty pages beyond those that the next burst may need. For a loop that is about to wait.
    #[inline]
    pub(crate) fn trim(&self) {
        if self.empty.get() > KEPT {
            self.trim_slow();
        }
    }

    #[cold]
    fn trim_slow(&self) {
        let used = self.count.get() - self.empty.get();
        if self.empty.get() <= KEPT.max(used) {
            return;
        }
        for list in &self.available {
            let mut next = list.get();
            while let Some(page) = next {
                if self.empty.get() <= KEPT.max(used) {
                    return;
                }
                next = page.next.get();
                if page.live.get() == 0 {
                    Self::unlink(list, page);
                    self.release(page);
                }
            }
        }
    }

    /// Puts a page behind the first of its class, which stays the one in use.
    fn link(list: &Cell<Option<PagePtr>>, page: PagePtr) {
        match list.get() {
            None => {
                page.next.set(None);
                page.prev.set(None);
                list.set(Some(page));
            }
            Some(first) => {
                let second = first.next.replace(Some(page));
                page.next.set(second);
                page.prev.set(Some(first));
                if let Some(second) = second {
                    second.prev.set(Some(page));
                }
            }
        }
        page.available.set(true);
    }

    fn unlink(list: &Cell<Option<PagePtr>>, page: PagePtr) {
        let (next, prev) = (page.next.get(), page.prev.get());
        match prev {
            Some(prev) => prev.next.set(next),
            None => list.set(next),
        }
        if let Some(next) = next {
            next.prev.set(prev);
        }
        page.available.set(false);
    }

    fn release(&self, page: PagePtr) {
        let (next, prev) = (page.next_of_all.get(), page.prev_of_all.get());
        match prev {
            Some(prev) => prev.next_of_all.set(next),
            None => self.pages.set(next),
        }
        if let Some(next) = next {
            next.prev_of_all.set(prev);
        }
        self.count.set(self.count.get() - 1);
        self.empty.set(self.empty.get() - 1);
        // SAFETY: the page has no live slot and is in no list.
        unsafe { free_page(page) };
    }

    /// Calls `visit` with every cell in use. The callback may not free a cell or take one.
    pub(crate) fn each(&self, mut visit: impl FnMut(NonNull<Header>)) {
        for page in self.all() {
            let mut left = page.live.get();
            for index in 0..page.carved.get() {
                if left == 0 {
                    break;
                }
                let slot = page.slot(index);
                // SAFETY: the slot was handed out once, so its first word is written.
                if unsafe { (*slot.as_ptr()).tag } != 0 {
                    left -= 1;
                    visit(slot.cast());
                }
            }
        }
    }

    /// Hands every page over to the orphans in it; empty pages are freed.
    ///
    /// `settle` is called for each cell in use; it drops the owner's references, may not free the cell, and
    /// says whether somebody still refers to it.
    pub(crate) fn orphan(&self, mut settle: impl FnMut(NonNull<Header>) -> bool) {
        for list in &self.available {
            list.set(None);
        }
        // None that another thread may free is looked at again.
        for page in self.all() {
            // One more, so that no other thread frees the page under our feet.
            page.orphans.store(page.live.get() as usize + 1, Ordering::Release);
            let mut gone = 1;
            for index in 0..page.carved.get() {
                let slot = page.slot(index);
                // SAFETY: handed out once. A cell that another thread frees meanwhile keeps its tag.
                if unsafe { (*slot.as_ptr()).tag } != 0 && !settle(slot.cast()) {
                    gone += 1;
                }
            }
            // SAFETY: those cells are referenced by nobody, and the extra count is ours.
            unsafe { drop_orphans(page, gone) };
        }
        self.pages.set(None);
        self.count.set(0);
        self.empty.set(0);
    }
}

/// Gives back the slot of a cell after its loop has closed. Any thread.
///
/// # Safety
///
/// Nothing refers to the cell, its contents have been dropped, and [`Arena::orphan`] has settled it.
pub(super) unsafe fn give_back_orphan(cell: NonNull<Header>) {
    // SAFETY: as the caller promises.
    unsafe { drop_orphans(page_of(cell), 1) };
}

/// # Safety
///
/// The caller owns `count` of the page's orphans.
unsafe fn drop_orphans(page: PagePtr, count: usize) {
    if page.orphans.fetch_sub(count, Ordering::Release) == count {
        // What the others did with the page has happened before. Not a fence: ThreadSanitizer sees none.
        page.orphans.load(Ordering::Acquire);
        // SAFETY: no slot is in use, and the arena has forgotten the page.
        unsafe { free_page(page) };
    }
}

/// # Safety
///
/// No slot of the page is in use, and nothing else will use the page.
unsafe fn free_page(page: PagePtr) {
    let scheduler = page.scheduler;
    // SAFETY: the caller owns the page, which was allocated with this layout and holds one count of the scheduler.
    unsafe {
        let layout = Layout::from_size_align_unchecked(page.size, PAGE);
        dealloc(page.0.as_ptr().cast(), layout);
        Arc::decrement_strong_count(scheduler);
    }
}
