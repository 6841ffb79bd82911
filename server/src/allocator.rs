//! The allocator's two settings of ours, and the call that makes one of them good. Freed memory goes
//! back to the system after some seconds, not at once: batches are made and freed all the time, and
//! when their pages go back in between, the kernel clears them again at the next use, which was a
//! third of the CPU time of windows and COPY. And memory may come in pages of 2 MiB: hash tables and
//! columns are large and read at random, which took a sixth more CPU time from pages of 4 KiB.

use libmimalloc_sys::{mi_collect, mi_option_large_os_pages, mi_option_set_default, mi_option_t};

/// `mi_option_purge_delay` of mimalloc's `mimalloc.h`; the binding does not name it.
const PURGE_DELAY: mi_option_t = 15;

/// How long freed pages are kept, milliseconds; the default is 1000.
const PURGE_DELAY_MILLIS: std::ffi::c_long = 10_000;

/// Sets them, unless `MIMALLOC_PURGE_DELAY` or `MIMALLOC_ALLOW_LARGE_OS_PAGES` in the environment
/// do. Call it before threads start.
#[expect(unsafe_code, reason = "options of the allocator are set through a C function")]
pub fn configure() {
    // SAFETY: the function only stores a number; it is not thread safe, and no thread runs yet.
    unsafe {
        mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MILLIS);
        // Asked for, where the system has them.
        mi_option_set_default(mi_option_large_os_pages, 1);
    }
}

/// Gives pages back that have been free for that long. The allocator itself only looks when memory
/// is asked for or freed; an idle server does neither.
#[expect(unsafe_code, reason = "a C function of the allocator")]
pub fn give_back() {
    // SAFETY: takes no pointers, and may be called from any thread.
    unsafe { mi_collect(false) };
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "options of the allocator are read through a C function")]
    fn option_fifteen_is_the_purge_delay_and_both_are_set() {
        // SAFETY: reads a number.
        let read = |option| unsafe { mi_option_get(option) };
        let before = read(PURGE_DELAY);
        configure();
        let (after, large_pages) = (read(PURGE_DELAY), read(mi_option_large_os_pages));
        // 1000 is this option's default and no other's: the number still means what it says.
        assert!([1000, PURGE_DELAY_MILLIS].contains(&before), "{before}");
        assert_eq!((after, large_pages), (PURGE_DELAY_MILLIS, 1));
    }
}
