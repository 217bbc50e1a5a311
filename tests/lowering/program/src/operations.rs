//! The operations to compare. The program for the chain and the test on the host both compile this file.

/// Bytes of an encoded result.
pub const BYTES: usize = 17;

/// What an operation gave: a value, and whether it overflowed (or was refused, for checked ones).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The value, sign-extended where it was signed; 0 if the operation is not defined for the operands.
    pub value: u128,
    /// Whether it overflowed, or was not defined.
    pub flag: bool,
}

impl Outcome {
    /// Little-endian value, then the flag.
    #[must_use]
    pub fn bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..16].copy_from_slice(&self.value.to_le_bytes());
        bytes[16] = u8::from(self.flag);
        bytes
    }
}

/// Results that operations give.
trait Encode {
    fn encode(self) -> Outcome;
}

macro_rules! encode_integers {
    ($($ty:ty),*) => {$(
        impl Encode for $ty {
            #[allow(clippy::unnecessary_cast)]
            fn encode(self) -> Outcome {
                Outcome { value: self as i128 as u128, flag: false }
            }
        }
    )*};
}
encode_integers!(u8, i8, u16, i16, u32, i32, u64, i64, u128, i128);

impl Encode for bool {
    fn encode(self) -> Outcome {
        Outcome { value: 0, flag: self }
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(self) -> Outcome {
        self.map_or(Outcome { value: 0, flag: true }, Encode::encode)
    }
}

impl<T: Encode> Encode for (T, bool) {
    fn encode(self) -> Outcome {
        Outcome { flag: self.1, ..self.0.encode() }
    }
}

/// An operation on two operands, of which narrower ones take the low bits.
pub type Operation = fn(u128, u128) -> Outcome;

macro_rules! operations {
    ($($name:literal: $ty:ty, $a:ident, $b:ident => $result:expr;)*) => {
        /// Every operation, by number, with its name.
        pub static OPERATIONS: &[(&str, Operation)] = &[$(($name, {
            #[allow(clippy::unnecessary_cast, trivial_numeric_casts)]
            fn operation(a: u128, b: u128) -> Outcome {
                let ($a, $b) = (a as $ty, b as $ty);
                ($result).encode()
            }
            operation
        })),*];
    };
}

operations! {
    "u64 add": u64, a, b => a.overflowing_add(b);
    "u64 sub": u64, a, b => a.overflowing_sub(b);
    "u64 mul": u64, a, b => a.wrapping_mul(b);
    "u64 overflowing mul": u64, a, b => a.overflowing_mul(b);
    "u64 checked mul": u64, a, b => a.checked_mul(b);
    "u64 saturating mul": u64, a, b => a.saturating_mul(b);
    "u64 widening mul": u64, a, b => u128::from(a) * u128::from(b);
    "u64 div": u64, a, b => a.checked_div(b);
    "u64 rem": u64, a, b => a.checked_rem(b);
    "u64 shl": u64, a, b => a.wrapping_shl(b as u32);
    "u64 shr": u64, a, b => a.wrapping_shr(b as u32);
    "u64 rotate": u64, a, b => a.rotate_left(b as u32);
    "u64 leading zeros": u64, a, b => a.leading_zeros() + b.trailing_zeros();
    "u64 ones": u64, a, b => a.count_ones() ^ b.swap_bytes().reverse_bits().count_zeros();
    "u64 less": u64, a, b => a < b;
    "u64 checked pow": u64, a, b => a.checked_pow(b as u32 % 9);
    "i64 add": i64, a, b => a.overflowing_add(b);
    "i64 sub": i64, a, b => a.overflowing_sub(b);
    "i64 overflowing mul": i64, a, b => a.overflowing_mul(b);
    "i64 checked mul": i64, a, b => a.checked_mul(b);
    "i64 saturating mul": i64, a, b => a.saturating_mul(b);
    "i64 widening mul": i64, a, b => i128::from(a) * i128::from(b);
    "i64 div": i64, a, b => a.checked_div(b);
    "i64 rem": i64, a, b => a.checked_rem(b);
    "i64 euclid": i64, a, b => a.checked_rem_euclid(b);
    "i64 div by 10": i64, a, b => (a / 10) ^ (b % 7);
    "i64 shr": i64, a, b => a.wrapping_shr(b as u32);
    "i64 less": i64, a, b => a < b;
    "i64 abs": i64, a, b => a.checked_abs().map(|a| a ^ b);
    "u32 overflowing mul": u32, a, b => a.overflowing_mul(b);
    "i32 overflowing mul": i32, a, b => a.overflowing_mul(b);
    "i32 div": i32, a, b => a.checked_div(b);
    "i32 rem": i32, a, b => a.checked_rem(b);
    "i16 div": i16, a, b => a.checked_div(b);
    "i8 rem": i8, a, b => a.checked_rem(b);
    "u8 overflowing mul": u8, a, b => a.overflowing_mul(b);
    "i8 overflowing mul": i8, a, b => a.overflowing_mul(b);
    "u128 add": u128, a, b => a.overflowing_add(b);
    "u128 checked add": u128, a, b => a.checked_add(b);
    "u128 sub": u128, a, b => a.overflowing_sub(b);
    "u128 saturating sub": u128, a, b => a.saturating_sub(b);
    "u128 mul": u128, a, b => a.wrapping_mul(b);
    "u128 overflowing mul": u128, a, b => a.overflowing_mul(b);
    "u128 checked mul": u128, a, b => a.checked_mul(b);
    "u128 saturating mul": u128, a, b => a.saturating_mul(b);
    "u128 div": u128, a, b => a.checked_div(b);
    "u128 rem": u128, a, b => a.checked_rem(b);
    "u128 div by word": u128, a, b => a.checked_div(b & u128::from(u64::MAX));
    "u128 div by half word": u128, a, b => a.checked_div(b & u128::from(u32::MAX));
    "u128 div by near": u128, a, b => ((a | 1) / ((a >> 1) | 1)) ^ b;
    "u128 constants": u128, a, b => (a / 10).wrapping_add(b / 1_000_000_007) ^ (a % 1_000_000_000_000_000_000_000);
    "u128 mul div": u128, a, b => (a as u64 as u128 * b as u64 as u128).checked_div(a >> 64);
    "u128 shl": u128, a, b => a.wrapping_shl(b as u32);
    "u128 shr": u128, a, b => a.wrapping_shr(b as u32);
    "u128 checked shl": u128, a, b => a.checked_shl(b as u32);
    "u128 rotate": u128, a, b => a.rotate_right(b as u32);
    "u128 leading zeros": u128, a, b => a.leading_zeros() * 1000 + b.trailing_zeros();
    "u128 ones": u128, a, b => a.count_ones() + b.count_zeros();
    "u128 swap": u128, a, b => a.swap_bytes() ^ b.reverse_bits();
    "u128 less": u128, a, b => a < b;
    "u128 equal": u128, a, b => a == b || a <= b.wrapping_sub(1);
    "u128 max": u128, a, b => a.max(b) - a.min(b);
    "u128 isqrt": u128, a, b => a.isqrt() ^ b;
    "u128 checked pow": u128, a, b => a.checked_pow(b as u32 % 9);
    "i128 add": i128, a, b => a.overflowing_add(b);
    "i128 sub": i128, a, b => a.overflowing_sub(b);
    "i128 mul": i128, a, b => a.wrapping_mul(b);
    "i128 overflowing mul": i128, a, b => a.overflowing_mul(b);
    "i128 checked mul": i128, a, b => a.checked_mul(b);
    "i128 saturating mul": i128, a, b => a.saturating_mul(b);
    "i128 div": i128, a, b => a.checked_div(b);
    "i128 rem": i128, a, b => a.checked_rem(b);
    "i128 euclid": i128, a, b => a.checked_div_euclid(b);
    "i128 div by 10": i128, a, b => (a / 10) ^ (b % -7);
    "i128 shl": i128, a, b => a.wrapping_shl(b as u32);
    "i128 shr": i128, a, b => a.wrapping_shr(b as u32);
    "i128 less": i128, a, b => a < b;
    "i128 abs": i128, a, b => a.checked_abs().map(|a| a ^ b);
    "i128 narrow": i128, a, b => i64::try_from(a.wrapping_shr(b as u32)).ok();
    "many arguments": u64, a, b => eight(a, b, a ^ b, !a, !b, a | b, a & b, a.wrapping_add(b));
    "wide results": u64, a, b => wide(a, b).0 ^ wide(b, a).1;
    "wide many arguments": u128, a, b => six_wide(a, b, a ^ b, a | b, 7, a & b);
    "recursion": u64, a, b => ackermann_like(a, b, a ^ b, a % 9, b % 9, 3, u128::from(b) << 40);
    "through a table": u128, a, b => through_table(a, b);
}

/// More arguments than BPF has registers for.
#[inline(never)]
#[allow(clippy::too_many_arguments)]
fn eight(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, g: u64, h: u64) -> u64 {
    a ^ b.rotate_left(1)
        ^ c.rotate_left(2)
        ^ d.rotate_left(3)
        ^ e.rotate_left(4)
        ^ f.rotate_left(5)
        ^ g.rotate_left(6)
        ^ h.rotate_left(7)
}

/// A result of two registers.
#[inline(never)]
fn wide(a: u64, b: u64) -> (u64, u64) {
    (a.wrapping_mul(3).wrapping_add(b), b.wrapping_mul(5).wrapping_sub(a))
}

/// Arguments and result that are all wide.
#[inline(never)]
fn six_wide(a: u128, b: u128, c: u128, d: u128, e: u8, f: u128) -> u128 {
    a.wrapping_mul(b).wrapping_add(c.rotate_left(u32::from(e))).wrapping_sub(d ^ f)
}

/// Recursion that no inlining can remove, with too many arguments and a wide result.
#[inline(never)]
fn ackermann_like(a: u64, b: u64, c: u64, m: u64, n: u64, depth: u64, sum: u128) -> u128 {
    if m == 0 || depth == 0 {
        return sum.wrapping_mul(u128::from(a)).wrapping_add(u128::from(b ^ c) + u128::from(n));
    }
    let inner = ackermann_like(b, c, a, m - 1, n, depth - 1, sum.wrapping_add(1));
    ackermann_like(c, inner as u64, b, m - 1, n + 1, depth - 1, inner).wrapping_add(inner >> 3)
}

trait Wide {
    fn apply(&self, a: u128, b: u128, c: u64, d: u64) -> u128;
}

struct Add(u64);
struct Multiply;

impl Wide for Add {
    #[inline(never)]
    fn apply(&self, a: u128, b: u128, c: u64, d: u64) -> u128 {
        a.wrapping_add(b).wrapping_add(u128::from(c ^ d ^ self.0))
    }
}

impl Wide for Multiply {
    #[inline(never)]
    fn apply(&self, a: u128, b: u128, c: u64, d: u64) -> u128 {
        a.wrapping_mul(b) ^ u128::from(c.wrapping_sub(d))
    }
}

/// Calls that do not fit the registers, through function pointers.
fn through_table(a: u128, b: u128) -> u128 {
    let add = Add(b as u64);
    let table: [&dyn Wide; 3] = [&add, &Multiply, &Add(3)];
    let mut total = 0_u128;
    for at in 0..table.len() as u64 {
        let chosen = table[((a as u64 ^ at) % 3) as usize];
        total = total.wrapping_mul(31).wrapping_add(chosen.apply(a, b, a as u64, at));
    }
    total
}
