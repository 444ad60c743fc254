//! The guarding allocator of debug builds: between clone and exec nothing may allocate.
//!
//! Allocating there would be legal while the runtime has one thread, and
//! deadlock on the day a dependency starts a second one: its lock would stay
//! locked in the child for ever. The guard makes the claim checkable: every
//! test runs a debug build, in which an allocation after [`forbid`] aborts.

#[cfg(debug_assertions)]
mod imp {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::sync::atomic::{AtomicBool, Ordering};

    static FORBIDDEN: AtomicBool = AtomicBool::new(false);

    struct Guard;

    fn check() {
        if FORBIDDEN.load(Ordering::Relaxed) {
            const MESSAGE: &[u8] = b"capsid: allocation between clone and exec\n";
            // SAFETY: the message is a live buffer; descriptor 2 may be anything.
            unsafe { libc::write(2, MESSAGE.as_ptr().cast(), MESSAGE.len()) };
            std::process::abort();
        }
    }

    // SAFETY: every method hands its arguments to the system's allocator unchanged.
    unsafe impl GlobalAlloc for Guard {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            check();
            // SAFETY: the caller's contract is the system allocator's.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            check();
            // SAFETY: the caller's contract is the system allocator's.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    #[global_allocator]
    static ALLOCATOR: Guard = Guard;

    pub(super) fn forbid() {
        FORBIDDEN.store(true, Ordering::Relaxed);
    }
}

/// From here on an allocation aborts the process (debug builds only).
pub fn forbid() {
    #[cfg(debug_assertions)]
    imp::forbid();
}
