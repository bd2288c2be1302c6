//! The two calls of glibc's allocator that no safe wrapper among our dependencies offers: `mallopt` and `malloc_trim` (man 3).

/// Blocks from this size on are mapped by themselves, and free memory at the heap's end from this size on is given back.
#[cfg(target_env = "gnu")]
const LARGE_BYTES: i32 = 64 << 10;

#[cfg(target_env = "gnu")]
pub(super) fn hold_little() {
    for (parameter, value) in [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, LARGE_BYTES), (libc::M_TRIM_THRESHOLD, LARGE_BYTES)] {
        #[expect(unsafe_code, reason = "mallopt takes two integers and may be called at any time; what it does not know it ignores")]
        unsafe {
            libc::mallopt(parameter, value);
        }
    }
}

#[cfg(target_env = "gnu")]
pub(super) fn give_back() {
    #[expect(unsafe_code, reason = "malloc_trim takes an integer, touches only free memory and may be called by any thread")]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(target_env = "gnu"))]
pub(super) fn hold_little() {}

#[cfg(not(target_env = "gnu"))]
pub(super) fn give_back() {}
