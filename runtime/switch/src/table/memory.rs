//! What processor and system are told of the memory behind large tables, so that it is waited for less: a miss
//! costs 155 ns in 64 MB of huge pages and 239 in small ones, on the machine of the benches. None of it
//! changes a byte.
#![allow(
    unsafe_code,
    reason = "there is no safe way to say what kind of pages an allocation shall have, nor to prefetch"
)]

use rustix::mm::{Advice, madvise};

/// A huge page of x86-64 and arm64 in bytes.
const HUGE: usize = 2 << 20;

/// Asks for huge pages behind an array of which nothing much has been used yet. A system without them
/// refuses, which costs nothing but speed.
pub(super) fn prefer_huge<T>(array: &mut [T]) {
    let range = array.as_mut_ptr_range();
    let first = range.start.cast::<u8>();
    let skip = first.align_offset(HUGE);
    let bytes = size_of_val(array);
    let Some(whole) = bytes.checked_sub(skip).map(|left| left / HUGE * HUGE) else {
        return;
    };
    if whole == 0 {
        return;
    }
    // SAFETY: the range lies within the array, which is borrowed for as long as this takes; the advice is
    // about the pages behind it and changes no byte of it.
    let _ = unsafe { madvise(first.add(skip).cast(), whole, Advice::LinuxHugepage) };
}

/// Has the cache line of `place` fetched while other work is done; does nothing where the compiler knows no
/// instruction for it.
#[inline(always)]
pub(crate) fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the instruction reads nothing into any register and cannot fault; the address is a
        // reference's besides.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
