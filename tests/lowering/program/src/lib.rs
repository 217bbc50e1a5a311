//! A program that computes one operation after another on two operands and returns the results. Its instruction data:
//! the first operation's number, how many, and the operands `a` and `b` (16 bytes each, little endian). It returns
//! [`operations::BYTES`] bytes for each operation.
#![cfg_attr(target_os = "solana", no_std)]

pub mod operations;

use operations::{BYTES, OPERATIONS};

/// The runtime's limit on return data.
const RETURN_LIMIT: usize = 1024;
/// Bytes of instruction data.
const INPUT: usize = 2 + 2 * 16;

#[cfg(target_os = "solana")]
unsafe extern "C" {
    fn sol_set_return_data(data: *const u8, length: u64);
}

#[cfg(not(target_os = "solana"))]
unsafe fn sol_set_return_data(_: *const u8, _: u64) {}

/// Entry of the program: it takes no accounts.
///
/// # Safety
/// `input` is what the runtime passes: the number of accounts, then the length of the data, then the data.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn entrypoint(input: *const u8) -> u64 {
    // SAFETY: the layout the runtime promises; a program without accounts has its data at 16.
    let data = unsafe {
        if input.cast::<u64>().read() != 0 {
            return 1;
        }
        let length = input.add(8).cast::<u64>().read() as usize;
        core::slice::from_raw_parts(input.add(16), length)
    };
    let Some(([first, count], operands)) = data.split_first_chunk() else {
        return 2;
    };
    if data.len() != INPUT {
        return 2;
    }
    let operand = |at: usize| {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&operands[at..at + 16]);
        u128::from_le_bytes(bytes)
    };
    let (a, b) = (operand(0), operand(16));
    let mut results = [0_u8; RETURN_LIMIT];
    let mut length = 0;
    for (_, operation) in OPERATIONS.iter().skip(usize::from(*first)).take(usize::from(*count)) {
        let Some(place) = results.get_mut(length..length + BYTES) else {
            return 3;
        };
        place.copy_from_slice(&operation(a, b).bytes());
        length += BYTES;
    }
    // SAFETY: the results are that long.
    unsafe { sol_set_return_data(results.as_ptr(), length as u64) };
    0
}

#[cfg(target_os = "solana")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
