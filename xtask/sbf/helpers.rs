//! What the lowered program calls for arithmetic that BPF lacks, and the memory functions LLVM expects, over the runtime's
//! system calls. Compiled for the chain by `xtask/src/program/link.rs`, and for this machine by the tests of xtask.
//!
//! Only 64-bit arithmetic here: nothing lowers this file. At most five arguments, at most one register of result.

use core::num::NonZero;

const HALF: u64 = 0xffff_ffff;

/// The upper 64 bits of a 64 by 64 bit product.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn __sbf_umulh(a: u64, b: u64) -> u64 {
    let (a_low, a_high) = (a & HALF, a >> 32);
    let (b_low, b_high) = (b & HALF, b >> 32);
    // None of these sums exceeds 64 bits: (2^32 - 1)^2 + 2 (2^32 - 1) = 2^64 - 1.
    let first = a_high.wrapping_mul(b_low).wrapping_add(a_low.wrapping_mul(b_low) >> 32);
    let second = a_low.wrapping_mul(b_high).wrapping_add(first & HALF);
    a_high.wrapping_mul(b_high).wrapping_add(first >> 32).wrapping_add(second >> 32)
}

/// Unsigned 128-bit division of `a` by `b`: quotient to `out[0..2]`, remainder to `out[2..4]`, low half first.
///
/// # Safety
/// `out` points to four writable words; `b` is not zero (the compiler checks for that before a division).
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn __sbf_udivmod(out: *mut u64, a_low: u64, a_high: u64, b_low: u64, b_high: u64) {
    let result = if b_high == 0 {
        // SAFETY: the upper half is zero, so the lower one is not.
        unsafe { by_one_word(a_low, a_high, b_low) }
    } else {
        by_two_words(a_low, a_high, b_low, b_high)
    };
    for (at, word) in result.into_iter().enumerate() {
        // SAFETY: the caller gave four words.
        unsafe { out.add(at).write(word) };
    }
}

/// # Safety
/// `b` is not zero.
#[inline(always)]
unsafe fn by_one_word(a_low: u64, a_high: u64, b: u64) -> [u64; 4] {
    // SAFETY: the caller's promise.
    let divisor = unsafe { NonZero::new_unchecked(b) };
    if a_high == 0 {
        return [a_low / divisor, 0, a_low % divisor, 0];
    }
    let (high, rest) = (a_high / divisor, a_high % divisor);
    let n = b.leading_zeros();
    let low = long_division(shifted(rest, a_low, n), a_low << n, b << n);
    // The remainder fits one word, so that modular arithmetic gives it.
    [low, high, a_low.wrapping_sub(low.wrapping_mul(b)), 0]
}

#[inline(always)]
fn by_two_words(a_low: u64, a_high: u64, b_low: u64, b_high: u64) -> [u64; 4] {
    let n = b_high.leading_zeros();
    let mut quotient = if n == 0 {
        0
    } else {
        // An estimate from the upper words, at most one too large; made at most one too small instead.
        let estimate = long_division(a_high >> 1, (a_high << 63) | (a_low >> 1), shifted(b_high, b_low, n));
        (estimate >> (63 - n)).saturating_sub(1)
    };
    // quotient * b does not exceed a, so that it fits 128 bits.
    let product_low = quotient.wrapping_mul(b_low);
    let product_high = quotient.wrapping_mul(b_high).wrapping_add(__sbf_umulh(quotient, b_low));
    let (mut low, mut high) = subtract(a_low, a_high, product_low, product_high);
    if high > b_high || (high == b_high && low >= b_low) {
        quotient = quotient.wrapping_add(1);
        (low, high) = subtract(low, high, b_low, b_high);
    }
    [quotient, 0, low, high]
}

/// The upper word of `high:low` shifted left by `n` below 64.
#[inline(always)]
fn shifted(high: u64, low: u64, n: u32) -> u64 {
    (high << n) | ((low >> 1) >> (63 - n))
}

#[inline(always)]
fn subtract(a_low: u64, a_high: u64, b_low: u64, b_high: u64) -> (u64, u64) {
    let borrow = u64::from(a_low < b_low);
    (a_low.wrapping_sub(b_low), a_high.wrapping_sub(b_high).wrapping_sub(borrow))
}

/// Divides `high:low` by a divisor with its top bit set and above `high`: two digits of 32 bits, schoolbook.
#[inline(never)]
fn long_division(high: u64, low: u64, divisor: u64) -> u64 {
    let first = digit(high, low >> 32, divisor);
    let rest = ((high << 32) | (low >> 32)).wrapping_sub(first.wrapping_mul(divisor));
    (first << 32) | digit(rest, low & HALF, divisor)
}

/// One quotient digit of `rest * 2^32 + next` by the divisor; `rest` is below the divisor.
#[inline(always)]
fn digit(rest: u64, next: u64, divisor: u64) -> u64 {
    let (top, bottom) = (divisor >> 32, divisor & HALF);
    // SAFETY: the divisor's top bit is set.
    let mut guess = rest / unsafe { NonZero::new_unchecked(top) };
    let mut spare = rest.wrapping_sub(guess.wrapping_mul(top));
    // At most two corrections. A guess of 2^32 or 2^32 + 1 is always corrected: `rest` below the divisor makes `spare` below
    // `bottom` then; and its product with `bottom` still fits 64 bits.
    while guess.wrapping_mul(bottom) > ((spare << 32) | next) {
        guess = guess.wrapping_sub(1);
        spare = spare.wrapping_add(top);
        if spare > HALF {
            break;
        }
    }
    guess
}

#[cfg(target_os = "solana")]
mod memory {
    unsafe extern "C" {
        fn sol_memcpy_(to: *mut u8, from: *const u8, count: u64);
        fn sol_memmove_(to: *mut u8, from: *const u8, count: u64);
        fn sol_memset_(to: *mut u8, byte: u8, count: u64);
        fn sol_memcmp_(a: *const u8, b: *const u8, count: u64, result: *mut i32);
    }

    #[unsafe(no_mangle)]
    #[inline(never)]
    pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: u64) -> *mut u8 {
        unsafe { sol_memcpy_(to, from, count) };
        to
    }

    #[unsafe(no_mangle)]
    #[inline(never)]
    pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: u64) -> *mut u8 {
        unsafe { sol_memmove_(to, from, count) };
        to
    }

    #[unsafe(no_mangle)]
    #[inline(never)]
    pub unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: u64) -> *mut u8 {
        unsafe { sol_memset_(to, byte as u8, count) };
        to
    }

    #[unsafe(no_mangle)]
    #[inline(never)]
    pub unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, count: u64) -> i32 {
        let mut result = 0;
        unsafe { sol_memcmp_(a, b, count, &mut result) };
        result
    }
}
