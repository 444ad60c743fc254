//! The memory of the shipped binary: it only grows, and what is freed is used again.
//!
//! musl's allocator maps pages for a few objects and unmaps them as soon as these
//! are gone. A start makes and drops thousands of strings: with it almost half of
//! capsid's own time went into mmap, munmap and the faults of pages that were
//! there a moment ago. capsid is one short process whose data stays small, so
//! sizes are rounded up to powers of two, each has a list of free blocks, and new
//! blocks are cut from an arena. Nothing is given back before the process ends.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

/// The smallest block; a free one holds the address of the next.
const SMALLEST: usize = 16;
/// Larger than this, and the C library maps it.
const LARGEST: usize = 1 << 15;
const CLASSES: usize = LARGEST.ilog2() as usize - SMALLEST.ilog2() as usize + 1;
/// How much is asked of the C library at a time: a start fits into one piece.
const PIECE: usize = 1 << 18;

/// Blocks of a few sizes.
pub(crate) struct Heap {
    locked: AtomicBool,
    blocks: UnsafeCell<Blocks>,
}

struct Blocks {
    free: [*mut u8; CLASSES],
    /// The rest of the newest piece.
    next: *mut u8,
    left: usize,
}

// SAFETY: the blocks are reached through `Heap::with` alone, which lets one thread in at a time.
unsafe impl Sync for Heap {}

/// Which size of block is for this; `None` is what the C library does.
fn class_of(layout: Layout) -> Option<usize> {
    let fits = layout.align() <= SMALLEST && layout.size() <= LARGEST;
    let size = layout.size().max(SMALLEST).next_power_of_two();
    fits.then(|| size.ilog2() as usize - SMALLEST.ilog2() as usize)
}

impl Heap {
    pub(crate) const fn new() -> Self {
        Self {
            locked: AtomicBool::new(false),
            blocks: UnsafeCell::new(Blocks {
                free: [null_mut(); CLASSES],
                next: null_mut(),
                left: 0,
            }),
        }
    }

    /// One thread at a time. The runtime has one; a library that starts another is not forbidden to.
    fn with<T>(&self, act: impl FnOnce(&mut Blocks) -> T) -> T {
        while self.locked.swap(true, Ordering::Acquire) {
            std::hint::spin_loop();
        }
        // SAFETY: whoever set the flag is alone until it is cleared below, and `act`
        // neither panics nor allocates from this heap.
        let result = act(unsafe { &mut *self.blocks.get() });
        self.locked.store(false, Ordering::Release);
        result
    }
}

impl Blocks {
    fn take(&mut self, class: usize) -> *mut u8 {
        let block = self.free[class];
        if block.is_null() {
            return self.cut(SMALLEST << class);
        }
        // SAFETY: a block in the list was written to by `put`, is at least as large as an
        // address and aligned to 16, and belongs to nobody else.
        self.free[class] = unsafe { block.cast::<*mut u8>().read() };
        block
    }

    fn put(&mut self, block: *mut u8, class: usize) {
        // SAFETY: the block came from `take` with the same class, and its owner gave it up.
        unsafe { block.cast::<*mut u8>().write(self.free[class]) };
        self.free[class] = block;
    }

    /// From the newest piece, or a new one; what is left of the old one is lost.
    fn cut(&mut self, size: usize) -> *mut u8 {
        if size > self.left {
            let Ok(layout) = Layout::from_size_align(PIECE, SMALLEST) else {
                return null_mut();
            };
            // SAFETY: the size is not zero.
            let piece = unsafe { System.alloc(layout) };
            if piece.is_null() {
                return piece;
            }
            (self.next, self.left) = (piece, PIECE);
        }
        let block = self.next;
        // SAFETY: at least `size` bytes of the piece are left behind this address.
        self.next = unsafe { block.add(size) };
        self.left -= size;
        block
    }
}

