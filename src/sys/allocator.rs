//! The allocator of static builds with musl.

/// musl maps and unmaps memory for nearly every buffer; this one keeps it.
#[cfg(all(target_env = "musl", not(debug_assertions)))]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;