// SAFETY: a block is at least as large as was asked for, aligned to 16 as pieces and all
// sizes are, and in the hands of one owner: it leaves the list or the piece when it is given
// out, and comes back by `dealloc`, whose layout, and so whose class, is that of `alloc`.
// What has no class goes to the C library both times.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class_of(layout) {
            Some(class) => self.with(|blocks| blocks.take(class)),
            // SAFETY: the caller's contract is the system allocator's.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        match class_of(layout) {
            Some(class) => self.with(|blocks| blocks.put(pointer, class)),
            // SAFETY: the caller's contract is the system allocator's, where it came from.
            None => unsafe { System.dealloc(pointer, layout) },
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Ok(new) = Layout::from_size_align(size, layout.align()) else {
            return null_mut();
        };
        match (class_of(layout), class_of(new)) {
            (Some(old), Some(new)) if old == new => pointer,
            // SAFETY: the caller's contract is the system allocator's, where it came from.
            (None, None) => unsafe { System.realloc(pointer, layout, size) },
            _ => {
                // SAFETY: the caller gives a size that is not zero.
                let block = unsafe { self.alloc(new) };
                if !block.is_null() {
                    let length = layout.size().min(size);
                    // SAFETY: both are live, of at least this length, and not the same.
                    unsafe { block.copy_from_nonoverlapping(pointer, length) };
                    // SAFETY: the caller gives the old one up.
                    unsafe { self.dealloc(pointer, layout) };
                }
                block
            }
        }
    }
}

/// Debug builds have the guard instead; other C libraries keep what they mapped.
#[cfg(all(target_env = "musl", not(debug_assertions)))]
#[global_allocator]
static HEAP: Heap = Heap::new();

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn sizes_have_classes() {
        let of = |size| class_of(layout(size, 8));
        assert_eq!(
            [of(1), of(16), of(17), of(32), of(33)],
            [Some(0), Some(0), Some(1), Some(1), Some(2)]
        );
        assert_eq!(of(LARGEST), Some(CLASSES - 1));
        assert_eq!(of(LARGEST + 1), None);
        assert_eq!(class_of(layout(8, 32)), None);
    }

    /// Many blocks of all sizes, each filled with its own byte, given back out of order.
    #[test]
    fn nobody_shares_a_block() {
        let heap = Heap::new();
        let mut live: Vec<(*mut u8, Layout, u8)> = Vec::new();
        let mut seed = 1u32;
        let check = |(block, layout, byte): (*mut u8, Layout, u8)| {
            // SAFETY: the block is live and of this size.
            let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
            assert!(bytes.iter().all(|one| *one == byte));
            // SAFETY: it came from this heap with this layout, and is forgotten now.
            unsafe { heap.dealloc(block, layout) };
        };
        for round in 0..20_000u32 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let size = 1 + (seed >> 8) as usize % if round % 50 == 0 { 70_000 } else { 300 };
            let layout = layout(size, 1 << (seed % 7));
            let byte = round.to_le_bytes()[0];
            // SAFETY: the size is not zero.
            let block = unsafe { heap.alloc(layout) };
            assert!(!block.is_null() && (block as usize).is_multiple_of(layout.align()));
            // SAFETY: the block is live and of this size.
            unsafe { block.write_bytes(byte, size) };
            live.push((block, layout, byte));
            if live.len() > 100 {
                let index = seed as usize % live.len();
                check(live.swap_remove(index));
            }
        }
        live.into_iter().for_each(check);
    }

    #[test]
    fn what_grows_and_shrinks_keeps_its_content() {
        let heap = Heap::new();
        let mut now = layout(8, 8);
        // SAFETY: the size is not zero.
        let mut block = unsafe { heap.alloc(now) };
        // SAFETY: the block is live and of this size.
        unsafe { block.write_bytes(7, 8) };
        for size in [16, 17, 4000, 32_768, 32_769, 200_000, 100, 9] {
            // SAFETY: the block is live, came with this layout, and the new size is not zero.
            block = unsafe { heap.realloc(block, now, size) };
            now = layout(size, 8);
            // SAFETY: the first eight bytes are live and were written.
            let bytes = unsafe { std::slice::from_raw_parts(block, 8) };
            assert_eq!(bytes, [7; 8], "{size}");
        }
        // SAFETY: it came from this heap with this layout.
        unsafe { heap.dealloc(block, now) };
    }

    #[test]
    fn freed_blocks_are_used_again() {
        let heap = Heap::new();
        // SAFETY: the size is not zero.
        let first = unsafe { heap.alloc(layout(100, 8)) };
        // SAFETY: it came from this heap with this layout.
        unsafe { heap.dealloc(first, layout(100, 8)) };
        // SAFETY: the size is not zero.
        let second = unsafe { heap.alloc(layout(128, 8)) };
        assert_eq!(first, second);
    }
}
